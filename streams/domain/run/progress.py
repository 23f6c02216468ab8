"""What follows from a step's result: offers, retries, skips, the end. Told event by event onto the run."""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from streams.domain import duration, instant
from streams.domain.aggregate import Rejected
from streams.domain.definition import Retry, StepDefinition, compact
from streams.domain.expressions import Language, Wrong, fill
from streams.domain.kinds import WAITING_KINDS
from streams.domain.run import events as happened
from streams.domain.run.evolve import evolve
from streams.domain.run.scope import scope
from streams.domain.run.state import Run, Step

QUEUE = "default"
SETTINGS_CHARS_MAX = 262_144

Decision = tuple[happened.Event, ...] | Rejected


class Story:
    """The events of one decision, and the run as it is after them."""

    def __init__(self, run_id: str, run: Run, now: int, language: Language) -> None:
        self.run_id = run_id
        self.run = run
        self.now = now
        self.language = language
        self.events: list[happened.Event] = []

    def tell(self, event: happened.Event) -> None:
        """Add the event, and fold it onto the run."""
        self.events.append(event)
        self.run = evolve(self.run, event)


def offer(story: Story, step: Step) -> None:
    """Offer the step's next attempt."""
    _offer(story, step, step.attempt + 1)


def offer_again(story: Story, step: Step) -> None:
    """Offer an attempt once more that nobody has claimed."""
    _offer(story, step, step.attempt)


def _offer(story: Story, step: Step, attempt: int) -> None:
    try:
        settings = _settings(story, step)
    except Wrong as error:
        fail_step(story, step, str(error), "", "failed")
        return
    text = compact(settings) if story.run.plan.steps[step.name].dynamic else None
    story.tell(happened.StepOffered(step.name, attempt, QUEUE, story.now, text))


def _settings(story: Story, step: Step) -> Mapping[str, Any]:
    """Return the step's block with the values of its expressions in place."""
    plan = story.run.plan.steps[step.name]
    if not plan.dynamic:
        return plan.spec
    block = fill(story.language, plan.kind, plan.spec, scope(story.run_id, story.run), ("argv", "env"))
    if len(compact(block)) > SETTINGS_CHARS_MAX:
        raise Wrong(f"{plan.kind}: has more than {SETTINGS_CHARS_MAX} characters with all values in place")
    return block


def ready(run: Run, name: str) -> bool:
    """Return whether the step waits for nothing any more."""
    if run.steps[name].status != "pending" or run.waiting_for is not None:
        return False
    return all(run.steps[before].status == "succeeded" for before in run.plan.steps[name].after)


def begin(story: Story) -> None:
    """Ask the next limit to let the run in; start its first steps once all have.

    One limit after the other, by name: two runs that need the same ones cannot wait for each other.
    """
    run = story.run
    missing = sorted(name for name in run.plan.limits if name not in run.limits)
    if missing and run.unended:
        story.tell(happened.LimitAwaited(missing[0], run.plan.limits[missing[0]], story.now))
    else:
        proceed(story)


def proceed(story: Story) -> None:
    """Start every step that waits for nothing, unless the run is paused; end the run when all is done."""
    _start_ready(story, story.run.steps)
    end_if_done(story)


def go_on(story: Story, name: str) -> None:
    """Start what waited for this step alone, unless the run is paused; end the run if it was the last."""
    _start_ready(story, story.run.plan.dependents[name])
    end_if_done(story)


def _start_ready(story: Story, names: Iterable[str]) -> None:
    if story.run.status == "paused":
        return
    todo = deque(names)
    while todo:  # no recursion: a thousand steps in a row may each end in the moment they begin
        name = todo.popleft()
        if ready(story.run, name):
            _start(story, story.run.steps[name])
            if story.run.steps[name].ended:
                todo.extend(story.run.plan.dependents[name])


