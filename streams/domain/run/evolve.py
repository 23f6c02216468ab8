"""What each fact makes of a run. Never refuses: facts are not argued with."""

import json
from typing import assert_never

from msgspec.structs import replace

from streams.domain.definition import Definition
from streams.domain.kinds import FAN_KINDS, compensation_of, undone_by
from streams.domain.run import events as happened
from streams.domain.run.commands import Heartbeat
from streams.domain.run.state import Fan, Run, Step
from streams.domain.run.timing import LEASE_MS

RERUNS_KEPT = 32
PROGRESS_CHARS_MAX = 200


def evolve(run: Run, event: happened.Event) -> Run:
    """Return the run after the event."""
    match event:
        case happened.StepClaimed():
            return _claimed(run, event)
        case happened.StepSucceeded():
            return _succeeded(run, event)
        case happened.StepWaiting() | happened.StepMapped() | happened.StepCalled():
            return _waiting(run, event)
        case happened.RunCreated():
            return _created(event)
        case happened.RunCompensating() | happened.RunFinishing():
            return _ending(run, event)
        case happened.RunEnded() | happened.RunPaused() | happened.RunResumed():
            return _standing(run, event)
        case (
            happened.LimitAwaited()
            | happened.LimitGranted()
            | happened.RerunRequested()
            | happened.SignalReceived()
        ):
            return _noted(run, event)
        case _:
            return run.with_step(_step_after(run.step(event.step), event))


def _ending(run: Run, event: happened.RunCompensating | happened.RunFinishing) -> Run:
    if isinstance(event, happened.RunFinishing):
        status = "cancelling" if event.status == "cancelled" else "running"
        return replace(run, status=status, closing=(event.status, event.error), waiting_for=None)
    undoing = {name: Step(name, run.plan.step(name).kind) for name in json.loads(event.steps)}
    ends = (event.status, event.error)
    return replace(
        run, status="compensating", compensating=ends, waiting_for=None, steps={**run.steps, **undoing}
    )


def _standing(run: Run, event: happened.RunEnded | happened.RunPaused | happened.RunResumed) -> Run:
    match event:
        case happened.RunEnded():
            return replace(run, status=event.status, error=event.error, ended_at=event.at, waiting_for=None)
        case happened.RunPaused():
            return replace(run, status="paused")
        case happened.RunResumed():
            return replace(run, status="queued" if run.started_at is None else "running")
        case _:
            assert_never(event)


def _noted(
    run: Run,
    event: happened.LimitAwaited | happened.LimitGranted | happened.RerunRequested | happened.SignalReceived,
) -> Run:
    match event:
        case happened.LimitAwaited():
            return replace(run, waiting_for=event.limit)
        case happened.LimitGranted():
            return replace(run, waiting_for=None, limits=(*run.limits, event.limit))
        case happened.RerunRequested():
            return replace(run, reruns=(*run.reruns, event.run_id)[-RERUNS_KEPT:])
        case happened.SignalReceived():
            return replace(run, signals=(*run.signals, (event.name, event.payload)))
        case _:
            assert_never(event)


def _waiting(run: Run, event: happened.StepWaiting | happened.StepMapped | happened.StepCalled) -> Run:
    step = replace(run.step(event.step), started_at=event.at)
    if isinstance(event, happened.StepCalled):
        step = replace(
            step,
            attempt=event.attempt,
            child=event.run_id,
            calls=True,
            ended_at=None,
            retry_at=None,
            error=None,
        )
    if isinstance(event, happened.StepMapped):
        fanned = replace(step, status=FAN_KINDS[step.kind], fan=Fan(event.items, event.total))
        return _begun(run.with_step(fanned), event.at)
    return _begun(run.with_step(replace(step, status="waiting", until=event.until)), event.at)


def _step_after(step: Step, event: happened.StepEvent) -> Step:
    match event:
        case happened.StepOffered():
            offered = replace(step, status="queued", attempt=event.attempt, token="", runner="")
            return replace(offered, retry_at=None, until=event.until)
        case happened.StepCheckpointed():
            return replace(progressed(step, event, event.at), checkpoint=event.checkpoint)
        case happened.StepRetryScheduled():
            return _retrying(step, event)
        case happened.StepLost():
            return _lost(step, event)
        case happened.StepFailed():
            return _failed(step, event)
        case happened.StepSkipped():
            return _skipped(step, event)
        case happened.StepCancelled():
            return replace(
                step, status="cancelled", ended_at=event.at, lease_until=None, retry_at=None, until=None
            )
        case happened.StepDecided() | happened.ChildEnded():
            return step if isinstance(event, happened.StepDecided) else replace(step, calls=False)
        case _:
            assert_never(event)


