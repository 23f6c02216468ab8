"""What may be wrong with the expressions of a pipeline file: their place, their syntax, the names in them."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from streams.domain.expressions import (
    FUNCTIONS,
    ROOTS,
    RUN_FIELDS,
    STEP_FIELDS,
    Language,
    check,
    items_named,
    named,
    parse,
    texts,
)
from streams.domain.findings import Findings

_PLACE = re.compile(
    r"spec\.(steps|finally)\[(\d+)\]\."
    r"(?:(?:extract|transform|load)\.config\..+|command\.(?:argv\[[1-9]\d*\]|env\..+)|wait\.(?:for|until)|pipeline\.input.*"
    r"|when|switch\.cases\[\d+\]\.when|map\.over|(?P<until>repeat\.until)"
    r"|(?P<block>map|repeat|compensate)\.command\.(?:argv\[[1-9]\d*\]|env\..+)|(?P<each>map)\.load\.config\..+)"
)
_FILTER = re.compile(r"spec\.triggers\[\d+\]\.event\.filter")
_PLACES = "expressions stand in when, config, argv (not the program itself), env, wait.for, wait.until, pipeline.input, map.over, repeat.until and the filter of an event"

_ITEM_NAMES: Mapping[str, tuple[str, ...]] = {"map": ("item", "index"), "repeat": ("index", "result")}
_ITEM_PLACES: Mapping[str, str] = {
    "item": "it stands in the command of a map step, or in its load",
    "index": "it stands in the command of a map or repeat step",
    "result": "it stands in a repeat step: in its command and in until",
    "event": "it stands in the filter of a trigger; the run that an event starts has it as inputs",
}


def expression_problems(found: Findings, document: Mapping[str, Any], language: Language | None) -> None:
    """Report every mistake in the expressions of a file, whatever else is wrong with it."""
    spec = document.get("spec")
    items = {part: _items(spec.get(part)) if isinstance(spec, dict) else [] for part in ("steps", "finally")}
    after: dict[str, Collection[str]] = {}
    for part, steps in items.items():
        # All steps proper have ended when those of finally begin.
        proper = list(after) if part == "finally" else []
        for item in steps:
            if isinstance(name := item.get("name"), str):
                after[name] = [*_names(item.get("after")), *proper]
    for path, text in texts(spec, "spec"):
        place = _PLACE.fullmatch(path)
        if _FILTER.fullmatch(path):
            _filter_problems(found, path, text, language)
            continue
        if place is None:
            found.add(path, "expressions are not evaluated here", _PLACES)
            continue
        name = str(items[place[1]][int(place[2])].get("name"))
        for expression in _expressions(found, path, text):
            block = "repeat" if place["until"] else place["block"] or place["each"]
            offered = _ITEM_NAMES.get(block or "", ())
            undoing = block == "compensate"
            if foreign := next((word for word in items_named(expression) if word not in offered), ""):
                found.add(path, f"there is no {foreign} here", _ITEM_PLACES[foreign])
            elif place["until"] and name in (step for step, _ in named(expression).steps):
                found.add(
                    path, f"step {name} has not ended yet", "write result: what its last turn handed over"
                )
            elif (
                not _name_problems(found, path, expression, name, after, undoing=undoing)
                and language is not None
            ):
                _language_problems(found, path, expression, language)


def _expressions(found: Findings, path: str, text: str) -> Sequence[str]:
    """Return the expressions of a text; none, and why, when it cannot be taken apart."""
    try:
        return parse(text)[1::2]
    except ValueError as error:
        message, _, fix = str(error).partition(": ")
        found.add(path, message, fix)
        return ()


def _filter_problems(found: Findings, path: str, text: str, language: Language | None) -> None:
    """Report what is wrong with an event's filter: it is reckoned before there is a run."""
    for expression in _expressions(found, path, text):
        used = named(expression)
        roots = (("inputs", used.inputs), ("steps", used.steps), ("run", used.run), ("slot", used.slot))
        foreign = [word for word, there in roots if there]
        foreign += [word for word in items_named(expression) if word != "event"]
        if foreign:
            found.add(
                path, f"there is no {foreign[0]} here", "a filter knows the event: event.type, event.data"
            )
        elif language is not None:
            _language_problems(found, path, expression, language, ("event",))


def _name_problems(
    found: Findings,
    path: str,
    expression: str,
    own: str,
    after: Mapping[str, Collection[str]],
    *,
    undoing: bool,
) -> bool:
    count = len(found.problems)
    used = named(expression)
    before = _before(own, after) | ({own} if undoing else set())  # what undoes a step begins after it
    for name, field in used.steps:
        if not name:
            found.add(path, "steps are named one by one", "write steps.<name>.outputs")
        elif name not in after:
            found.unknown(path, f"no step is named {name!r}", name, after)
        elif name not in before:
            found.add(
                path,
                f"step {name} need not have ended when {own} begins",
                f"add {name} to the after list of {own}",
            )
        elif field not in STEP_FIELDS:
            found.unknown(path, f"steps.{name} has no {field!r}", field, STEP_FIELDS)
    for field in used.run:
        if field not in RUN_FIELDS:
            found.unknown(path, f"run has no {field!r}", field, RUN_FIELDS)
    return len(found.problems) > count


def _language_problems(
    found: Findings, path: str, expression: str, language: Language, roots: tuple[str, ...] = ROOTS
) -> None:
    mistake = check(language, expression)
    if mistake is None:
        return
    if mistake.unknown:
        found.unknown(path, f"{mistake.unknown!r} is not known", mistake.unknown, (*roots, *FUNCTIONS))
    else:
        found.add(
            path, f"{expression!r} is no expression: {mistake.message}", "the language is CEL, see cel.dev"
        )


def _before(name: str, after: Mapping[str, Collection[str]]) -> set[str]:
    """Return every step that has ended when ``name`` begins; ends for cycles too."""
    reached: set[str] = set()
    todo = list(after.get(name, ()))
    while todo:
        step = todo.pop()
        if step not in reached:
            reached.add(step)
            todo.extend(after.get(step, ()))
    return reached


def _items(value: object) -> list[dict[str, Any]]:
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