def _start(story: Story, step: Step) -> None:
    plan = story.run.plan.steps[step.name]
    if plan.kind not in WAITING_KINDS:
        offer(story, step)
        return
    try:
        until = _until(_settings(story, step), story.now)
    except ValueError as error:
        fail_step(story, step, str(error), "", "failed")
        return
    story.tell(happened.StepWaiting(step.name, _waits_for(plan), until, story.now))
    if plan.kind == "wait" and until is not None and until <= story.now:
        _succeeded(story, step.name, "{}")
    for name, payload in story.run.signals:
        if plan.kind == "signal" and name == plan.signal:
            _succeeded(story, step.name, payload)
            return


def _until(block: Mapping[str, Any], now: int) -> int | None:
    try:
        if "until" in block:
            return instant.parse(block["until"])
        length = block.get("for", block.get("deadline"))
        return None if length is None else now + duration.parse(length)
    except (ValueError, TypeError) as error:
        raise Wrong(f"wait: {error}") from None


def _waits_for(plan: StepDefinition) -> str:
    if plan.kind == "signal":
        return f"signal {plan.signal}"
    if plan.kind == "approval":
        return f"approval by {' or '.join(plan.spec['by'])}" if plan.spec.get("by") else "approval"
    return "time"


def succeed(story: Story, name: str, output: str) -> None:
    """End a step that no runner took, and go on."""
    _succeeded(story, name, output)
    go_on(story, name)


def _succeeded(story: Story, name: str, output: str) -> None:
    story.tell(happened.StepSucceeded(name, 0, output, 0, 0, 0, 0, story.now))


def fail_attempt(
    story: Story, step: Step, error: str, tail: str, *, retryable: bool, timed_out: bool
) -> None:
    """Retry the step later if it may be retried; else fail it, skip what comes after it, leave other branches alone."""
    retry = story.run.plan.steps[step.name].retry
    if retryable and step.failures + 1 < retry.attempts:
        pause_ms = backoff_ms(retry, step.failures + 1, f"{story.run_id}/{step.name}/{step.attempt}")
        retry_at = story.now + pause_ms
        story.tell(happened.StepRetryScheduled(step.name, step.attempt, error, tail, retry_at, story.now))
    else:
        fail_step(story, step, error, tail, "timed_out" if timed_out else "failed")


def fail_step(story: Story, step: Step, error: str, tail: str, status: str) -> None:
    """Fail the step for good, skip everything downstream of it, end the run if nothing is left to do."""
    story.tell(happened.StepFailed(step.name, step.attempt, error, tail, status, story.now))
    downstream = story.run.plan.downstream(step.name)
    for name in story.run.steps:
        if name in downstream and story.run.steps[name].status == "pending":
            story.tell(happened.StepSkipped(name, f"step {step.name} {_HOW[status]}", story.now))
    end_if_done(story)


def end_if_done(story: Story) -> None:
    """End the run, as failed if any step failed, when every step is at its end."""
    if story.run.unended or story.run.ended:
        return
    for step in story.run.steps.values():
        if step.status in _HOW:
            end(story, "failed", f"step {step.name} {_HOW[step.status]}: {step.error}")
            return
    end(story, "succeeded", None)


def stop(story: Story, status: str, error: str | None) -> None:
    """Cancel whatever is not at its end, and end the run."""
    for step in tuple(story.run.steps.values()):
        if not step.ended:
            story.tell(happened.StepCancelled(step.name, step.attempt, story.now))
    end(story, status, error)


def end(story: Story, status: str, error: str | None) -> None:
    """Tell the one terminal event."""
    run = story.run
    story.tell(happened.RunEnded(status, error, run.pipeline, run.slot, run.trigger, story.now))


def backoff_ms(retry: Retry, failures: int, seed: str) -> int:
    """Return how long to wait after so many failures: exponential up to ``max_ms``, at least 1 ms.

    Full jitter takes a fraction of it that depends on ``seed`` only, so that a replay waits alike.
    """
    longest = min(float(retry.max_ms), retry.initial_ms * retry.multiplier ** (failures - 1))
    if retry.jitter == "full":
        longest *= int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64
    return max(1, int(longest))


_HOW = {"failed": "failed", "timed_out": "timed out"}
