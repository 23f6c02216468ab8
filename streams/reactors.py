"""What an event of one aggregate asks of another. Reactors write no state, only commands."""

from collections.abc import Callable, Mapping
from typing import Any

from streams.domain import limit, listeners, pipeline, schedule, starts
from streams.domain.aggregate import Send
from streams.domain.alert import commands as alert
from streams.domain.alert.rule import TIMED
from streams.domain.bookmark import ReleaseBookmark
from streams.domain.definition import Definition, compact
from streams.domain.identity import end_key, slot_key
from streams.domain.kinds import RECORD_KINDS
from streams.domain.priority import NORMAL
from streams.domain.run.calls import ending, results
from streams.domain.run.commands import NoteChildEnded, NoteLimitGranted
from streams.domain.run.counts import moved, rejected
from streams.domain.run.events import (
    LimitAwaited,
    RunCreated,
    RunEnded,
    StepCalled,
    StepCancelled,
    StepFailed,
    StepRetryScheduled,
    StepSkipped,
)
from streams.domain.run.state import Run

Reactor = Callable[[str, str, Any, Any], tuple[Send, ...]]
"""``(tenant, aggregate id, event, state after it)`` -> commands, written in the transaction of the event."""


def _applied(
    _tenant: str, name: str, event: pipeline.PipelineApplied, state: pipeline.Pipeline
) -> tuple[Send, ...]:
    definition = Definition.parse(event.definition)
    others = (
        Send("alert", name, alert.SetAlerts(compact(definition.alerts))),
        *_listening(name, definition.upstream),
        *_listening(name, dict.fromkeys(event.left, ())),
    )
    if definition.schedule is None:
        return (Send("schedule", name, schedule.ClearSchedule()), *others)
    follow = Send("schedule", name, schedule.SetSchedule(compact(definition.schedule)))
    if state.status == "paused":
        return (follow, Send("schedule", name, schedule.PauseSchedule("the pipeline is paused")), *others)
    return (follow, *others)


def _listening(name: str, upstream: Mapping[str, tuple[str, ...]]) -> tuple[Send, ...]:
    return tuple(
        Send("pipeline", other, listeners.SetListener(name, ends)) for other, ends in upstream.items()
    )


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
    return (
        *_to_schedule(name, state, schedule.ClearSchedule()),
        Send("alert", name, alert.SetAlerts("[]")),
        *_listening(name, dict.fromkeys(Definition.parse(state.definition).upstream, ())),
    )


def _to_schedule(name: str, state: pipeline.Pipeline, command: object) -> tuple[Send, ...]:
    if Definition.parse(state.definition).schedule is None:
        return ()
    return (Send("schedule", name, command),)


def _refused(_tenant: str, name: str, event: starts.RunRefused, _state: object) -> tuple[Send, ...]:
    if event.parent is not None:
        why = _REFUSED.get(event.reason, f"the definition of pipeline {name} is {event.reason}")
        note = NoteChildEnded(event.run_id, "refused", why.format(name=name))
        return (Send("run", event.parent, note),)
    if event.slot is None:
        return ()  # a run's end asked for it: nobody waits
    return (Send("schedule", name, schedule.NoteRunEnded(event.run_id)),)


_REFUSED = {"paused": "pipeline {name} is paused", "not_found": "there is no pipeline {name}"}


def _step_called(_tenant: str, run_id: str, event: StepCalled, run: Run) -> tuple[Send, ...]:
    start = starts.StartRun(
        run_id=event.run_id,
        input=event.input,
        trigger="run",
        parent=run_id,
        depth=run.depth + 1,
        above=(*run.above, run_id),
        callers=(*run.callers, f"{run.pipeline}/{event.step}"),
        # Who waits for it is as urgent; a run of no urgency of its own leaves it to the file.
        priority=None if run.priority == NORMAL else run.priority,
        chain=(*run.chain, run.pipeline),
    )
    return (Send("pipeline", event.pipeline, start),)


def _step_over(
    _tenant: str,
    run_id: str,
    event: StepCancelled | StepFailed | StepRetryScheduled | StepSkipped,
    run: Run,
) -> tuple[Send, ...]:
    """Recall the run that the step waited for, if that has not ended; one that may outlive its parent is left alone."""
    step = run.steps.get(event.step)
    if step is None or not step.calls:
        return ()
    spec = run.plan.step(event.step).spec
    if isinstance(event, StepCancelled) and spec.get("on_parent_close") == "leave":
        return ()
    why = f"step {event.step} of run {run_id} does not wait for it any more"
    return (Send("pipeline", spec["name"], starts.RecallRun(step.child, why)),)


