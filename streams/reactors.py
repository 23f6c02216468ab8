"""What an event of one aggregate asks of another. Reactors write no state, only commands."""

from collections.abc import Callable, Mapping
from typing import Any

from streams.domain import pipeline, schedule
from streams.domain.aggregate import Send
from streams.domain.bookmark import ReleaseBookmark
from streams.domain.definition import Definition, compact
from streams.domain.identity import slot_key
from streams.domain.run.events import RunEnded
from streams.domain.run.state import Run

Reactor = Callable[[str, str, Any, Any], tuple[Send, ...]]
"""``(tenant, aggregate id, event, state after it)`` -> commands, written in the transaction of the event."""


def _applied(
    _tenant: str, name: str, event: pipeline.PipelineApplied, state: pipeline.Pipeline
) -> tuple[Send, ...]:
    spec = Definition.parse(event.definition).schedule
    if spec is None:
        return (Send("schedule", name, schedule.ClearSchedule()),)
    follow = Send("schedule", name, schedule.SetSchedule(compact(spec)))
    if state.status == "paused":
        return (follow, Send("schedule", name, schedule.PauseSchedule("the pipeline is paused")))
    return (follow,)


def _paused(
    _tenant: str, name: str, event: pipeline.PipelinePaused, state: pipeline.Pipeline
) -> tuple[Send, ...]:
    return _to_schedule(name, state, schedule.PauseSchedule(event.reason))


def _resumed(
    _tenant: str, name: str, _event: pipeline.PipelineResumed, state: pipeline.Pipeline
) -> tuple[Send, ...]:
    return _to_schedule(name, state, schedule.ResumeSchedule())


def _deleted(
    _tenant: str, name: str, _event: pipeline.PipelineDeleted, state: pipeline.Pipeline
) -> tuple[Send, ...]:
    return _to_schedule(name, state, schedule.ClearSchedule())


def _to_schedule(name: str, state: pipeline.Pipeline, command: object) -> tuple[Send, ...]:
    if Definition.parse(state.definition).schedule is None:
        return ()
    return (Send("schedule", name, command),)


def _refused(_tenant: str, name: str, event: pipeline.RunRefused, _state: object) -> tuple[Send, ...]:
    return (Send("schedule", name, schedule.NoteRunEnded(event.run_id)),)


def _fired(_tenant: str, name: str, event: schedule.SlotFired, _state: object) -> tuple[Send, ...]:
    start = pipeline.StartRun(
        run_id=event.run_id, key=slot_key(event.slot), trigger="schedule", slot=event.slot
    )
    return (Send("pipeline", name, start),)


def _run_ended(_tenant: str, run_id: str, event: RunEnded, run: Run) -> tuple[Send, ...]:
    """Tell the schedule, and free the bookmarks of all steps that a runner ever took."""
    sends = []
    if event.trigger == "schedule":
        sends.append(Send("schedule", event.pipeline, schedule.NoteRunEnded(run_id)))
    for step in run.steps.values():
        if step.kind != "command" and step.started_at is not None:
            sends.append(Send("bookmark", f"{event.pipeline}/{step.name}", ReleaseBookmark(run_id)))
    return tuple(sends)


REACTORS: Mapping[type, Reactor] = {
    pipeline.PipelineApplied: _applied,
    pipeline.PipelinePaused: _paused,
    pipeline.PipelineResumed: _resumed,
    pipeline.PipelineDeleted: _deleted,
    pipeline.RunRefused: _refused,
    schedule.SlotFired: _fired,
    RunEnded: _run_ended,
}
