"""What a runner may do with an attempt: claim it, keep it, end it. Only by the token that holds the lease."""

from typing import assert_never

from streams.domain.aggregate import Rejected
from streams.domain.labels import missing
from streams.domain.run import commands as asked
from streams.domain.run import events as happened
from streams.domain.run.progress import fail_attempt, fail_step, go_on
from streams.domain.run.state import Run, Step, as_mapping, how_it_ended
from streams.domain.run.story import Decision, Story

ERROR_CHARS_MAX = 4_096
TAIL_CHARS_MAX = 16_384
OUTPUT_CHARS_MAX = 262_144
CHECKPOINT_CHARS_MAX = 16_384

Held = asked.Heartbeat | asked.CompleteStep | asked.FailStep


def decide_attempt(command: asked.AttemptCommand, story: Story) -> Decision:
    """Return what a runner's command causes. Each is idempotent by its token: said again, it is accepted again."""
    match command:
        case asked.Heartbeat():
            return _stale(command, story.run) or _beat(command, story)
        case asked.ClaimStep():
            return _claim(command, story)
        case asked.CompleteStep():
            return _complete(command, story)
        case asked.FailStep():
            return _fail(command, story)
        case _:
            assert_never(command)


def _stale(command: Held, run: Run) -> Rejected | None:
    """Return why the sender does not hold the lease it names; None if it does."""
    step = run.steps.get(command.step)
    if step is None:
        return Rejected("stale_lease", f"the run has no step {command.step!r}")
    if run.ended:
        return Rejected(
            "stale_lease", f"the run {how_it_ended(run.status)}: stop the attempt and drop its result"
        )
    if step.status != "running" or (step.attempt, step.token) != (command.attempt, command.token):
        now = f"attempt {step.attempt} is {step.status}"
        return Rejected(
            "stale_lease", f"attempt {command.attempt} of {command.step} is not held by this token: {now}"
        )
    return None


def _beat(command: asked.Heartbeat, story: Story) -> Decision:
    """Only a new checkpoint is a fact; the rest of a heartbeat is kept in memory (``touch``)."""
    text = command.checkpoint
    if text is None or text == story.run.steps[command.step].checkpoint:
        return ()
    if len(text) > CHECKPOINT_CHARS_MAX:
        size = f"the checkpoint has {len(text)} characters, more than {CHECKPOINT_CHARS_MAX}"
        return Rejected("invalid", f"{size}: save where the data is, not the data")
    if as_mapping(text) is None:
        return Rejected("invalid", 'checkpoint is no JSON object, as text: send {"page": 7}')
    story.tell(
        happened.StepCheckpointed(
            step=command.step,
            attempt=command.attempt,
            checkpoint=text,
            records_in=command.records_in,
            records_out=command.records_out,
            records_rejected=command.records_rejected,
            bytes=command.bytes,
            percent=command.percent,
            text=command.text,
            at=story.now,
        )
    )
    return tuple(story.events)


def _claim(command: asked.ClaimStep, story: Story) -> Decision:
    run = story.run
    step = run.steps.get(command.step)
    if step is None:
        return Rejected("stale_lease", f"the run has no step {command.step!r}")
    if run.ended:
        return Rejected("stale_lease", f"the run {how_it_ended(run.status)}: drop the offer")
    if not command.token:
        return Rejected("invalid", "a claim needs a token: a fresh uuid")
    if step.status == "running" and (step.attempt, step.token) == (command.attempt, command.token):
        return ()
    if step.status != "queued" or step.attempt != command.attempt:
        now = f"attempt {step.attempt} is {step.status}"
        return Rejected("stale_lease", f"attempt {command.attempt} of {command.step} is not on offer: {now}")
    if run.status == "paused":
        return Rejected("paused", "the run is paused: drop the offer, it is made again when the run goes on")
    if lacking := missing(run.plan.step(command.step).runs_on, command.labels):
        said = f"runner {command.runner} is not labelled {', '.join(lacking)}, and step {command.step} asks for it"
        return Rejected("invalid", f"{said}: read the topics of your own labels only")
    story.tell(
        happened.StepClaimed(
            command.step, command.attempt, command.token, command.runner, story.now, command.labels
        )
    )
    return tuple(story.events)


def _complete(command: asked.CompleteStep, story: Story) -> Decision:
    if _recorded(command, story.run, ("succeeded", "compensated")):
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
    go_on(story, command.step)
    return tuple(story.events)


def _fail(command: asked.FailStep, story: Story) -> Decision:
    if _recorded(command, story.run, ("failed", "timed_out", "retrying")):
        return ()
    if rejected := _stale(command, story.run):
        return rejected
    step = story.run.steps[command.step]
    if command.handed_back:  # the next attempt's time has come at once
        story.tell(happened.StepLost(step.name, step.attempt, step.runner, story.now, handed_back=True))
        return tuple(story.events)
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
    timeout_ms = story.run.plan.step(step.name).timeout_ms
    return (
        timeout_ms is not None and step.started_at is not None and story.now - step.started_at >= timeout_ms
    )


def _bad_output(text: str) -> str | None:
    # Later steps are given it inside their offer: what nobody could read or carry must end here.
    if len(text) > OUTPUT_CHARS_MAX:
        return f"the step's output has {len(text)} characters, more than {OUTPUT_CHARS_MAX}"
    return None if as_mapping(text) is not None else "the step's output is no JSON object"
