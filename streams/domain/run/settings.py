"""What the expressions of a step are worth when its turn comes: its settings, its condition, the choice of a switch."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from streams.domain import duration, instant
from streams.domain.definition import StepDefinition, compact
from streams.domain.expressions import Language, Scope, Wrong, evaluate, fill, whole
from streams.domain.kinds import ITEMS_MAX

SETTINGS_CHARS_MAX = 262_144


def settings(plan: StepDefinition, language: Language, scope: Scope) -> Mapping[str, Any]:
    """Return the step's block with the values of its expressions in place. Raise Wrong with the place."""
    if not plan.dynamic:
        return plan.spec
    block = fill(language, plan.kind, plan.spec, scope, ("argv", "env"))
    if len(compact(block)) > SETTINGS_CHARS_MAX:
        raise Wrong(f"{plan.kind}: has more than {SETTINGS_CHARS_MAX} characters with all values in place")
    return block


def until(plan: StepDefinition, language: Language, scope: Scope, now: int) -> int | None:
    """Return when the step stops waiting by itself (ms); None for never. Raise Wrong with the place."""
    block = settings(plan, language, scope)
    try:
        if "until" in block:
            return instant.parse(block["until"])
        length = block.get("for", block.get("deadline"))
        return None if length is None else now + duration.parse(length)
    except (ValueError, TypeError) as error:
        raise Wrong(f"{plan.kind}: {error}") from None


def wanted(plan: StepDefinition, language: Language, scope: Scope) -> bool:
    """Return whether the step is to be done at all. Raise Wrong when its condition says neither yes nor no."""
    return plan.when is None or _holds("when", plan.when, language, scope)


def choose(plan: StepDefinition, language: Language, scope: Scope) -> tuple[list[str], list[str]]:
    """Return the steps of the first case that holds (else the default ones), and all others that a case names.

    Raise Wrong with the place of a condition that says neither yes nor no.
    """
    cases: list[Mapping[str, Any]] = plan.spec["cases"]
    named = [name for case in cases for name in case["then"]] + list(plan.spec.get("default", ()))
    taken: list[str] = list(plan.spec.get("default", ()))
    for index, case in enumerate(cases):
        expression = whole(case["when"]) or ""
        if _holds(f"switch.cases[{index}].when", expression, language, scope):
            taken = list(case["then"])
            break
    return taken, [name for name in dict.fromkeys(named) if name not in taken]


def over(plan: StepDefinition, language: Language, scope: Scope) -> list[Any]:
    """Return the items of a map step. Raise Wrong when they are no list, or too many."""
    items = plan.spec["over"]
    if not isinstance(items, list):
        try:
            items = evaluate(language, whole(items) or "", scope, SETTINGS_CHARS_MAX)
        except ValueError as error:
            raise Wrong(f"map.over: {error}") from None
    if not isinstance(items, list):
        raise Wrong(f"map.over: {compact(items)[:200]} is no list")
    if len(items) > ITEMS_MAX:
        raise Wrong(f"map.over: {len(items)} items are more than {ITEMS_MAX}")
    return items


def partitions(plan: StepDefinition, output: str | None) -> list[Any]:
    """Return the partitions of the dataset that a map goes over, each with its range: from the beginning of the generation.

    ``output`` is that of the step that made it. Raise Wrong when it made none.
    """
    made = json.loads(output or "{}")
    if not isinstance(made.get("ends"), dict):
        raise Wrong(f"map.dataset: step {plan.spec['dataset']} has made no dataset")
    starts = made.get("starts", {})
    return [
        {"topic": made.get("topic"), "partition": int(part), "start": starts.get(part, 0), "end": end}
        for part, end in sorted(made["ends"].items(), key=lambda one: int(one[0]))
    ]


def settled(plan: StepDefinition, language: Language, scope: Scope) -> bool:
    """Return whether a repeat has done what it is there for. Raise Wrong when its condition says neither yes nor no."""
    return _holds("repeat.until", whole(plan.spec["until"]) or "", language, scope)


def unsettled(plan: StepDefinition) -> str:
    """Return the error of a repeat whose turns are used up."""
    turns: int = plan.spec["max"]
    return f"until {whole(plan.spec['until'])} did not hold after {turns} turn{'s' if turns > 1 else ''}"


@lru_cache(32)
def items_of(text: str) -> tuple[Any, ...]:
    """Return the items of a map step from their JSON text."""
    return tuple(json.loads(text))


def tolerated(plan: StepDefinition, total: int) -> int:
    """Return how many of so many items may fail."""
    said = plan.spec.get("tolerated_failures", 0)
    return total * int(said[:-1]) // 100 if isinstance(said, str) else int(said)


def _holds(place: str, expression: str, language: Language, scope: Scope) -> bool:
    try:
        value = evaluate(language, expression, scope)
    except ValueError as error:
        raise Wrong(f"{place}: {error}") from None
    if not isinstance(value, bool):
        raise Wrong(f"{place}: {compact(value)} is neither true nor false")
    return value
