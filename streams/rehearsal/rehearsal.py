"""One scenario played: the same rules as on a node, in virtual time, and what came of it beside what was expected."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from streams.aggregates import builtin
from streams.domain import duration, instant
from streams.domain.aggregate import Aggregate, Send, TaskOffer
from streams.domain.alert.events import IncidentOpened, RunSeen
from streams.domain.alert.state import SAMPLES_MIN
from streams.domain.definition import Definition, compact
from streams.domain.limit import AcquireLimit, ReleaseLimit
from streams.domain.listeners import NoteRunEnded
from streams.domain.pipeline import ApplyPipeline
from streams.domain.run import events as happened
from streams.domain.run.state import Run, document
from streams.domain.schedule import SlotFired
from streams.domain.starts import RecallRun, StartRun, event_start
from streams.expressions import LANGUAGE
from streams.reactors import REACTORS
from streams.rehearsal.coverage import Way, ways
from streams.rehearsal.runners import HORIZON_MS, Runners
from streams.rehearsal.scenario import Deed, Scenario
from streams.rehearsal.trigger import EventSent, Trigger
from streams.rehearsal.world import Happened, World


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of a scenario. ``differences`` are sentences; none when all was as expected.

    ``virtual_ms`` is how long the run took, or went on before nothing more would happen; ``waits`` says then for what, or
    why there is no run. ``run`` is its document as users see it, the last one's if a schedule started many, {} if there is
    none; ``events`` are all that was told, of every aggregate.
    """

    scenario: str
    run: dict[str, Any]
    events: tuple[Happened, ...]
    virtual_ms: int
    waits: str
    differences: tuple[str, ...]
    ways: Counter[Way]


def rehearse(definition: str, scenario: Scenario) -> Rehearsal:
    """Play the scenario on a definition (canonical text, without problems). No IO; bounded by the definition's size."""
    stage = _Stage(definition, scenario)
    stage.play()
    taken: Counter[Way] = Counter()
    for each in stage.runs:
        taken.update(ways(each, stage.state(each), stage.run_events(each)))
    run = stage.run
    return Rehearsal(
        scenario=scenario.name,
        run=document(stage.run_id, run) if run.exists else {},
        events=tuple(stage.events),
        virtual_ms=stage.took_ms(),
        waits=stage.unstarted if not run.exists else "" if run.ended else _waits(run),
        differences=tuple(stage.differences()),
        ways=taken,
    )


@lru_cache(1)
def _aggregates() -> tuple[Aggregate, ...]:
    return builtin()


