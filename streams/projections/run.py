"""The runs as they are now: status, steps, counts."""

import json
from typing import Any, assert_never

from sqlalchemy import JSON, BigInteger, Boolean, Column, Integer, Text

from streams.domain.kinds import FAN_KINDS, NO_RUNNER_KINDS, STEP_KINDS, undone_by
from streams.domain.labels import ANY
from streams.domain.run.events import (
    ChildEnded,
    Event,
    LimitAwaited,
    LimitGranted,
    RerunRequested,
    RunCompensating,
    RunCreated,
    RunEnded,
    RunFinishing,
    RunPaused,
    RunResumed,
    SignalReceived,
    StepCalled,
    StepCancelled,
    StepCheckpointed,
    StepClaimed,
    StepDecided,
    StepFailed,
    StepLost,
    StepMapped,
    StepOffered,
    StepRetryScheduled,
    StepSkipped,
    StepSucceeded,
    StepWaiting,
)
from streams.projections.view import Meta, Row, View, versioned

TABLE = versioned(
    "run",
    [
        Column("tenant", Text, primary_key=True),
        Column("id", Text, primary_key=True),
        Column("pipeline", Text, nullable=False),
        Column("definition_hash", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("error", Text),
        Column("reason", Text),
        Column("trigger", Text, nullable=False),
        Column("input", JSON, nullable=False),
        Column("full_refresh", Boolean, nullable=False),
        Column("slot", BigInteger),
        Column("start_key", Text),
        Column("rerun_of", Text),
        Column("parent", Text),
        Column("priority", Text, nullable=False),
        Column("waiting_for", Text),
        Column("created_at", BigInteger, nullable=False),
        Column("started_at", BigInteger),
        Column("ended_at", BigInteger),
        Column("steps", JSON, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("shard", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
    ],
    {
        "time": ("tenant", "created_at", "id"),
        "pipeline": ("tenant", "pipeline", "created_at", "id"),
        "status": ("tenant", "status", "created_at", "id"),
    },
    revision=8,
)

RunEvent = (
    RunPaused
    | RunResumed
    | RunEnded
    | RerunRequested
    | LimitAwaited
    | LimitGranted
    | SignalReceived
    | RunFinishing
    | RunCompensating
)
StepEvent = (
    StepOffered
    | StepClaimed
    | StepCheckpointed
    | StepLost
    | StepSucceeded
    | StepRetryScheduled
    | StepFailed
    | StepSkipped
    | StepCancelled
    | StepWaiting
    | StepMapped
    | StepCalled
    | ChildEnded
    | StepDecided
)


_PROGRESS = ("records_in", "records_out", "records_rejected", "bytes", "percent")


def fold(row: Row | None, event: Event, meta: Meta) -> Row | None:
    """Return the run after ``event``. An event of a run that was never created leaves nothing behind."""
    place = {"version": meta.version, "shard": meta.shard, "sequence": meta.sequence}
    if isinstance(event, RunCreated):
        return {**_created(event, meta), **place}
    if row is None:
        return None
    return {**row, **_changes(row, event), **place}


def _created(event: RunCreated, meta: Meta) -> Row:
    definition = json.loads(event.definition)
    return {
        "tenant": meta.tenant,
        "id": meta.aggregate_id,
        "pipeline": event.pipeline,
        "definition_hash": event.definition_hash,
        "status": "queued",
        "error": None,
        "reason": None,
        "trigger": event.trigger,
        "input": json.loads(event.input),
        "full_refresh": event.full_refresh,
        "slot": event.slot,
        "start_key": event.key,
        "rerun_of": event.rerun_of,
        "parent": event.parent,
        "priority": event.priority,
        "waiting_for": None,
        "created_at": event.at,
        "started_at": None,
        "ended_at": None,
        "steps": _steps(definition.get("spec") or {}),
    }


def _steps(spec: dict[str, Any]) -> list[Row]:
    proper = [_step(step, False) for step in spec.get("steps") or []]
    return [*proper, *(_step(step, True) for step in spec.get("finally") or [])]


def _step(step: dict[str, Any], last: bool) -> Row:
    kind = next((kind for kind in STEP_KINDS if kind in step), "command")
    return {
        "name": step["name"],
        "kind": kind,
        "after": step.get("after") or [],
        "finally": last,
        "runs_on": [] if kind in NO_RUNNER_KINDS else step.get("runs_on") or [ANY],
        "status": "pending",
        "attempt": 0,
        "runner": None,
        "started_at": None,
        "ended_at": None,
        "retry_at": None,
        "waits_for": None,
        "waits_until": None,
        "child": None,
        "records_in": 0,
        "records_out": 0,
        "records_rejected": 0,
        "bytes": 0,
        "percent": None,
        "progress": None,
        "error": None,
        "tail": None,
        "output": None,
        "reused": False,
        "items": None,
    }


def _undoing(row: Row, names: list[str]) -> list[Row]:
    """Return the compensations as steps, each after the step it undoes and the compensation before it."""
    labels = {step["name"]: step["runs_on"] for step in row["steps"]}
    befores = [[undone_by(name), *names[max(place - 1, 0) : place]] for place, name in enumerate(names)]
    steps = [
        {"name": name, "command": {}, "after": after, "runs_on": labels[after[0]]}
        for name, after in zip(names, befores, strict=True)
    ]
    return [_step(step, False) for step in steps]


def _changes(row: Row, event: RunEvent | StepEvent) -> Row:
    match event:
        case RunPaused():
            return {"status": "paused", "reason": event.reason}
        case RunResumed():
            return {"status": "queued" if row["started_at"] is None else "running", "reason": None}
        case RunCompensating() | RunFinishing():
            return {"reason": None, "waiting_for": None, **_ending(row, event)}
        case RunEnded():
            return {"status": event.status, "error": event.error, "ended_at": event.at, "waiting_for": None}
        case LimitAwaited() | LimitGranted():
            return {"waiting_for": event.limit if isinstance(event, LimitAwaited) else None}
        case RerunRequested() | SignalReceived():
            return {}
        case StepClaimed() | StepWaiting() | StepMapped() | StepCalled():
            changes = _step_changes(event)
            if isinstance(event, StepMapped):
                changes["status"] = _at_work(row, event.step)
            begun = {} if row["started_at"] is not None else {"started_at": event.at}
            status = {"status": "running"} if row["status"] == "queued" else {}
            return {"steps": _with_step(row, event.step, changes), **begun, **status}
        case _:
            return {"steps": _with_step(row, event.step, _step_changes(event))}


def _at_work(row: Row, name: str) -> str:
    """Return the status of a step whose items or turns are at work."""
    return next(FAN_KINDS[step["kind"]] for step in row["steps"] if step["name"] == name)


def _ending(row: Row, event: RunCompensating | RunFinishing) -> Row:
    if isinstance(event, RunFinishing):
        return {"status": "cancelling" if event.status == "cancelled" else "running"}
    return {"status": "compensating", "steps": [*row["steps"], *_undoing(row, json.loads(event.steps))]}


def _with_step(row: Row, name: str, changes: Row) -> list[Row]:
    base, item, _index = name.partition("[")
    if item:
        return [_counted(step, changes) if step["name"] == base else step for step in row["steps"]]
    undone = undone_by(name) if changes.get("status") == "succeeded" else ""
    return [
        {**step, **changes}
        if step["name"] == name
        else {**step, "status": "compensated"}
        if step["name"] == undone
        else step
        for step in row["steps"]
    ]


def _counted(step: Row, changes: Row) -> Row:
    """Count what became of an item or a turn; there is no row of its own for each of thousands."""
    items, status = step["items"], changes.get("status")
    if step["kind"] == "repeat":
        step = {**step, "waits_until": changes["waits_until"] if status == "waiting" else None}
    if items is None or status not in ("succeeded", "failed", "timed_out", "skipped", "cancelled"):
        return step
    failed = items["failed"] + (status in ("failed", "timed_out"))
    return {**step, "items": {**items, "ended": items["ended"] + 1, "failed": failed}}


def _step_changes(event: StepEvent) -> Row:
    match event:
        case StepOffered():
            changes: Row = {"status": "queued", "attempt": event.attempt, "retry_at": None}
            changes["waits_until"] = event.until
        case StepClaimed():
            changes = {
                "status": "running",
                "attempt": event.attempt,
                "runner": event.runner,
                "started_at": event.at,
            }
            # What an earlier attempt left is history now: it is in the events.
            changes |= {"ended_at": None, "error": None, "tail": None, "percent": None, "progress": None}
            changes["waits_until"] = None
        case StepWaiting() | StepMapped() | StepCalled():
            changes = _begun_changes(event)
        case StepDecided() | ChildEnded() | StepCheckpointed():
            changes = _told(event)
        case StepLost():
            changes = {
                "status": "queued",
                "error": f"runner {event.runner} {'has stopped' if event.handed_back else 'was lost'}",
            }
        case StepSucceeded():
            changes = {
                "status": "succeeded",
                "attempt": event.attempt,
                "ended_at": event.at,
                "records_in": event.records_in,
                "records_out": event.records_out,
                "records_rejected": event.records_rejected,
                "bytes": event.bytes,
                "percent": None,
                "progress": None,
                "error": None,
                "output": json.loads(event.output),
                "reused": event.reused,
            }
        case StepRetryScheduled():
            changes = {"status": "retrying", "attempt": event.attempt, "retry_at": event.retry_at}
            changes |= {"ended_at": event.at, "error": event.error, "tail": event.tail or None}
        case StepFailed():
            changes = {"status": event.status, "attempt": event.attempt}
            changes |= {"ended_at": event.at, "error": event.error, "tail": event.tail or None}
        case StepSkipped():
            changes = {"status": "skipped", "ended_at": event.at, "error": event.reason}
        case StepCancelled():
            changes = {
                "status": "cancelled",
                "attempt": event.attempt,
                "ended_at": event.at,
                "retry_at": None,
            }
        case _:
            assert_never(event)
    return changes


def _begun_changes(event: StepWaiting | StepMapped | StepCalled) -> Row:
    match event:
        case StepWaiting():
            changes: Row = {"status": "waiting", "started_at": event.at}
            changes |= {"waits_for": event.waits_for, "waits_until": event.until}
        case StepMapped():
            changes = {"started_at": event.at}
            changes["items"] = {"total": event.total, "ended": 0, "failed": 0}
        case StepCalled():
            changes = {
                "status": "waiting",
                "attempt": event.attempt,
                "started_at": event.at,
                "child": event.run_id,
            }
            changes |= {"waits_for": f"run {event.run_id} of {event.pipeline}", "waits_until": event.until}
            changes |= {"ended_at": None, "retry_at": None, "error": None}
    return changes


def _told(event: StepDecided | ChildEnded | StepCheckpointed) -> Row:
    if not isinstance(event, StepCheckpointed):
        return {}
    return {**{field: getattr(event, field) for field in _PROGRESS}, "progress": event.text or None}


VIEW = View(
    name="run",
    table=TABLE,
    source="events",
    aggregates=("run",),
    key=lambda _event, meta: (meta.tenant, meta.aggregate_id),
    fold=fold,
)
