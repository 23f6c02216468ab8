"""Expressions ``${{ … }}`` in a pipeline file: where they stand, what they may name, what they are worth.

The language itself comes from outside as two pure functions (:class:`Language`): the domain knows only the names it
offers. ``steps.<name>`` may have hyphens, which the language has not: it is given ``steps["<name>"]``.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from streams.domain import duration, instant

ROOTS = ("inputs", "steps", "run", "slot")
ITEM_ROOTS = ("item", "index", "result", "event")
STEP_FIELDS = ("outputs", "status")
RUN_FIELDS = ("id", "pipeline", "trigger", "key", "created_at", "full_refresh", "rerun_of", "status", "error")

FUNCTIONS = (
    *(
        "size",
        "has",
        "all",
        "exists",
        "exists_one",
        "map",
        "filter",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
    ),
    *("int", "uint", "double", "string", "bool", "bytes", "timestamp", "duration", "type", "dyn"),
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
    *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
)

EXPRESSION_CHARS_MAX = 1_000
RESULT_CHARS_MAX = 65_536
LOOPS_MAX = 10_000
CHARS_MAX = 1 << 26
"""What an evaluation may hold at most: texts times loops."""

_OPEN, _SHUT = "${{", "}}"
_LITERAL = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")
_STEP = re.compile(r"(?<![\w.])steps\b(?:\.([a-z0-9][a-z0-9-]*))?(?:\.([A-Za-z_]\w*))?")
_RUN = re.compile(r"(?<![\w.])run\b(?:\.([A-Za-z_]\w*))?")
_INPUTS = re.compile(r"(?<![\w.])inputs\b")
_SLOT = re.compile(r"(?<![\w.])slot\b")
_ITEM = re.compile(rf"(?<![\w.])({'|'.join(ITEM_ROOTS)})\b")
_LOOP = re.compile(r"\.(?:all|exists|exists_one|map|filter)\s*\(")


class Mistake(NamedTuple):
    """What is wrong with an expression; ``unknown`` is the name that nobody knows, if that is it."""

    message: str
    unknown: str = ""


class Language(NamedTuple):
    """The expression language, as two pure functions.

    ``check(expression)`` needs no values. ``evaluate(expression, names)`` returns JSON data, times as datetime, lengths
    as timedelta; it raises ValueError with the reason, and ends within a bounded number of steps.
    """

    check: Callable[[str], Mistake | None]
    evaluate: Callable[[str, Mapping[str, Any]], Any]


class Wrong(ValueError):
    """A value that cannot be used, with the place of its expression (``config.path``)."""


# ---------------------------------------------------------------- where expressions stand
def holds(value: object) -> bool:
    """Return whether the value is a text with an expression in it."""
    return isinstance(value, str) and _OPEN in value


@lru_cache(1_024)
def parse(text: str) -> tuple[str, ...]:
    """Return text and expressions by turns, beginning and ending with text (perhaps empty). Raise ValueError if one has no end."""
    parts: list[str] = []
    at = 0
    while (start := text.find(_OPEN, at)) >= 0:
        masked = _masked(text[start + len(_OPEN) :])
        end = _end(masked)
        if end is None:
            raise ValueError(f"the expression {text[start : start + 40]!r} has no end: write ${{{{ … }}}}")
        parts += [text[at:start], text[start + len(_OPEN) :][:end].strip()]
        at = start + len(_OPEN) + end + len(_SHUT)
    return (*parts, text[at:])


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return every text with an expression in it, by its place (``config.paths[0]``)."""
    if isinstance(value, str):
        if _OPEN in value:
            yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, f"{path}[{index}]")


def whole(text: str) -> str | None:
    """Return the expression that is all of the text; None for anything else."""
    parts = parse(text)
    return parts[1] if len(parts) == 3 and not parts[0].strip() and not parts[2].strip() else None


def _masked(text: str) -> str:
    """Return the text with its literals blotted out, every other character in its place."""
    return _LITERAL.sub(lambda found: "_" * len(found[0]), text)


def _end(masked: str) -> int | None:
    depth = 0
    for place, character in enumerate(masked):
        if character == "{":
            depth += 1
        elif character == "}":
            if depth == 0 and masked.startswith(_SHUT, place):
                return place
            depth -= 1
    return None


# ---------------------------------------------------------------- what they may name
class Named(NamedTuple):
    """What an expression names: ``steps.<name>.<field>``, ``run.<field>``, ``inputs``, ``slot``; "" where a name is missing."""

    steps: tuple[tuple[str, str], ...]
    run: tuple[str, ...]
    inputs: bool
    slot: bool = False


@lru_cache(1_024)
def named(expression: str) -> Named:
    """Return the steps and the facts of the run that an expression names."""
    masked = _masked(expression)
    steps = tuple((found[1] or "", found[2] or "") for found in _STEP.finditer(masked))
    run = tuple(found[1] or "" for found in _RUN.finditer(masked))
    return Named(steps, run, _INPUTS.search(masked) is not None, _SLOT.search(masked) is not None)