def progressed(step: Step, said: Heartbeat | happened.StepCheckpointed, now: int) -> Step:
    """Return the step with its lease extended, and as far as it said at ``now``."""
    return replace(
        step,
        lease_until=max(step.lease_until or 0, now + LEASE_MS),
        records_in=said.records_in,
        records_out=said.records_out,
        records_rejected=said.records_rejected,
        bytes=said.bytes,
        # What is no share of a hundred, NaN too, says nothing.
        percent=said.percent if said.percent is not None and 0 <= said.percent <= 100 else None,
        progress=said.text[:PROGRESS_CHARS_MAX],
    )


def _created(event: happened.RunCreated) -> Run:
    definition = Definition.parse(event.definition)
    return Run(
        status="queued",
        pipeline=event.pipeline,
        definition_text=event.definition,
        definition_hash=event.definition_hash,
        input=event.input,
        full_refresh=event.full_refresh,
        trigger=event.trigger,
        slot=event.slot,
        key=event.key,
        rerun_of=event.rerun_of,
        redrive=event.redrive,
        redrive_of=event.redrive_of,
        parent=event.parent,
        depth=event.depth,
        above=tuple(event.above),
        callers=tuple(event.callers),
        priority=event.priority,
        tenant_runs_max=event.tenant_runs_max,
        chain=tuple(event.chain),
        listened=event.listened,
        created_at=event.at,
        steps={step.name: Step(step.name, step.kind) for step in definition.steps.values()},
        unended=sum(not step.last for step in definition.steps.values()),
        unended_last=sum(step.last for step in definition.steps.values()),
    )


def _claimed(run: Run, event: happened.StepClaimed) -> Run:
    step = replace(
        run.steps[event.step],
        status="running",
        token=event.token,
        runner=event.runner,
        started_at=event.at,
        ended_at=None,
        lease_until=event.at + LEASE_MS,
        records_in=0,
        records_out=0,
        records_rejected=0,
        bytes=0,
        percent=None,
        progress="",
        error=None,
        tail="",
        until=None,
    )
    return _begun(run.with_step(step), event.at)


def _begun(run: Run, at: int) -> Run:
    if run.started_at is not None:
        return run
    return replace(run, started_at=at, status="running" if run.status == "queued" else run.status)


def _succeeded(run: Run, event: happened.StepSucceeded) -> Run:
    step = run.steps[event.step]
    if step.status == "waiting" and step.kind == "signal":
        run = _without_signal(run, event.step)
    done = replace(
        step,
        status="succeeded",
        attempt=event.attempt,
        ended_at=event.at,
        lease_until=None,
        records_in=event.records_in,
        records_out=event.records_out,
        records_rejected=event.records_rejected,
        bytes=event.bytes,
        percent=None,
        progress="",
        checkpoint=None,
        error=None,
        tail="",
        until=None,
        output=event.output,
        reused=event.reused,
    )
    if undone := undone_by(event.step):
        return run.with_step(done).with_step(replace(run.steps[undone], status="compensated"))
    if not event.reused and compensation_of(event.step) in run.plan.compensations:
        run = replace(run, done=(*run.done, event.step))
    return run.with_step(done)


def _without_signal(run: Run, step: str) -> Run:
    """Take away the signal that the step has waited for: the first of its name."""
    name = run.plan.steps[step].signal
    for place, (kept, _payload) in enumerate(run.signals):
        if kept == name:
            return replace(run, signals=run.signals[:place] + run.signals[place + 1 :])
    return run


def _retrying(step: Step, event: happened.StepRetryScheduled) -> Step:
    return replace(
        step,
        status="retrying",
        failures=step.failures + 1,
        error=event.error,
        tail=event.tail,
        ended_at=event.at,
        retry_at=event.retry_at,
        lease_until=None,
        until=None,
    )


def _lost(step: Step, event: happened.StepLost) -> Step:
    return replace(
        step,
        status="retrying",
        lost=step.lost + (not event.handed_back),
        error=f"lost: runner {event.runner} {'has stopped' if event.handed_back else 'was not heard of'}",
        retry_at=event.at,
        lease_until=None,
    )


def _failed(step: Step, event: happened.StepFailed) -> Step:
    return replace(
        step,
        status=event.status,
        error=event.error,
        tail=event.tail,
        ended_at=event.at,
        lease_until=None,
        retry_at=None,
        until=None,
    )


def _skipped(step: Step, event: happened.StepSkipped) -> Step:
    return replace(
        step,
        status="skipped",
        error=event.reason,
        ended_at=event.at,
        lease_until=None,
        retry_at=None,
        until=None,
        skipped=event.cause,
    )
