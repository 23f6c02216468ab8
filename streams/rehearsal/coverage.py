"""Which ways through a pipeline were taken: every step, and every branch that could be, with how often it was."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streams.domain.definition import Definition, StepDefinition
from streams.domain.expressions import evaluate, whole
from streams.domain.kinds import FAN_KINDS, OWN_KINDS, compensation_of, undone_by
from streams.domain.run import events as happened
from streams.domain.run.scope import scope
from streams.domain.run.settings import unsettled
from streams.domain.run.state import Run
from streams.expressions import LANGUAGE

RUN = "(run)"
"""Stands for the run as a whole where a step is named."""
SKIPPED = "skipped after a failure"
NOT_CHOSEN = "not chosen"
AGAIN, USED_UP = "another turn", "turns used up"
NOT_TAKEN = "not taken in time"
COMPENSATED, NOT_COMPENSATED = "compensated", "compensation failed"
Way = tuple[str, str]
"""Step and branch."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One branch of a step, and how often it was taken."""

    step: str
    branch: str
    times: int


def coverage(plan: Definition, ways: Counter[Way]) -> list[Taken]:
    """Return every branch in the file's order, taken or not; what nobody plans for (a lost runner) only if it was."""
    wanted = list(_wanted(plan))
    others = sorted(ways.keys() - set(wanted))
    places = {name: place for place, name in enumerate((RUN, *plan.steps))}
    listed = sorted((*wanted, *others), key=lambda way: places[way[0]])
    return [Taken(step, branch, ways[step, branch]) for step, branch in listed]


def _wanted(plan: Definition) -> Iterator[Way]:
    for branch in ("succeeded", "failed", *(("timed out",) if plan.timeout_ms is not None else ())):
        yield RUN, branch
    for limit in plan.limits:
        yield RUN, f"waited for limit {limit}"
    unchosen = _unchosen(plan)
    for step in plan.steps.values():
        for branch in _branches(plan, step):
            yield step.name, branch
        if compensation_of(step.name) in plan.compensations:
            yield from ((step.name, COMPENSATED), (step.name, NOT_COMPENSATED))
        if step.after:
            yield step.name, SKIPPED
        if step.name in unchosen:
            yield step.name, NOT_CHOSEN


def _unchosen(plan: Definition) -> set[str]:
    """Return the steps that conditions before them may leave out: a switch's, and what comes after skipped ones only."""
    unchosen = {
        name
        for step in plan.steps.values()
        if step.kind == "switch"
        for names in (*(case["then"] for case in step.spec["cases"]), step.spec.get("default", ()))
        for name in names
    }
    passed = unchosen | {step.name for step in plan.steps.values() if step.when is not None}
    todo = list(passed)
    while todo:
        for name in plan.dependents[todo.pop()]:
            if name not in unchosen and passed.issuperset(plan.steps[name].after):
                unchosen.add(name)
                if name not in passed:
                    passed.add(name)
                    todo.append(name)
    return unchosen


def _branches(plan: Definition, step: StepDefinition) -> Iterator[str]:
    if step.when is not None:
        yield from ("when true", "when false")
    if step.kind == "switch":
        yield from (_case(step, index) for index in range(len(step.spec["cases"]) + 1))
    elif step.kind == "wait":
        yield "waited"
    elif step.kind in OWN_KINDS:
        yield from ("approved", "rejected") if step.kind == "approval" else ("signal",)
        if "deadline" in step.spec:
            yield "silence"
    else:
        yield from ("succeeded", "failed")
        if step.kind == "map" and step.spec.get("tolerated_failures", 0) not in {0, "0%"}:
            yield "item failed"
        if step.kind == "repeat":
            yield from (AGAIN, USED_UP) if step.spec["max"] > 1 else (USED_UP,)
        if step.retry.attempts > 1:
            yield "retried"
        if (plan.items[step.name] if step.kind in FAN_KINDS else step).timeout_ms is not None:
            yield "timed out"
        if step.start_timeout_ms is not None:
            yield NOT_TAKEN


def _case(step: StepDefinition, index: int) -> str:
    cases = step.spec["cases"]
    return f"case {index + 1}: {whole(cases[index]['when'])}" if index < len(cases) else "default"


def ways(run_id: str, run: Run, events: Iterable[happened.Event]) -> Counter[Way]:
    """Count the branches that a run took. ``events`` are all of the run's, in order; ``run`` is their fold."""
    taken: Counter[Way] = Counter()
    walk = _Walk(run_id, run)
    for event in events:
        taken.update(walk.after(event))
    return taken


