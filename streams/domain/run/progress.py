"""What follows from a step's result: offers, retries, skips, the end. Told event by event onto the run."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from streams.domain import duration
from streams.domain.definition import StepDefinition, compact
from streams.domain.expressions import Wrong
from streams.domain.kinds import OWN_KINDS, compensation_of, undone_by
from streams.domain.run import events as happened
from streams.domain.run.offers import offer_attempt
from streams.domain.run.settings import choose, over, partitions, settled, tolerated, unsettled, until, wanted
from streams.domain.run.state import FAN_CHARS_MAX, Counts, Fan, Run, Step, item_of
from streams.domain.run.story import Story
from streams.domain.run.timing import backoff_ms

PARALLEL = 100
"""So many items of a map step are on offer or at work at once, unless the file says otherwise."""


def offer(story: Story, step: Step) -> None:
    """Offer the step's next attempt."""
    _offer(story, step, step.attempt + 1)


def offer_again(story: Story, step: Step) -> None:
    """Offer an attempt once more that nobody has claimed."""
    _offer(story, step, step.attempt)


def _offer(story: Story, step: Step, attempt: int) -> None:
    offer_attempt(story, step, attempt)
    if step.name in story.run.plan.steps and story.run.steps[step.name].ended:
        _failed(story, step.name, "failed")


def _waits(run: Run, name: str) -> bool:
    """Return whether the step is not to begin now: it has begun, or steps before it have not ended."""
    plan = run.plan.steps[name]
    if (
        run.steps[name].status != "pending"
        or run.waiting_for is not None
        or plan.last != (run.closing is not None)
    ):
        return True
    return not all(run.steps[before].ended for before in plan.after)


def begin(story: Story) -> None:
    """Ask the next limit to let the run in; start its first steps once all have.

    One limit after the other, in one order: two runs that need the same ones cannot wait for each other.
    """
    run = story.run
    needs = run.needs
    missing = next((name for name in needs if name not in run.limits), None)
    if missing is not None and (run.unended or run.unended_last):
        story.tell(happened.LimitAwaited(missing, needs[missing], story.now))
    else:
        proceed(story)


def proceed(story: Story) -> None:
    """Start every step that waits for nothing, unless the run is paused; end the run when all is done."""
    _start_ready(story, story.run.plan.steps)
    fan_on(story)
    end_if_done(story)


def go_on(story: Story, name: str) -> None:
    """Start what waited for this step alone, unless the run is paused; end the run if it was the last."""
    if item_of(name):
        fan_on(story)
        return
    if not undone_by(name):
        _start_ready(story, story.run.plan.dependents[name])
    end_if_done(story)


def _start_ready(story: Story, names: Iterable[str]) -> None:
    if story.run.status == "paused":
        return
    todo = deque(names)
    while todo:  # no recursion: a thousand steps in a row may each end in the moment they begin
        name = todo.popleft()
        if not _waits(story.run, name):
            told = len(story.events)
            _start(story, story.run.steps[name])
            for event in story.events[told:]:
                if isinstance(event, happened.StepSucceeded | happened.StepSkipped):
                    todo.extend(story.run.plan.dependents[event.step])


def _start(story: Story, step: Step) -> None:
    plan = story.run.plan.steps[step.name]
    if plan.after and all(story.run.steps[before].skipped == "condition" for before in plan.after):
        skip(story, step.name, "all steps before it were skipped", "condition")
        return
    try:
        if not wanted(plan, story.language, story.scope):
            skip(story, step.name, f"when {plan.when} is false", "condition")
        elif plan.kind == "switch":
            _choose(story, plan)
        elif plan.kind == "map":
            items = _items(story, plan)
            story.tell(happened.StepMapped(plan.name, compact(items), len(items), story.now))
            _fan(story, plan)
        elif plan.kind == "repeat":
            story.tell(happened.StepMapped(plan.name, "[]", plan.spec["max"], story.now))
            _turn(story, plan)
        elif plan.kind in OWN_KINDS:
            _wait(story, plan)
        else:
            offer(story, step)
    except Wrong as error:
        fail_step(story, step, str(error), "", "failed")


def _items(story: Story, plan: StepDefinition) -> list[Any]:
    if "dataset" in plan.spec:
        return partitions(plan, story.run.steps[plan.spec["dataset"]].output)
    return over(plan, story.language, story.scope)


def skip(story: Story, name: str, reason: str, cause: str) -> None:
    """Leave the step out; what comes after it is looked at by the caller."""
    story.tell(happened.StepSkipped(name, reason, story.now, cause))


