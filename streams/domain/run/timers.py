"""What a run waits for, and what happens when it comes: leases, retries, timeouts, the end of a step's waiting."""

from msgspec.structs import replace

from streams.domain import duration
from streams.domain.aggregate import Message
from streams.domain.run import events as happened
from streams.domain.run.commands import Heartbeat
from streams.domain.run.evolve import progressed
from streams.domain.run.progress import end_if_done, fail_attempt, fail_step, fan_on, offer, stop
from streams.domain.run.state import Run, Step, item_of
from streams.domain.run.story import Story
from streams.domain.run.timing import LOST_MAX, TIMEOUT_GRACE_MS, WAKE_MS
from streams.domain.run.waits import silence

# An offer that nobody claims needs no timer of its own accord: the record on the task topic was written in the
# transaction of its StepOffered, so it cannot be missing; it waits there until a runner is free, whose claim takes it off
# the topic in one transaction with the claim itself. Only the file may say for how long.


def due(run: Run) -> int | None:
    """Return when the run wants its next Tick, in ms since the epoch."""
    if not run.exists or run.ended:
        return None
    times = [time for step in run.steps.values() if (time := _step_due(run, step)) is not None]
    if run.plan.timeout_ms is not None and run.ending is None:
        times.append(run.created_at + run.plan.timeout_ms)
    return min(times, default=None)


def _step_due(run: Run, step: Step) -> int | None:
    if step.status == "retrying":
        return None if run.status == "paused" else step.retry_at
    # What is paused nobody may take; it is offered anew, for as long as at first, when the run goes on.
    if step.status == "queued" or (step.status == "waiting" and item_of(step.name)):
        return None if run.status == "paused" else step.until
    if step.status == "waiting":
        return step.until
    if step.status != "running" or step.lease_until is None:
        return None
    overdue = _overdue_at(run, step)
    return step.lease_until if overdue is None else min(step.lease_until, overdue)


def _overdue_at(run: Run, step: Step) -> int | None:
    timeout_ms = run.plan.step(step.name).timeout_ms
    if timeout_ms is None or step.started_at is None:
        return None
    return step.started_at + timeout_ms + TIMEOUT_GRACE_MS


def tick(story: Story) -> None:
    """Tell everything that is due by now; nothing, if nothing is. Afterwards ``due`` lies ahead, or nothing is due."""
    run = story.run
    if run.ended:
        return
    limit_ms = run.plan.timeout_ms
    if limit_ms is not None and run.ending is None and story.now >= run.created_at + limit_ms:
        stop(story, "timed_out", f"the run took longer than its timeout of {duration.render(limit_ms)}")
        return
    for name in run.steps:
        step = story.run.steps.get(name)  # an item may have ended with its step
        time = None if step is None else _step_due(story.run, step)
        if step is None or time is None or time > story.now:
            continue
        if step.status == "retrying" or (step.status == "waiting" and item_of(name)):
            offer(story, step)
        elif step.status == "waiting":
            silence(story, step)
        elif step.status == "queued":
            _not_taken(story, step)
        else:
            _give_up(story, step)
    fan_on(story)
    end_if_done(story)


def _not_taken(story: Story, step: Step) -> None:
    """Fail a step that no runner has taken. It is not tried again: it would wait in the same place."""
    limit = duration.render(story.run.plan.step(step.name).start_timeout_ms or 0)
    fail_step(story, step, f"no runner took it within {limit}", "", "timed_out")


def _give_up(story: Story, step: Step) -> None:
    """Stop waiting for an attempt: it took too long, or its runner is gone."""
    overdue = _overdue_at(story.run, step)
    if overdue is not None and story.now >= overdue:
        limit = duration.render(story.run.plan.step(step.name).timeout_ms or 0)
        error = f"the attempt took longer than its timeout of {limit}"
        fail_attempt(story, step, error, "", retryable=True, timed_out=True)
        return
    story.tell(happened.StepLost(step.name, step.attempt, step.runner, story.now))
    lost = story.run.steps[step.name]
    if lost.lost >= LOST_MAX:
        fail_step(
            story, lost, f"{lost.lost} attempts were lost, the last one on runner {step.runner}", "", "failed"
        )
    elif story.run.status != "paused":
        offer(story, lost)


def touch(message: Message, run: Run) -> Run:
    """Extend the lease and take over how far a heartbeat that was accepted says it is. Kept in memory only."""
    command = message.body
    if not isinstance(command, Heartbeat):
        return run
    return run.with_step(progressed(run.steps[command.step], command, message.now))


def wake(run: Run, now: int) -> Run:
    """Give every claimed lease time for its next heartbeat: the earlier ones went to an owner that is gone."""
    for step in run.steps.values():
        if step.status == "running" and (step.lease_until or 0) < now + WAKE_MS:
            run = run.with_step(replace(step, lease_until=now + WAKE_MS))
    return run