class _Walk:
    """What must be remembered of the events before to know what the next one means."""

    def __init__(self, run_id: str, run: Run) -> None:
        self.run_id = run_id
        self.run = run
        self.before: happened.Event | None = None
        self.awaited: dict[str, int] = {}
        self.claimed: dict[str, int] = {}
        self.waiting: set[str] = set()
        self.decided: set[str] = set()
        self.begun: set[str] = set()

    def after(self, event: happened.Event) -> Iterator[Way]:
        """Return the branches that the event takes."""
        if isinstance(event, happened.RunEnded):
            yield RUN, event.status.replace("_", " ")
        if isinstance(event, happened.LimitAwaited):
            self.awaited[event.limit] = event.at
        if isinstance(event, happened.LimitGranted) and event.at > self.awaited[event.limit]:
            yield RUN, f"waited for limit {event.limit}"
        if not isinstance(event, happened.StepEvent | happened.StepClaimed | happened.StepWaiting
                          | happened.StepMapped | happened.StepCalled | happened.StepSucceeded):  # fmt: skip
            self.before = event
            return
        if undone := undone_by(event.step):
            yield from _undone(event, undone)
            return
        name, item, _ = event.step.partition("[")
        plan = self.run.plan.steps[name]
        begins = isinstance(
            event, happened.StepOffered | happened.StepWaiting | happened.StepMapped | happened.StepCalled
        ) or (plan.kind == "switch" and isinstance(event, happened.StepSucceeded))
        if begins and plan.when is not None and name not in self.begun:
            self.begun.add(name)
            yield name, "when true"
        for branch in self._branches(event, plan, is_item=bool(item)):
            yield name, branch
        self.before = event

    def _branches(self, event: happened.Event, plan: StepDefinition, *, is_item: bool) -> Iterator[str]:
        if isinstance(event, happened.StepOffered):
            self.claimed.pop(event.step, None)
        match event:
            case happened.StepOffered() | happened.StepWaiting() if plan.kind == "repeat":
                yield from self._turned(event.step)
            case happened.StepClaimed() | happened.StepCalled():
                self.claimed[event.step] = event.at
            case happened.StepWaiting():
                self.waiting.add(event.step)
            case happened.StepDecided():
                self.decided.add(event.step)
                yield event.decision
            case happened.StepSucceeded():
                yield from () if event.reused or is_item else self._ended(event, plan)
            case happened.StepRetryScheduled():
                yield "retried"
                yield from self._late(event)
            case happened.StepFailed():
                yield from self._late(event)
                yield from _item_failed(plan) if is_item else self._ended(event, plan)
            case happened.StepSkipped():
                yield _skipped(event, plan)
            case happened.StepLost():
                yield "runner lost"
            case happened.StepCancelled():
                yield "cancelled"

    def _ended(
        self, event: happened.StepSucceeded | happened.StepFailed, plan: StepDefinition
    ) -> Iterator[str]:
        if plan.kind == "switch" and isinstance(event, happened.StepSucceeded):
            yield _case(plan, self._chosen(plan))
        elif isinstance(event, happened.StepFailed) and plan.kind == "repeat":
            yield USED_UP if event.error == unsettled(plan) else "failed"
        elif event.step not in self.waiting:
            yield "succeeded" if isinstance(event, happened.StepSucceeded) else "failed"
        elif plan.kind == "wait":
            yield "waited"
        elif plan.kind == "signal":
            yield "signal" if self._came(event, plan) else "silence"
        elif event.step not in self.decided:
            yield "silence"

    def _turned(self, name: str) -> Iterator[str]:
        """Return whether a turn after the first begins, or is waited for."""
        if name not in self.begun and not name.endswith("[0]"):
            yield AGAIN
        self.begun.add(name)

    def _came(self, event: happened.StepSucceeded | happened.StepFailed, plan: StepDefinition) -> bool:
        """Return whether a signal ended the waiting: it was told just before, or lay ready when the waiting began."""
        match self.before:
            case happened.SignalReceived(name=name):
                return name == plan.signal
            case happened.StepWaiting(step=step, at=at):
                return (step, at) == (event.step, event.at)
            case _:
                return False

    def _chosen(self, plan: StepDefinition) -> int:
        for index, case in enumerate(plan.spec["cases"]):
            if (
                evaluate(LANGUAGE, whole(case["when"]) or "", lambda used: scope(self.run_id, self.run, used))
                is True
            ):
                return index
        return len(plan.spec["cases"])

    def _late(self, event: happened.StepRetryScheduled | happened.StepFailed) -> Iterator[str]:
        plan, begun = self.run.plan.step(event.step), self.claimed.get(event.step)
        limit_ms = plan.timeout_ms
        if begun is None and plan.start_timeout_ms is not None and _timed_out(event):
            yield NOT_TAKEN
        if limit_ms is not None and begun is not None and event.at - begun >= limit_ms:
            yield "timed out"


def _timed_out(event: happened.Event) -> bool:
    return isinstance(event, happened.StepFailed) and event.status == "timed_out"


def _item_failed(plan: StepDefinition) -> Iterator[str]:
    """Return what the failure of an item means; that of a turn is the step's."""
    if plan.kind == "map":
        yield "item failed"


def _undone(event: happened.Event, step: str) -> Iterator[Way]:
    match event:
        case happened.StepSucceeded():
            yield step, COMPENSATED
        case happened.StepFailed():
            yield step, NOT_COMPENSATED
        case happened.StepRetryScheduled():
            yield step, "compensation retried"


def _skipped(event: happened.StepSkipped, plan: StepDefinition) -> str:
    if event.cause == "condition":
        return "when false" if event.reason == f"when {plan.when} is false" else NOT_CHOSEN
    return "skipped by hand" if event.cause == "hand" else SKIPPED