class _Stage:
    """A world with one pipeline, and the run that somebody or a trigger starts, or those that its schedule does."""

    def __init__(self, definition: str, scenario: Scenario) -> None:
        self.definition = definition
        self.plan = Definition.parse(definition)
        self.name = self.plan.name
        self.scenario = scenario
        self.runs: list[str] = []
        self.events: list[Happened] = []
        self.planned: set[str] = set()
        self.refused: dict[str, str] = {}
        self.unstarted = ""
        self.failure: str | None = None
        self.undone = {deed.place: deed for deed in scenario.deeds}
        self.runners = Runners(scenario.steps, scenario.labels)
        self.world = World(
            _aggregates(), REACTORS, scenario.start, self._told, self._offered, self._elsewhere
        )

    def _elsewhere(self, send: Send) -> bool:
        """Return whether it is about a run that a step has called: what such a run does, the scenario says."""
        if isinstance(send.body, RecallRun):
            return send.body.run_id not in self.runs
        return isinstance(send.body, StartRun) and send.body.parent is not None

    @property
    def run_id(self) -> str:
        return self.runs[-1] if self.runs else ""

    @property
    def run(self) -> Run:
        return self.state(self.run_id)

    def state(self, each: str) -> Run:
        run: Run = self.world.state("run", each)
        return run

    def run_events(self, each: str) -> list[happened.Event]:
        return [event.body for event in self.events if (event.aggregate, event.aggregate_id) == ("run", each)]

    def took_ms(self) -> int:
        """Return how long the run took, or went on; how long the schedule did, if it started the runs."""
        if self.scenario.schedule_ms is not None:
            return max(self.world.now - self.scenario.start, self.scenario.schedule_ms)
        if not self.runs:
            return 0
        last = next(event.at for event in reversed(self.events) if event.aggregate == "run")
        return (last if self.run.ended_at is None else self.run.ended_at) - self.run.created_at

    def play(self) -> None:
        for deed in self.scenario.deeds:
            if deed.at is not None:
                self._plan(deed, deed.at)
        for name, held_ms in self.scenario.limits.items():
            self._hold(name, self.plan.limits[name], self.scenario.start + held_ms)
        self._remember()
        self.world.ask("pipeline", self.name, ApplyPipeline(self.definition))
        if self.scenario.schedule_ms is not None:
            self.world.live(lambda: False, self.scenario.start + self.scenario.schedule_ms)
        elif self.scenario.trigger is not None:
            self._trigger(self.scenario.trigger)
        else:
            self._start()
        # The schedule would start other runs for as long as these go on.
        until = self.scenario.start + HORIZON_MS
        self.world.live(self._ended, until, still=frozenset({"schedule"}))

    def _start(self) -> None:
        start = StartRun(
            key=self.scenario.name,
            input=self.scenario.input,
            full_refresh=self.scenario.full_refresh,
            trigger="manual" if self.scenario.slot is None else "schedule",
            slot=self.scenario.slot,
        )
        self.world.ask("pipeline", self.name, start)

    def _trigger(self, trigger: Trigger) -> None:
        if isinstance(trigger, EventSent):
            try:
                start = event_start(LANGUAGE, self.plan.heard[trigger.name], trigger.event)
            except ValueError as error:
                self.failure = str(error)
                self.unstarted = f"the filter fails: {error}"
            else:
                self.unstarted = "the event does not pass the filter"
                if start is not None:
                    self.world.ask("pipeline", self.name, start)
            return
        self.unstarted = f"it does not start after a run of {trigger.pipeline} that is {trigger.status}"
        self.world.live(lambda: True, self.scenario.start)  # until the other pipeline knows who listens
        over = NoteRunEnded(trigger.run_id, trigger.status, trigger.output)
        self.world.ask("pipeline", trigger.pipeline, over)

    def _remember(self) -> None:
        """Let earlier runs have been as usual, as many as it takes to know what that is."""
        took_ms, records = self.scenario.usual_ms, self.scenario.usual_records
        for number in range(SAMPLES_MIN):
            seen = RunSeen(f"usual-{number}", "succeeded", self.scenario.start, took_ms, records)
            self.world.given("alert", self.name, seen)

    def _ended(self) -> bool:
        return all(self.state(each).ended for each in self.runs)

    def _hold(self, limit: str, places: int, until: int) -> None:
        def release(holder: str) -> None:
            self.world.ask("limit", limit, ReleaseLimit(holder))

        for holder in (f"another-{number}" for number in range(places)):
            self.world.ask("limit", limit, AcquireLimit(holder, places))
            self.world.plan(until, partial(release, holder))

    def _told(self, event: Happened) -> None:
        self.events.append(event)
        if isinstance(event.body, happened.RunCreated):
            self.runs.append(event.aggregate_id)
        if isinstance(event.body, happened.StepCalled):
            self.runners.call(self.world, event.aggregate_id, event.body)
        if not isinstance(event.body, happened.StepWaiting):
            return
        for deed in self.undone.values():
            if deed.at is None and event.body.step in deed.answers and deed.place not in self.planned:
                self._plan(deed, event.at + deed.after_ms)
                return  # the next step that waits takes the next one

    def _plan(self, deed: Deed, at: int) -> None:
        def do() -> None:
            del self.undone[deed.place]
            if refusal := self.world.ask("run", self.run_id, deed.command, deed.actor):
                self.refused[deed.place] = refusal.detail

        self.planned.add(deed.place)
        self.world.plan(at, do)

    def _offered(self, offer: TaskOffer) -> None:
        wanted = self.plan.step(offer.task["step"]).runs_on
        self.world.plan(self.world.now, lambda: self.runners.take(self.world, offer.task, wanted))

    # ------------------------------------------------------------ expected and actual
    def differences(self) -> Iterator[str]:
        for deed in self.scenario.deeds:
            if deed.place in self.refused:
                yield f"{deed.place}: {deed.what} was refused: {self.refused[deed.place]}"
            elif deed.place in self.undone:
                yield f"{deed.place}: {deed.what} never came: {_too_late(deed, self.run)}"
        yield from self._of_start()
        yield from self._of_slots()
        yield from self._of_status()
        if self.runs:
            yield from self._of_run()
            yield from self._of_steps()

    def _of_start(self) -> Iterator[str]:
        expect = self.scenario.expect
        if self.scenario.trigger is None:
            return
        if self.runs and not expect.started:
            yield "started: expected no run, but there is one"
        elif expect.started and not self.runs:
            yield f"started: expected a run, but {self.unstarted}"
        elif not self.runs and not _same_failure(expect.error, self.failure):
            yield f"error: expected {expect.error or 'none'}, but {self.unstarted}"

    def _of_slots(self) -> Iterator[str]:
        wanted = self.scenario.expect.slots
        if wanted is None:
            return
        fired = [event.body.slot for event in self.events if isinstance(event.body, SlotFired)]
        yield from (
            f"slots: expected {instant.render(slot)}, but it did not fire"
            for slot in wanted
            if slot not in fired
        )
        yield from (
            f"slots: {instant.render(slot)} fired, not expected" for slot in fired if slot not in wanted
        )

    def _of_status(self) -> Iterator[str]:
        expected = self.scenario.expect.status
        for each in self.runs:
            run = self.state(each)
            if expected not in {None, run.status}:
                why = run.error or ("" if run.ended else _waits(run))
                slot = (
                    "" if self.scenario.schedule_ms is None else f" of slot {instant.render(run.slot or 0)}"
                )
                yield f"status{slot}: expected {expected}, but it is {run.status}{f' ({why})' if why else ''}"

    def _of_run(self) -> Iterator[str]:
        expect, run = self.scenario.expect, self.run
        if expect.error is not None and expect.error not in (run.error or ""):
            yield f"error: expected {expect.error!r} in it, but it is {run.error!r}"
        took_ms = self.took_ms()
        for bound_ms, words, wrong in (
            (expect.at_least_ms, "at least", took_ms < (expect.at_least_ms or 0)),
            (expect.at_most_ms, "at most", took_ms > (expect.at_most_ms or 0)),
        ):
            if bound_ms is not None and wrong:
                yield f"duration: expected {words} {duration.render(bound_ms)}, but it is {duration.render(took_ms)}"
        if expect.alerts is not None:
            opened = tuple(event.body.on for event in self.events if isinstance(event.body, IncidentOpened))
            if opened != expect.alerts:
                yield f"alerts: expected {_listed(expect.alerts)}, but there are {_listed(opened)}"

    def _of_steps(self) -> Iterator[str]:
        expect, run = self.scenario.expect, self.run
        for name, status in expect.steps.items():
            step = run.step(name)
            if step.status != status:
                why = f" ({step.error})" if step.error else ""
                yield f"steps.{name}: expected {status}, but it is {step.status}{why}"
        attempts: Counter[str] = Counter()
        for event in self.run_events(self.run_id):
            if isinstance(event, happened.StepOffered | happened.StepCalled):
                attempts[event.step] = max(attempts[event.step], event.attempt)
        for name, number in expect.attempts.items():
            if attempts[name] != number:
                yield f"attempts.{name}: expected {number}, but there were {attempts[name]}"
        for name, fields in expect.outputs.items():
            output = json.loads(run.step(name).output or "{}")
            for field, value in fields.items():
                if field not in output:
                    yield f"outputs.{name}.{field}: expected {compact(value)}, but it is not there"
                elif output[field] != value:
                    yield f"outputs.{name}.{field}: expected {compact(value)}, but it is {compact(output[field])}"


def _same_failure(part: str | None, failure: str | None) -> bool:
    return failure is None if part is None else failure is not None and part in failure


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words) or "none"


def _too_late(deed: Deed, run: Run) -> str:
    if not run.exists:
        return "there was no run"
    if deed.at is not None:
        return "the run had ended"
    return ", ".join(f"{name} is {run.step(name).status}" for name in sorted(deed.answers))


def _waits(run: Run) -> str:
    """Return what a run that will not end by itself is waiting for."""
    said = []
    for step in run.steps.values():
        plan = run.plan.step(step.name)
        if step.status == "waiting":
            calls = f"a run of {plan.spec.get('name')}" if plan.kind == "pipeline" else "approval"
            what = f"signal {plan.signal}" if plan.kind == "signal" else calls
            said.append(f"step {step.name} waits for {what}, without a deadline")
        elif step.status == "queued":
            said.append(f"step {step.name} waits for a runner labelled {', '.join(plan.runs_on)}")
        elif step.status == "running":
            said.append(f"step {step.name} hangs, without a timeout")
    return "; ".join(said) or f"it waits for limit {run.waiting_for}"