def _listeners_called(
    _tenant: str, _name: str, event: listeners.ListenersCalled, _state: object
) -> tuple[Send, ...]:
    start = starts.StartRun(
        key=end_key(event.run_id), input=event.input, trigger="run", chain=tuple(event.chain)
    )
    return tuple(Send("pipeline", name, start) for name in event.listeners)


def _fired(_tenant: str, name: str, event: schedule.SlotFired, _state: object) -> tuple[Send, ...]:
    start = starts.StartRun(
        run_id=event.run_id, key=slot_key(event.slot), trigger="schedule", slot=event.slot
    )
    return (Send("pipeline", name, start),)


def _kept(_tenant: str, name: str, _event: schedule.SlotKept, state: schedule.Schedule) -> tuple[Send, ...]:
    """Cancel the runs in the way of a slot, by way of the pipeline: so it comes after their creation."""
    if state.overlap != "cancel_other":
        return ()
    why = "the next slot has come"
    return tuple(Send("pipeline", name, starts.RecallRun(run, why)) for run in state.active)


def _run_created(_tenant: str, run_id: str, event: RunCreated, run: Run) -> tuple[Send, ...]:
    if any(rule["on"] in TIMED for rule in run.plan.alerts):
        return (Send("alert", event.pipeline, alert.NoteRunStarted(run_id, event.full_refresh)),)
    return ()


def _limit_awaited(_tenant: str, run_id: str, event: LimitAwaited, run: Run) -> tuple[Send, ...]:
    return (Send("limit", event.limit, limit.AcquireLimit(run_id, event.max, run.above, run.priority)),)


def _limit_acquired(_tenant: str, name: str, event: limit.LimitAcquired, _state: object) -> tuple[Send, ...]:
    return (Send("run", event.run_id, NoteLimitGranted(name)),)


def _run_ended(_tenant: str, run_id: str, event: RunEnded, run: Run) -> tuple[Send, ...]:
    """Tell the schedule, the alerts, who called it, and who listens; free the limits, and the bookmarks of all steps that a runner ever took."""
    sends = [Send("limit", name, limit.ReleaseLimit(run_id)) for name in run.needs]
    if run.plan.alerts:
        sends.append(Send("alert", event.pipeline, _measured(run_id, event, run)))
    if event.trigger == "schedule":
        sends.append(Send("schedule", event.pipeline, schedule.NoteRunEnded(run_id)))
    if run.parent is not None:
        output = results(run_id, run) if event.status == "succeeded" else "{}"
        sends.append(Send("run", run.parent, NoteChildEnded(run_id, event.status, event.error, output)))
    if run.listened:
        note = listeners.NoteRunEnded(run_id, event.status, ending(run_id, run), run.chain)
        sends.append(Send("pipeline", event.pipeline, note))
    for step in run.steps.values():
        if step.kind in RECORD_KINDS and step.started_at is not None:
            sends.append(Send("bookmark", f"{event.pipeline}/{step.name}", ReleaseBookmark(run_id)))
    return tuple(sends)


def _measured(run_id: str, event: RunEnded, run: Run) -> alert.NoteRunEnded:
    # A rerun does a part again: how long that takes says nothing about a run.
    took_ms = None if run.rerun_of or run.ended_at is None else run.ended_at - run.created_at
    return alert.NoteRunEnded(
        run_id, event.status, event.error, took_ms, moved(run), rejected(run), run.full_refresh
    )


REACTORS: Mapping[type, Reactor] = {
    pipeline.PipelineApplied: _applied,
    pipeline.PipelinePaused: _paused,
    pipeline.PipelineResumed: _resumed,
    pipeline.PipelineDeleted: _deleted,
    starts.RunRefused: _refused,
    listeners.ListenersCalled: _listeners_called,
    schedule.SlotFired: _fired,
    schedule.SlotKept: _kept,
    RunCreated: _run_created,
    LimitAwaited: _limit_awaited,
    limit.LimitAcquired: _limit_acquired,
    RunEnded: _run_ended,
    StepCalled: _step_called,
    StepCancelled: _step_over,
    StepFailed: _step_over,
    StepRetryScheduled: _step_over,
    StepSkipped: _step_over,
}