def items_named(expression: str) -> tuple[str, ...]:
    """Return those of :data:`ITEM_ROOTS` that the expression names, without variables of loops of its own."""
    masked = _masked(expression)
    names = dict.fromkeys(found[1] for found in _ITEM.finditer(masked))
    return tuple(name for name in names if not re.search(rf"\(\s*{name}\s*,", masked))


@lru_cache(1_024)
def _translated(expression: str) -> str:
    """Return the expression as the language has it: ``steps.a-b.outputs`` is ``steps["a-b"].outputs``."""
    parts, at = [], 0
    for found in _STEP.finditer(_masked(expression)):
        if found[1]:
            parts += [expression[at : found.start()], f'steps["{found[1]}"]']
            at = found.end(1)
    return "".join([*parts, expression[at:]])


def check(language: Language, expression: str) -> Mistake | None:
    """Return what is wrong with an expression as such: its syntax, a name that the language does not know."""
    if not expression:
        return Mistake("the expression is empty")
    if len(expression) > EXPRESSION_CHARS_MAX:
        return Mistake(f"the expression has {len(expression)} characters, more than {EXPRESSION_CHARS_MAX}")
    return language.check(_translated(expression))


# ---------------------------------------------------------------- what they are worth
Scope = Callable[[Named], Mapping[str, Any]]
"""Gives the values of :data:`ROOTS` (and, for items, :data:`ITEM_ROOTS`) that an expression needs, by what it names."""


def evaluate(language: Language, expression: str, scope: Scope, chars_max: int = RESULT_CHARS_MAX) -> Any:
    """Return an expression's value as JSON data. Raise ValueError with the reason."""
    try:
        names = scope(named(expression))
        _within_budget(expression, names)
        value = _plain(language.evaluate(_translated(expression), names))
        size = len(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        raise ValueError("a value is nested too deep") from None
    if size > chars_max:
        raise ValueError(f"the value has {size} characters, more than {chars_max}")
    return value


def fill(
    language: Language, kind: str, block: Mapping[str, Any], scope: Scope, as_text: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a step's block with every expression replaced by its value. Raise :class:`Wrong` with the place.

    A text that is one expression becomes its value, of whatever type; in a longer text, and below the keys in
    ``as_text``, values become text.
    """

    def walk(value: Any, path: str, text: bool) -> Any:
        if isinstance(value, str):
            try:
                return _filled(language, value, scope, text)
            except ValueError as error:
                raise Wrong(f"{path}: {error}") from None
        if isinstance(value, Mapping):
            return {key: walk(item, f"{path}.{key}", text) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, f"{path}[{index}]", text) for index, item in enumerate(value)]
        return value

    return {key: walk(item, f"{kind}.{key}", key in as_text) for key, item in block.items()}


def _filled(language: Language, text: str, scope: Scope, as_text: bool) -> Any:
    if _OPEN not in text:
        return text
    expression = whole(text)
    if expression is not None and not as_text:
        value = evaluate(language, expression, scope)
        if any("${" in word for word in _words(value)):
            raise ValueError("the value looks like a reference to a secret: those stand in the file itself")
        return value
    parts = list(parse(text))
    written = sum(part.count("${") for part in parts[::2])
    parts[1::2] = [_text(evaluate(language, expression, scope)) for expression in parts[1::2]]
    filled = "".join(parts)
    # Who starts a run must not be able to read the secrets of the machine where its steps run.
    if filled.count("${") != written:
        raise ValueError("the value looks like a reference to a secret: those stand in the file itself")
    if "\0" in filled:
        raise ValueError("the text has a character 0, which no program can be given")
    return filled


def _text(value: Any) -> str:
    if value is None:
        raise ValueError("the value is null, which is no text")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)


def _plain(value: Any) -> Any:
    """Return the value as JSON has it: times as RFC 3339, lengths as durations are written in the file."""
    match value:
        case datetime():
            return instant.render(round(value.astimezone(UTC).timestamp() * 1000))
        case timedelta():
            length_ms = round(value.total_seconds() * 1000)
            return f"-{duration.render(-length_ms)}" if length_ms < 0 else duration.render(length_ms)
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} is no number that JSON knows")
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case _:
            return value


def _within_budget(expression: str, names: Mapping[str, Any]) -> None:
    """Raise ValueError when the loops of an expression could hold more than memory should: it is never begun."""
    masked = _masked(expression)
    loops = len(_LOOP.findall(masked))
    if not loops:
        return
    widest, longest = _extent(names)
    rounds = min(LOOPS_MAX, widest**loops)
    if rounds * longest * (masked.count("+") + 1) > CHARS_MAX:
        raise ValueError(
            f"{rounds} rounds over texts of up to {longest} characters are too much for one expression"
        )


def _extent(value: Any) -> tuple[int, int]:
    """Return the length of the longest list or map in ``value``, and of the longest text."""
    if isinstance(value, str):
        return 1, len(value)
    if not isinstance(value, Mapping | list):
        return 1, 1
    inner = [_extent(item) for item in (value.values() if isinstance(value, Mapping) else value)]
    widths, lengths = [len(value)], [1]
    for width, length in inner:
        widths.append(width)
        lengths.append(length)
    return max(widths), max(lengths)
