"""The rules of a run: what each command causes, or why it is refused."""

import json
from typing import Any, assert_never

from streams.domain.aggregate import Message, Rejected
from streams.domain.definition import check, digest
from streams.domain.identity import run_id
from streams.domain.run import commands as asked
from streams.domain.run import events as happened
from streams.domain.run.progress import (
    Story,
    after_success,
    end_if_done,
    fail_attempt,
    fail_step,
    offer,
    ready,
    stop,
)
from streams.domain.run.state import Run, Step
from streams.domain.run.timers import tick

ERROR_CHARS_MAX = 4_096
TAIL_CHARS_MAX = 16_384
OUTPUT_CHARS_MAX = 262_144

Decision = tuple[happened.Event, ...] | Rejected


def decide(message: Message, run: Run) -> Decision:
    """Return what the command causes: nothing, when it is already so."""
    command: asked.Command = message.body
    if isinstance(command, asked.CreateRun):
        return _create(message, command, run)
    if not run.exists:
        return Rejected("not_found", f"there is no run {message.aggregate_id}")
    story = Story(message.aggregate_id, run, message.now)
    match command:
        case asked.Heartbeat():
            return _unless(_stale(command, run), story)
        case asked.ClaimStep():
            return _claim(command, story)
        case asked.CompleteStep():
            return _complete(command, story)
        case asked.FailStep():
            return _fail(command, story)
        case asked.Tick():
            tick(story)
            return tuple(story.events)
        case asked.CancelRun():
            return _cancel(command, story)
        case asked.PauseRun():
            return _pause(command, story)
        case asked.ResumeRun():
            return _resume(story)
        case asked.RerunRun():
            return _rerun(message, command, run)
        case _:
            assert_never(command)


def _unless(rejected: Rejected | None, story: Story) -> Decision:
    return rejected or tuple(story.events)


# ---------------------------------------------------------------- the run as a whole
def _create(message: Message, command: asked.CreateRun, run: Run) -> Decision:
    if run.exists:
        same = (command.pipeline, command.key, command.rerun_of) == (run.pipeline, run.key, run.rerun_of)
        taken = f"run {message.aggregate_id} exists already, of pipeline {run.pipeline}: choose another id"
        return () if same else Rejected("already_exists", taken)
    if problems := check(command.definition):
        return Rejected("invalid", "\n".join(map(str, problems)))
    if command.definition_hash != digest(command.definition):
        return Rejected("invalid", "definition_hash is not the sha256 (hex) of the definition's text")
    if _mapping(command.input) is None:
        return Rejected("invalid", "input must be a JSON object, as text")
    reused = _mapping(command.reused)
    if reused is None or not all(isinstance(result, dict) for result in reused.values()):
        return Rejected("invalid", "reused must be a JSON object, as text: step name -> its result")
    story = Story(message.aggregate_id, run, message.now)
    story.tell(_created(command, message.now))
    if strangers := sorted(reused.keys() - story.run.steps.keys()):
        return Rejected("invalid", f"reused names steps that the definition has not: {', '.join(strangers)}")
    for name in story.run.steps:
        if name in reused:
            story.tell(_reused(name, reused[name], message.now))
    _offer_ready(story)
    end_if_done(story)
    return tuple(story.events)


def _created(command: asked.CreateRun, now: int) -> happened.RunCreated:
    return happened.RunCreated(
        pipeline=command.pipeline,
        definition=command.definition,
        definition_hash=command.definition_hash,
        input=command.input,
        full_refresh=command.full_refresh,
        trigger=command.trigger,
        slot=command.slot,
        key=command.key,
        rerun_of=command.rerun_of,
        reused=command.reused,
        at=now,
    )


