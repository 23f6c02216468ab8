"""What starts the run of a scenario in the place of people: an event of users, or the end of another pipeline's run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.domain.definition import Definition, compact
from streams.domain.findings import Findings
from streams.domain.run.calls import how_ended
from streams.domain.triggers import ENDS, KINDS


@dataclass(frozen=True, slots=True)
class EventSent:
    """A CloudEvent on ``user-events.<name>``, with all that its run gets as input."""

    name: str
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunOver:
    """A run of another pipeline has ended with ``status``; ``output`` (JSON text) is what its listeners get as input."""

    pipeline: str
    run_id: str
    status: str
    output: str


Trigger = EventSent | RunOver


def read_trigger(found: Findings, path: str, value: object, plan: Definition) -> Trigger | None:
    """Return what a scenario's ``trigger`` says; what is wrong goes to ``found``, and what it returns then is of no use."""
    block = found.mapping(path, value, KINDS)
    if block is None:
        return None
    if len(block) != 1:
        found.add(path, "must be one trigger", "write {event: {…}} or {after: {…}}")
    if "event" in block:
        return _event(found, f"{path}.event", block["event"], plan)
    if "after" in block:
        return _after(found, f"{path}.after", block["after"], plan)
    return None


def _event(found: Findings, path: str, value: object, plan: Definition) -> EventSent:
    said = found.mapping(path, value, None) or {}
    name = _meant(found, f"{path}.name", said.get("name"), plan.heard, f"pipeline {plan.name} hears no event")
    event = {"specversion": "1.0", **{key: item for key, item in said.items() if key != "name"}}
    for attribute in ("id", "source", "type"):
        found.text(f"{path}.{attribute}", event.get(attribute))
    found.equals(f"{path}.specversion", event["specversion"], "1.0")
    return EventSent(name, event)


def _after(found: Findings, path: str, value: object, plan: Definition) -> RunOver:
    said = found.mapping(path, value, ("pipeline", "status", "error", "steps")) or {}
    nothing = f"pipeline {plan.name} starts after no other"
    name = _meant(found, f"{path}.pipeline", said.get("pipeline"), plan.upstream, nothing)
    status, error = said.get("status", ENDS[0]), said.get("error")
    found.one_of(f"{path}.status", status, ENDS)
    if error is not None:
        found.text(f"{path}.error", error)
    steps = said.get("steps", {})
    if steps is not None:  # as it is when they are too large
        found.mapping(f"{path}.steps", steps, None)
    run, status = f"run-of-{name}", str(status)
    return RunOver(name, run, status, compact({**how_ended(run, name, status, error), "steps": steps}))


def _meant(found: Findings, path: str, value: object, known: Mapping[str, object], none: str) -> str:
    """Return which of the file's triggers is meant; the only one need not be named."""
    if not known:
        found.add(path, none, "add it to triggers of the pipeline, or leave out trigger")
    elif value is None and len(known) == 1:
        return next(iter(known))
    elif value is not None and value not in list(known):
        found.unknown(path, f"no trigger names {value!r}", str(value), known)
    else:
        found.text(path, value)
    return str(value)