def _choose(story: Story, plan: StepDefinition) -> None:
    taken, others = choose(plan, story.language, story.scope)
    _succeeded(story, plan.name, compact({"chosen": taken}))
    for name in others:
        if story.run.steps[name].status == "pending":
            skip(story, name, f"switch {plan.name} chose {', '.join(taken) or 'nothing'}", "condition")


def fan_on(story: Story) -> None:
    """Offer items of map steps while fewer than they want are at work, and the next turns of repeats; go on from those
    whose items or turns are done.
    """
    for name in story.run.plan.items:
        plan, step = story.run.plan.steps[name], story.run.steps[name]
        if step.fan is not None and not step.ended:
            (_turn if plan.kind == "repeat" else _fan)(story, plan)
            if story.run.steps[name].status == "succeeded":
                go_on(story, name)


def _fan(story: Story, plan: StepDefinition) -> None:
    parallel: int = plan.spec.get("max_parallel", PARALLEL)
    while True:
        fan = story.run.steps[plan.name].fan
        assert fan is not None
        allowed = tolerated(plan, fan.total)
        if fan.failed > allowed:
            drop_items(story, plan.name)
            error = f"{fan.failed} of {fan.total} items failed, more than {allowed}; the first: {fan.error}"
            fail_step(story, story.run.steps[plan.name], error, "", "failed")
            return
        if fan.next == fan.total and not fan.live:
            _succeeded(story, plan.name, _joined(fan), fan.counts)
            return
        if story.run.status == "paused" or fan.next == fan.total or fan.live >= parallel:
            return
        offer(story, story.run.step(f"{plan.name}[{fan.next}]"))


def _turn(story: Story, plan: StepDefinition) -> None:
    """End a repeat whose last turn brought what is wanted, or has failed; else begin the next turn, or wait for it."""
    while True:
        step = story.run.steps[plan.name]
        fan = step.fan
        assert fan is not None
        if fan.live:
            return
        try:
            if fan.failed:
                fail_step(story, step, f"turn {fan.error}", "", "failed")
            elif _settled(story, plan, fan):
                _succeeded(story, plan.name, fan.result)
            elif fan.next == fan.total:
                fail_step(story, step, unsettled(plan), "", "failed")
        except Wrong as error:
            fail_step(story, step, str(error), "", "failed")
        if story.run.steps[plan.name].ended:
            return
        name = f"{plan.name}[{fan.next}]"
        wait_ms = duration.parse(plan.spec.get("wait", "0s")) if fan.next else 0
        if wait_ms:
            story.tell(happened.StepWaiting(name, "time", story.now + wait_ms, story.now))
        elif story.run.status == "paused":
            return
        else:
            offer(story, story.run.step(name))


def _settled(story: Story, plan: StepDefinition, fan: Fan) -> bool:
    """Return whether the turn before brought what is wanted; one that was left out by hand brought nothing."""
    last = fan.next - 1
    if not fan.outputs or fan.outputs[-1][0] != last:
        return False
    return settled(plan, story.language, story.scope_of(f"{plan.name}[{last}]"))


def _joined(fan: Fan) -> str:
    """Return a map step's output: the outputs by item, null for one that has none; all null when they are too large."""
    outputs = dict(fan.outputs)
    kept = fan.chars <= FAN_CHARS_MAX
    listed = ",".join(outputs.get(index, "null") for index in range(fan.total)) if kept else None
    return f'{{"total":{fan.total},"failed":{fan.failed},"outputs":{"null" if listed is None else f"[{listed}]"}}}'


def drop_items(story: Story, name: str) -> None:
    """Cancel the items of a map step, or the turn of a repeat, that are at work."""
    for step in tuple(story.run.steps.values()):
        if item_of(step.name) == name:
            story.tell(happened.StepCancelled(step.name, step.attempt, story.now))


def _wait(story: Story, plan: StepDefinition) -> None:
    ends = until(plan, story.language, story.scope, story.now)
    story.tell(happened.StepWaiting(plan.name, _waits_for(plan), ends, story.now))
    if plan.kind == "wait" and ends is not None and ends <= story.now:
        _succeeded(story, plan.name, "{}")
    for name, payload in story.run.signals:
        if plan.kind == "signal" and name == plan.signal:
            _succeeded(story, plan.name, payload)
            return


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


def _succeeded(story: Story, name: str, output: str, counts: Counts = (0, 0, 0, 0)) -> None:
    attempt = story.run.steps[name].attempt
    story.tell(happened.StepSucceeded(name, attempt, output, *counts, story.now))


