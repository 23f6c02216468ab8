"""Whatever runners, people and time do to a run, in whatever order: its invariants hold."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.domain.aggregate import Message, Rejected, TaskOffer
from streams.domain.kinds import undone_by
from streams.domain.run.commands import (
    ApproveStep,
    CancelRun,
    ClaimStep,
    CompleteStep,
    CreateRun,
    FailStep,
    Heartbeat,
    NoteChildEnded,
    PauseRun,
    RejectStep,
    ResumeRun,
    SignalRun,
    SkipStep,
    Tick,
)
from streams.domain.run.events import (
    RunCreated,
    RunEnded,
    StepCalled,
    StepClaimed,
    StepFailed,
    StepLost,
    StepOffered,
    StepRetryScheduled,
    StepSucceeded,
    StepWaiting,
)
from streams.domain.run.state import Run, as_told
from streams.domain.run.timing import LEASE_MS, LOST_MAX, WAKE_MS
from tests.support.pipeline_files import command, pipeline, text_and_hash
from tests.support.redacting import same_but_for_texts
from tests.support.run_judging import findings_of_run
from tests.support.run_spec import AGGREGATE

NAMES = "abcdef"
RETRIES = st.none() | st.fixed_dictionaries(
    {
        "attempts": st.integers(1, 4),
        "initial": st.sampled_from(["0s", "1s", "9s"]),
        "jitter": st.sampled_from(["full", "none"]),
    }
)

WAITS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"wait": {"for": "4s"}},
        {"wait": {"until": "1970-01-01T00:00:09Z"}},
        {"signal": {"name": "go"}},
        {"signal": {"name": "go", "deadline": "7s", "on_silence": "succeed"}},
        {"approval": {"deadline": "7s"}},
        {"approval": {"deadline": "9s", "on_silence": "approve"}},
        {"pipeline": {"name": "load"}},
        {"pipeline": {"name": "load"}, "timeout": "5s", "retry": {"attempts": 2, "initial": "3s"}},
    ]
)

UNDO: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"start_timeout": "4s"}, {"retry": {"attempts": 2, "initial": "1s"}, "timeout": "3s"}]
)


@st.composite
def creations(draw: st.DrawFn) -> CreateRun:
    """Return the creation of a run of up to six steps, each after some of those before it."""
    steps = []
    for index in range(draw(st.integers(1, len(NAMES)))):
        after = draw(st.lists(st.sampled_from(NAMES[:index]), unique=True, max_size=3)) if index else []
        if draw(st.integers(0, 3)) == 0:
            steps.append({"name": NAMES[index], "after": after, **draw(WAITS)})
            continue
        more: dict[str, Any] = {"when": "${{ inputs.x }}"} if draw(st.integers(0, 3)) == 0 else {}
        if (retry := draw(RETRIES)) is not None:
            more["retry"] = retry
        if draw(st.booleans()):
            more["timeout"] = draw(st.sampled_from(["3s", "20s"]))
        if draw(st.booleans()):
            more["start_timeout"] = draw(st.sampled_from(["2s", "30s"]))
        if draw(st.booleans()):
            more["compensate"] = {"command": {"argv": ["undo"]}, **draw(UNDO)}
        steps.append(command(NAMES[index], *after, **more))
    spec: dict[str, Any] = {"timeout": "2m"} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        spec["finally"] = [command("y"), command("z", "y")]
    text, pinned = text_and_hash(pipeline(*steps, **spec))
    return CreateRun("customers", text, pinned, draw(st.sampled_from(['{"x":true}', '{"x":false}', "{}"])))


class RunMachine(RuleBasedStateMachine):
    """Drives one run, and keeps a plain record of what was told to whom."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.state: Run = AGGREGATE.initial
        self.log: list[Any] = []
        self.offered: list[dict[str, Any]] = []
        self.alive_at: dict[tuple[str, int], int] = {}  # (step, attempt) -> last claim, heartbeat or wake
        self.granted: dict[tuple[str, int], str] = {}  # (step, attempt) -> token
        self.tokens = 0

    def ask(self, body: Any) -> tuple[Any, ...] | Rejected:
        message = Message(body, "default", "r1", f"c{len(self.log)}", self.now)
        decision: tuple[Any, ...] | Rejected = AGGREGATE.decide(message, self.state)
        if isinstance(decision, Rejected):
            return decision
        if not decision:
            self.state = AGGREGATE.touch(message, self.state)
        for event in decision:
            before = self.state
            self.state = AGGREGATE.evolve(self.state, event)
            self.log.append(event)
            self.check_event(before, event)
            for effect in AGGREGATE.effects("default", "r1", event, self.state):
                assert isinstance(effect, TaskOffer)
                self.offered.append(effect.task)
        assert AGGREGATE.decide(message, self.state) == () or not isinstance(
            body, CompleteStep | FailStep | ClaimStep | Tick
        )
        return decision

    def check_event(self, before: Run, event: Any) -> None:
        """Hold each event against the record: I1, I3, I7, I9, I10."""
        assert not before.ended, "nothing follows the terminal event"
        match event:
            case StepOffered(step=step) | StepWaiting(step=step) | StepCalled(step=step):
                plan = self.state.plan.step(step)
                assert all(
                    before.steps[name].status in {"succeeded", "skipped", "compensated"}
                    for name in plan.after
                )
                done = [before.steps[name].skipped != "condition" for name in plan.after]
                assert any(done) or not done
                assert not any(before.steps[name].skipped == "failure" for name in plan.after)
                assert plan.last == (before.closing is not None)
                assert before.status != "paused"
                earlier = [e for e in self.log[:-1] if getattr(e, "step", None) == step]
                if earlier and isinstance(earlier[-1], StepRetryScheduled):
                    assert self.now >= earlier[-1].retry_at, "a retry never comes early"
            case StepSucceeded(step=step):
                assert before.steps[step].status in {"running", "waiting"}
                assert sum(isinstance(e, StepSucceeded) and e.step == step for e in self.log) == 1
            case StepClaimed(step=step, attempt=attempt, token=token):
                assert (step, attempt) not in self.granted, "an attempt has one holder"
                self.granted[step, attempt] = token
                self.alive_at[step, attempt] = self.now
            case StepFailed(step=step, status="timed_out") if before.steps[step].status == "queued":
                offers = [e for e in self.log if isinstance(e, StepOffered) and e.step == step]
                waited_ms = self.now - offers[-1].at
                assert waited_ms >= (self.state.plan.step(step).start_timeout_ms or self.now + 1)
                assert before.status != "paused"
            case StepLost(step=step, handed_back=True):
                assert self.state.steps[step].failures == before.steps[step].failures
                assert self.state.steps[step].lost == before.steps[step].lost
            case StepLost(step=step, attempt=attempt):
                silent = self.now - self.alive_at[step, attempt]
                assert silent >= WAKE_MS, "a lease never ends early"
                assert before.steps[step].attempt == attempt
                assert before.steps[step].lost < LOST_MAX

    @initialize(make=creations())
    def create(self, make: CreateRun) -> None:
        facts = self.ask(make)
        assert isinstance(facts, tuple)
        assert isinstance(facts[0], RunCreated)

    @rule(ms=st.sampled_from([1, 500, 2_000, 6_000, 15_000]))
    def wait(self, ms: int) -> None:
        """Time goes by; nothing fires by itself."""
        self.now += ms

    @rule(ms=st.sampled_from([0, 1, 700, 3_000, 30_000]))
    def fire(self, ms: int) -> None:
        """The timer fires, when it is due or later."""
        due = AGGREGATE.due(self.state)
        if due is None:
            return
        self.now = max(self.now, due) + ms
        facts = self.ask(Tick(due))
        assert facts, "a due timer does something"
        after = AGGREGATE.due(self.state)
        assert after is None or after > self.now, "what was due is done"

    @precondition(lambda self: self.offered)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        """A runner takes any offer ever made, at any time."""
        task = data.draw(st.sampled_from(self.offered))
        self.tokens += 1
        step, attempt = task["step"], task["attempt"]
        wanted = self.state.steps[step]
        free = wanted.status == "queued" and wanted.attempt == attempt and self.state.status != "paused"
        facts = self.ask(ClaimStep(step, attempt, f"t{self.tokens}", "n"))
        assert isinstance(facts, tuple) == (free and not self.state.ended)

    @precondition(lambda self: self.granted)
    @rule(
        data=st.data(),
        kind=st.sampled_from(["beat", "complete", "fail", "fail for good", "hand back"]),
        wrong=st.booleans(),
    )
    def report(self, data: st.DataObject, kind: str, wrong: bool) -> None:
        """Whoever ever held an attempt says something, some with a token that is not theirs."""
        step, attempt = data.draw(st.sampled_from(sorted(self.granted)))
        token = "stolen" if wrong else self.granted[step, attempt]
        body: Any = Heartbeat(step, attempt, token, 1, 1)
        if kind == "complete":
            body = CompleteStep(step, attempt, token)
        elif kind != "beat":
            retryable, back = kind != "fail for good", kind == "hand back"
            body = FailStep(step, attempt, token, "broken", retryable, handed_back=back)
        was = self.state.steps[step]
        holds = not wrong and not self.state.ended and was.status == "running" and was.attempt == attempt
        facts = self.ask(body)
        if holds:
            assert isinstance(facts, tuple)
            self.alive_at[step, attempt] = self.now
        else:
            assert isinstance(facts, Rejected) or facts == ()

    @rule(data=st.data(), kind=st.sampled_from([ApproveStep, RejectStep]), signal=st.booleans())
    def people(self, data: st.DataObject, kind: type, signal: bool) -> None:
        """Somebody signals or decides, asked or not."""
        if not signal:
            name = data.draw(st.sampled_from(sorted(self.state.steps)))
            waits = self.state.steps[name].status == "waiting" and self.state.steps[name].kind == "approval"
            facts = self.ask(kind(name))
            assert waits <= isinstance(facts, tuple)
            return
        wanted = any(step.kind == "signal" for step in self.state.steps.values()) and not self.state.ended
        assert isinstance(self.ask(SignalRun("go")), tuple) == wanted

    @precondition(lambda self: any(isinstance(event, StepCalled) for event in self.log))
    @rule(data=st.data(), status=st.sampled_from(["succeeded", "failed", "cancelled", "refused"]))
    def child(self, data: st.DataObject, status: str) -> None:
        """A run that was ever called ends, or is told of again."""
        called = [event for event in self.log if isinstance(event, StepCalled)]
        one = data.draw(st.sampled_from(called))
        step = self.state.steps[one.step]
        waits = step.status == "waiting" and step.child == one.run_id and not self.state.ended
        facts = self.ask(NoteChildEnded(one.run_id, status))
        assert isinstance(facts, tuple)
        assert bool(facts) == waits

    @rule()
    def pause(self) -> None:
        self.ask(PauseRun())

    @rule()
    def resume(self) -> None:
        self.ask(ResumeRun())

    @rule(really=st.integers(0, 9))
    def cancel(self, really: int) -> None:
        """Now and then: a cancelled run is not of much use to the other rules."""
        if really == 0 and isinstance(self.ask(CancelRun(now=True)), tuple):
            assert self.state.status == "cancelled"
        elif really == 1 and isinstance(self.ask(CancelRun()), tuple):
            assert self.state.status in {"cancelled", "cancelling", "compensating"}
            proper = [step for step in self.state.steps.values() if not self.state.plan.step(step.name).last]
            proper = [step for step in proper if not undone_by(step.name)]
            assert all(step.ended for step in proper)

    @rule(data=st.data(), really=st.integers(0, 4))
    def skip(self, data: st.DataObject, really: int) -> None:
        """Now and then somebody leaves a step out."""
        name = data.draw(st.sampled_from(sorted(self.state.steps)))
        was = self.state.steps[name]
        if really == 0 and not was.ended and not self.state.ended:
            assert self.ask(SkipStep(name))
            assert self.state.steps[name].skipped == "hand"

    @rule()
    def move(self) -> None:
        """The run gets a new owner: it folds the log, and gives every lease time for its next heartbeat."""
        state = AGGREGATE.initial
        for event in self.log:
            state = AGGREGATE.evolve(state, event)
        assert as_told(state) == as_told(self.state), "the fold of the log is the state"
        self.state = AGGREGATE.wake(state, self.now)

    @invariant()
    def has_one_end(self) -> None:
        """I1: one terminal event, the last one; every step is at its end then."""
        ends = [index for index, event in enumerate(self.log) if isinstance(event, RunEnded)]
        assert len(ends) == (1 if self.state.ended else 0)
        if ends:
            assert ends == [len(self.log) - 1]
            assert all(step.ended for step in self.state.steps.values())

    @invariant()
    def is_never_stuck(self) -> None:
        """I4: what has not ended waits for a timer, a claim, or a person: one who paused it, or is asked."""
        if not self.state.exists or self.state.ended:
            return
        queued = any(step.status in {"queued", "waiting"} for step in self.state.steps.values())
        assert queued or self.state.status == "paused" or AGGREGATE.due(self.state) is not None
        unended = [step.name for step in self.state.steps.values() if not step.ended]
        assert unended
        unended = [name for name in unended if not undone_by(name)]
        last = sum(self.state.plan.steps[name].last for name in unended)
        assert (self.state.unended, self.state.unended_last) == (len(unended) - last, last)

    @invariant()
    def holds_its_leases(self) -> None:
        """I7: a running attempt is held by the token that claimed it, and its lease lies within bounds."""
        for step in self.state.steps.values():
            if step.status == "running":
                assert step.token == self.granted[step.name, step.attempt]
                assert step.lease_until is not None
                assert step.lease_until <= self.now + LEASE_MS

    def teardown(self) -> None:
        """Whoever reads the log alone finds nothing wrong with the history either, nor with one that was redacted."""
        assert findings_of_run(self.log) == []
        if self.state.ended:
            same_but_for_texts(AGGREGATE, self.log, self.state)


TestRunMachine = RunMachine.TestCase
TestRunMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
