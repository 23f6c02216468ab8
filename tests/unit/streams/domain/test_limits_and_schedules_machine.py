"""Whatever becomes of runs that share a limit and a schedule, in whatever order: their invariants hold."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.domain.limit import Limit, LimitAcquired
from streams.domain.pipeline import ApplyPipeline, PausePipeline, ResumePipeline
from streams.domain.run.commands import (
    CancelRun,
    ClaimStep,
    CompleteStep,
    FailStep,
    PauseRun,
    RerunRun,
    ResumeRun,
)
from streams.domain.run.events import RunCreated
from streams.domain.schedule import PauseSchedule, ResumeSchedule, SlotFired, TriggerSchedule
from streams.domain.starts import StartRun
from tests.support.pipeline_files import command, pipeline, text_and_hash
from tests.support.reacting import World
from tests.support.run_judging import findings

MINUTE = 60_000
NAMES = ("hourly", "byhand")
STEP = command("copy", retry={"attempts": 2, "initial": "1s"}, timeout="10m")
CALL = {"name": "copy", "pipeline": {"name": "byhand"}}
PIPELINES = st.sampled_from(NAMES)
OVERLAPS = st.sampled_from(["skip", "allow", "buffer_one", "buffer_all", "cancel_other"])
ANY = st.integers(0, 30)


class LimitsAndSchedules(RuleBasedStateMachine):
    """Two pipelines under one limit, one of them with a schedule; it may call the other."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    # ---------------------------------------------------------------- what people do
    @initialize(overlap=OVERLAPS, most=st.integers(1, 2), calls=st.booleans())
    def begin(self, overlap: str, most: int, calls: bool) -> None:
        """Both pipelines are there."""
        self.apply("byhand", overlap, most, False)
        self.apply("hourly", overlap, most, calls)

    @rule(name=PIPELINES, overlap=OVERLAPS, most=st.integers(1, 3), calls=st.booleans())
    def apply(self, name: str, overlap: str, most: int, calls: bool) -> None:
        """A new version; runs that are there keep theirs."""
        spec: dict[str, Any] = {"limits": [{"name": "crm", "max": most}]}
        if name == "hourly":
            spec["schedule"] = {"every": "60s", "overlap": overlap, "catch_up": "5m"}
        step = CALL if calls and name == "hourly" else STEP
        text, _ = text_and_hash(pipeline(step, name=name, **spec))
        self.world.send("pipeline", name, ApplyPipeline(text))

    @rule(name=PIPELINES, key=st.sampled_from([None, "monday", "tuesday"]))
    def start(self, name: str, key: str | None) -> None:
        """Somebody starts a run, or the same one once more."""
        self.world.send("pipeline", name, StartRun(key=key))

    @rule(name=PIPELINES, off=st.booleans())
    def switch(self, name: str, off: bool) -> None:
        """A pipeline is paused, with its schedule, or goes on."""
        self.world.send("pipeline", name, PausePipeline() if off else ResumePipeline())

    @rule(what=st.sampled_from([PauseSchedule(), ResumeSchedule(), TriggerSchedule()]))
    def schedule(self, what: object) -> None:
        """Somebody turns the schedule off or on, or lets it fire now: at no time of a slot, or two would be one run."""
        self.world.now += 2 if self.world.now % MINUTE == MINUTE - 1 else 1
        self.world.send("schedule", "hourly", what)

    @precondition(lambda self: self.runs)
    @rule(
        at=ANY, what=st.sampled_from([PauseRun(), ResumeRun(), CancelRun(), CancelRun(now=True), RerunRun()])
    )
    def act(self, at: int, what: object) -> None:
        """Somebody does something about a run, whether that fits or not."""
        self.world.send("run", self.runs[at % len(self.runs)], what)

    # ---------------------------------------------------------------- what runners and time do
    @precondition(lambda self: self.world.tasks)
    @rule(at=ANY, end=st.sampled_from(["well", "well", "badly", "never"]))
    def work(self, at: int, end: str) -> None:
        """A runner takes any offer ever made; one that never ends loses its lease."""
        task = self.world.tasks[at % len(self.world.tasks)]
        run, step, attempt = task["run"], task["step"], task["attempt"]
        token = f"{step}/{attempt}"
        self.world.send("run", run, ClaimStep(step, attempt, token, "n"))
        if end == "well":
            self.world.send("run", run, CompleteStep(step, attempt, token, "{}"))
        elif end == "badly":
            self.world.send("run", run, FailStep(step, attempt, token, "no disk"))

    @rule(ms=st.sampled_from([1, 1_000, 7_000, MINUTE, 3 * MINUTE, 20 * MINUTE]))
    def wait(self, ms: int) -> None:
        """Time goes by, and what is due fires."""
        self.world.tick(self.world.now + ms)

    # ---------------------------------------------------------------- what holds
    @property
    def runs(self) -> list[str]:
        return [name for aggregate, name in self.world.states if aggregate == "run"]

    @property
    def limit(self) -> Limit:
        found: Limit = self.world.states.get(("limit", "crm"), Limit())
        return found

    @invariant()
    def places(self) -> None:
        """I8: whoever is in has not ended, and nobody waits while there is room."""
        ended = {run for run in self.runs if self.world.states["run", run].ended}
        assert ended.isdisjoint((*self.limit.holders, *self.limit.waiting))
        assert not self.limit.waiting or not self.limit.free

    @invariant()
    def once(self) -> None:
        """I15 and I6: a slot fires once, a run and a key are created once, and nobody is let in twice."""
        created = self.world.told(RunCreated)
        keys = [(event.pipeline, event.key) for event in created if event.key is not None]
        slots = [event.run_id for event in self.world.told(SlotFired)]
        places = [event.run_id for event in self.world.told(LimitAcquired)]
        for told in (keys, slots, places):
            assert len(set(told)) == len(told)
        assert len(created) == len(self.runs)

    def teardown(self) -> None:
        """When all have been cancelled, no place is held, and whoever reads the log finds nothing wrong with it."""
        self.world.send("pipeline", "hourly", PausePipeline())
        for _ in range(2):  # what is called comes to be while its caller ends
            for run in self.runs:
                self.world.send("run", run, CancelRun(now=True))
        self.world.tick(self.world.now + 60 * MINUTE)
        assert all(self.world.states["run", run].ended for run in self.runs)
        assert (self.limit.holders, self.limit.waiting, self.limit.guests) == ((), (), {})
        assert findings(self.world.happened) == []


TestLimitsAndSchedules = LimitsAndSchedules.TestCase
TestLimitsAndSchedules.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
