"""What starts a pipeline besides people and its schedule: a file's ``triggers``."""

from collections.abc import Mapping, Sequence
from typing import Any

from streams.domain.findings import Findings
from streams.domain.kinds import NAME, NAME_FIX

KINDS = ("after",)
ENDS = ("succeeded", "failed", "cancelled", "timed_out")


def upstream(triggers: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the pipelines whose runs start this one by their end, each with the ends (one of ENDS) that do."""
    blocks = [trigger["after"] for trigger in triggers if "after" in trigger]
    return {block["pipeline"]: tuple(block.get("status", ENDS[:1])) for block in blocks}


def trigger_problems(found: Findings, triggers: object, own: object) -> None:
    """Report every mistake in the ``triggers`` of the pipeline that is named ``own``."""
    taken: set[str] = set()
    for index, item in found.items("spec.triggers", triggers):
        path = f"spec.triggers[{index}]"
        trigger = found.mapping(path, item, KINDS)
        if trigger is None:
            continue
        if len(trigger) != 1:
            found.add(path, "must be one trigger", "write - {after: {pipeline: load-orders}}")
        if "after" in trigger:
            _after(found, f"{path}.after", trigger["after"], own, taken)


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