def fail_attempt(
    story: Story, step: Step, error: str, tail: str, *, retryable: bool, timed_out: bool
) -> None:
    """Retry the step later if it may be retried; else fail it, skip what comes after it, leave other branches alone."""
    retry = story.run.plan.step(step.name).retry
    if retryable and retry.again(step.failures + 1, error, tail):
        pause_ms = backoff_ms(retry, step.failures + 1, f"{story.run_id}/{step.name}/{step.attempt}")
        retry_at = story.now + pause_ms
        story.tell(happened.StepRetryScheduled(step.name, step.attempt, error, tail, retry_at, story.now))
    else:
        fail_step(story, step, error, tail, "timed_out" if timed_out else "failed")


def fail_step(story: Story, step: Step, error: str, tail: str, status: str) -> None:
    """Fail the step for good, skip everything downstream of it, end the run if nothing is left to do."""
    story.tell(happened.StepFailed(step.name, step.attempt, error, tail, status, story.now))
    _failed(story, step.name, status)


def _failed(story: Story, failed: str, status: str) -> None:
    if item_of(failed):
        fan_on(story)
        return
    downstream = frozenset() if undone_by(failed) else story.run.plan.downstream(failed)
    for name in story.run.steps:
        if name in downstream and story.run.steps[name].status == "pending":
            story.tell(happened.StepSkipped(name, f"step {failed} {_HOW[status]}", story.now))
    end_if_done(story)


def end_if_done(story: Story) -> None:
    """Go on to the next part when one is at its end: the steps proper, compensations, ``finally`` steps, the run.

    Failed, if any step failed.
    """
    run = story.run
    if run.ended or run.unended or run.waiting_for is not None:
        return
    if run.ending is None:
        status, error = _verdict(run, last=False)
        if run.status != "paused" or not (run.unended_last or _undoable(run, status)):
            _conclude(story, status, error)
    elif run.closing is None:
        _undo(story)
    elif not run.unended_last:
        status, error = run.closing
        end(story, *(_verdict(run, last=True) if status == "succeeded" else (status, error)))


def _verdict(run: Run, *, last: bool) -> tuple[str, str | None]:
    for step in run.steps.values():
        if step.status in _HOW and run.plan.step(step.name).last == last and not undone_by(step.name):
            return "failed", f"step {step.name} {_HOW[step.status]}: {step.error}"
    return "succeeded", None


def _undoable(run: Run, status: str) -> bool:
    return status != "succeeded" and bool(run.done)


def _conclude(story: Story, status: str, error: str | None) -> None:
    """Undo what was done, the latest first, if the run does not succeed; then begin the ``finally`` steps."""
    if _undoable(story.run, status):
        steps = [compensation_of(name) for name in reversed(story.run.done)]
        story.tell(happened.RunCompensating(status, error, compact(steps), story.now))
        _undo(story)
    else:
        _close(story, status, error)


def _undo(story: Story) -> None:
    """Offer the next compensation when the one before has ended, however; begin the ``finally`` steps after the last one."""
    assert story.run.compensating is not None
    undoing = [name for name in story.run.steps if undone_by(name)]
    for name in undoing:
        if story.run.steps[name].status == "pending":
            offer(story, story.run.steps[name])
        if not story.run.steps[name].ended:
            return
    status, error = story.run.compensating
    failed = [step for name in undoing if (step := story.run.steps[name]).status in _HOW]
    told = [f"compensation of {undone_by(step.name)} {_HOW[step.status]}: {step.error}" for step in failed]
    _close(story, status, "; ".join([*([error] if error else []), *told]) or None)


def _close(story: Story, status: str, error: str | None) -> None:
    """Begin the ``finally`` steps, if there are any to do; else end the run."""
    if not story.run.unended_last:
        end(story, status, error)
        return
    story.tell(happened.RunFinishing(status, error, story.now))
    _start_ready(story, [name for name, step in story.run.plan.steps.items() if step.last])
    end_if_done(story)


def stop(story: Story, status: str, error: str | None, *, now: bool = False) -> None:
    """Cancel whatever is not at its end, then compensate and begin the ``finally`` steps.

    Without these if ``now``, or nothing has begun.
    """
    run = story.run
    without = now or run.started_at is None
    for step in tuple(run.steps.values()):
        if not step.ended and (without or not run.plan.step(step.name).last):
            story.tell(happened.StepCancelled(step.name, step.attempt, story.now))
    if without:
        _close(story, status, error)
    else:
        _conclude(story, status, error)


def end(story: Story, status: str, error: str | None) -> None:
    """Tell the one terminal event."""
    run = story.run
    story.tell(happened.RunEnded(status, error, run.pipeline, run.slot, run.trigger, story.now))


_HOW = {"failed": "failed", "timed_out": "timed out"}
