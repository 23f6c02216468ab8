"""What starts a pipeline besides people and its schedule: a file's ``triggers``."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from streams.domain.expressions import Language, Wrong, evaluate, whole
from streams.domain.findings import Findings
from streams.domain.kinds import NAME, NAME_FIX, condition

KINDS = ("after", "event")
ENDS = ("succeeded", "failed", "cancelled", "timed_out")


def upstream(triggers: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the pipelines whose runs start this one by their end, each with the ends (one of ENDS) that do."""
    blocks = [trigger["after"] for trigger in triggers if "after" in trigger]
    return {block["pipeline"]: tuple(block.get("status", ENDS[:1])) for block in blocks}


def heard(triggers: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """Return the names of users' events that start the pipeline, each with its filter."""
    blocks = [trigger["event"] for trigger in triggers if "event" in trigger]
    return {block["name"]: block.get("filter") for block in blocks}


def holds(language: Language, text: str, event: Mapping[str, Any]) -> bool:
    """Return whether an event passes a filter without problems. Raise ValueError when that cannot be said."""
    value = evaluate(language, whole(text) or "", lambda _named: {"event": event})
    if not isinstance(value, bool):
        raise Wrong(f"{json.dumps(value)[:200]} is neither true nor false")
    return value


def trigger_problems(found: Findings, triggers: object, own: object) -> None:
    """Report every mistake in the ``triggers`` of the pipeline that is named ``own``."""
    taken: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for index, item in found.items("spec.triggers", triggers):
        path = f"spec.triggers[{index}]"
        trigger = found.mapping(path, item, KINDS)
        if trigger is None:
            continue
        if len(trigger) != 1:
            found.add(path, "must be one trigger", "write - {after: {pipeline: load-orders}}")
        if "after" in trigger:
            _after(found, f"{path}.after", trigger["after"], own, taken["after"])
        if "event" in trigger:
            _event(found, f"{path}.event", trigger["event"], taken["event"])


def _after(found: Findings, path: str, value: object, own: object, taken: set[str]) -> None:
    block = found.mapping(path, value, ("pipeline", "status"))
    if block is None:
        return
    name = block.get("pipeline")
    found.name(f"{path}.pipeline", name, NAME, NAME_FIX)
    if name == own and isinstance(name, str):
        found.add(
            f"{path}.pipeline", "a pipeline cannot start after itself", "use a schedule, or a repeat step"
        )
    if isinstance(name, str):
        if name in taken:
            found.add(f"{path}.pipeline", f"{name!r} is there twice", "put all its ends into one status list")
        taken.add(name)
    statuses = found.items(f"{path}.status", block.get("status", list(ENDS[:1])))
    if block.get("status") == []:
        found.add(f"{path}.status", "is empty", f"some of {', '.join(ENDS)}")
    for index, status in statuses:
        found.one_of(f"{path}.status[{index}]", status, ENDS)


def _event(found: Findings, path: str, value: object, taken: set[str]) -> None:
    block = found.mapping(path, value, ("name", "filter"))
    if block is None:
        return
    name = block.get("name")
    found.name(f"{path}.name", name, NAME, NAME_FIX)
    if isinstance(name, str):
        if name in taken:
            found.add(f"{path}.name", f"{name!r} is there twice", "join the filters: ${{ … || … }}")
        taken.add(name)
    if "filter" in block:
        condition(found, f"{path}.filter", block["filter"])