def _reused(name: str, result: dict[str, Any], now: int) -> happened.StepSucceeded:
    counts = {key: _count(result.get(key)) for key in ("records_in", "records_out", "records_rejected", "bytes")}
    output = json.dumps(result.get("output") or {}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return happened.StepSucceeded(step=name, attempt=0, output=output, at=now, reused=True, **counts)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _cancel(command: asked.CancelRun, story: Story) -> Decision:
    if story.run.status == "cancelled":
        return ()
    if story.run.ended:
        return _already_ended(story)
    stop(story, "cancelled", f"cancelled: {command.reason}" if command.reason else "cancelled")
    return tuple(story.events)


def _pause(command: asked.PauseRun, story: Story) -> Decision:
    if story.run.ended:
        return _already_ended(story)
    if story.run.status != "paused":
        story.tell(happened.RunPaused(story.now, command.reason))
    return tuple(story.events)


def _resume(story: Story) -> Decision:
    if story.run.ended:
        return _already_ended(story)
    if story.run.status == "paused":
        story.tell(happened.RunResumed(story.now))
        # Runners that took an offer while the run was paused were refused and dropped it: offer that attempt again.
        for step in tuple(story.run.steps.values()):
            if step.status == "offered":
                story.tell(happened.StepOffered(step.name, step.attempt, "default", story.now))
        _offer_ready(story)
        tick(story)
    return tuple(story.events)


def _offer_ready(story: Story) -> None:
    for name in story.run.steps:
        if ready(story.run, name):
            offer(story, story.run.steps[name])


def _already_ended(story: Story) -> Rejected:
    return Rejected("already_ended", f"run {story.run_id} has ended: it {_verb(story.run.status)}")


def _rerun(message: Message, command: asked.RerunRun, run: Run) -> Decision:
    new_id = command.run_id or run_id(message.tenant, run.pipeline, message.command_id)
    if new_id in run.reruns:
        return ()
    if not run.ended:
        return Rejected("not_ended", f"run {message.aggregate_id} is still {run.status}: wait for its end, or cancel it")
    if command.from_step is not None and command.from_step not in run.steps:
        names = ", ".join(run.steps)
        return Rejected("invalid", f"run {message.aggregate_id} has no step {command.from_step!r}; its steps: {names}")
    if new_id == message.aggregate_id:
        return Rejected("invalid", "a rerun needs an id of its own")
    return (happened.RerunRequested(new_id, command.from_step, message.now),)


# ---------------------------------------------------------------- attempts
Held = asked.Heartbeat | asked.CompleteStep | asked.FailStep


def _stale(command: Held, run: Run) -> Rejected | None:
    """Return why the sender does not hold the lease it names; None if it does."""
    step = run.steps.get(command.step)
    if step is None:
        return Rejected("stale_lease", f"the run has no step {command.step!r}")
    if run.ended:
        return Rejected("stale_lease", f"the run {_verb(run.status)}: stop the attempt and drop its result")
    if step.status != "running" or (step.attempt, step.token) != (command.attempt, command.token):
        now = f"attempt {step.attempt} is {step.status}"
        return Rejected("stale_lease", f"attempt {command.attempt} of {command.step} is not held by this token: {now}")
    return None


def _claim(command: asked.ClaimStep, story: Story) -> Decision:
    run = story.run
    step = run.steps.get(command.step)
    if step is None:
        return Rejected("stale_lease", f"the run has no step {command.step!r}")
    if run.ended:
        return Rejected("stale_lease", f"the run {_verb(run.status)}: drop the offer")
    if not command.token:
        return Rejected("invalid", "a claim needs a token: a fresh uuid")
    if step.status == "running" and (step.attempt, step.token) == (command.attempt, command.token):
        return ()
    if step.status != "offered" or step.attempt != command.attempt:
        now = f"attempt {step.attempt} is {step.status}"
        return Rejected("stale_lease", f"attempt {command.attempt} of {command.step} is not on offer: {now}")
    if run.status == "paused":
        return Rejected("paused", "the run is paused: drop the offer, it is made again when the run goes on")
    story.tell(happened.StepClaimed(command.step, command.attempt, command.token, command.runner, story.now))
    return tuple(story.events)


def _complete(command: asked.CompleteStep, story: Story) -> Decision:
    if _recorded(command, story.run, ("succeeded",)):
        return ()
    if rejected := _stale(command, story.run):
        return rejected
    step = story.run.steps[command.step]
    if mistake := _bad_output(command.output):
        fail_step(story, step, mistake, "", "failed")
        return tuple(story.events)
    story.tell(
        happened.StepSucceeded(
            step=command.step,
            attempt=command.attempt,
            output=command.output,
            records_in=command.records_in,
            records_out=command.records_out,
            records_rejected=command.records_rejected,
            bytes=command.bytes,
            at=story.now,
        )
    )
    after_success(story, command.step)
    return tuple(story.events)


def _fail(command: asked.FailStep, story: Story) -> Decision:
    if _recorded(command, story.run, ("failed", "timed_out", "retrying")):
        return ()
    if rejected := _stale(command, story.run):
        return rejected
    step = story.run.steps[command.step]
    fail_attempt(
        story,
        step,
        command.error[:ERROR_CHARS_MAX],
        command.tail[-TAIL_CHARS_MAX:],
        retryable=command.retryable,
        timed_out=_over_time(step, story),
    )
    return tuple(story.events)


def _recorded(command: asked.CompleteStep | asked.FailStep, run: Run, as_status: tuple[str, ...]) -> bool:
    """Return whether this very result is known already: the answer got lost, and the runner asks again."""
    step = run.steps.get(command.step)
    return (
        step is not None
        and step.status in as_status
        and bool(step.token)
        and (step.attempt, step.token) == (command.attempt, command.token)
    )


def _over_time(step: Step, story: Story) -> bool:
    timeout_ms = story.run.plan.steps[step.name].timeout_ms
    return timeout_ms is not None and step.started_at is not None and story.now - step.started_at >= timeout_ms


def _bad_output(text: str) -> str | None:
    # Later steps are given it inside their offer: what nobody could read or carry must end here.
    if len(text) > OUTPUT_CHARS_MAX:
        return f"the step's output has {len(text)} characters, more than {OUTPUT_CHARS_MAX}"
    return None if _mapping(text) is not None else "the step's output is no JSON object"


def _mapping(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _verb(status: str) -> str:
    return {"cancelled": "was cancelled", "timed_out": "timed out"}.get(status, status)
