"""Bugs planted in the rules of runs, and whether the judge of the log sees each; and what it says of single records."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.chain import REDACTED
from streams.domain import duration
from streams.domain.limit import LimitAcquired, LimitReleased
from streams.domain.run import attempts, decide, progress, timers
from streams.domain.run import events as happened
from streams.domain.run.commands import CancelRun, ClaimStep, CompleteStep, PauseRun, ResumeRun, Tick
from streams.domain.run.events import StepClaimed, StepRetryScheduled
from streams.domain.run.story import Story
from streams.domain.run.timing import LEASE_MS
from streams.domain.schedule import SlotFired
from streams.proof.record import LogRecord
from streams.proof.runs import ELSEWHERE, INVARIANTS, SETTLED_MS, RunJudge
from streams.rehearsal.world import Happened
from streams.translation import to_record
from tests.support.pipeline_files import command
from tests.support.run_judging import findings, findings_of_run
from tests.support.run_spec import RunSpec, created

RETRIED = {"attempts": 2, "initial": "5s", "jitter": "none"}
Plant = Callable[[pytest.MonkeyPatch], None]


# ---------------------------------------------------------------- bugs: a patch, a story in which it shows
def claimed_by_anybody(plant: pytest.MonkeyPatch) -> None:
    """A claim does not ask whether the attempt is taken."""

    def claim(asked: ClaimStep, story: Story) -> Any:
        story.tell(StepClaimed(asked.step, asked.attempt, asked.token, asked.runner, story.now))
        return tuple(story.events)

    plant.setattr(attempts, "_claim", claim)


def no_result_is_stale(plant: pytest.MonkeyPatch) -> None:
    """A result does not ask whether its sender still holds the lease."""
    plant.setattr(attempts, "_stale", lambda *_: None)


def retries_are_not_counted(plant: pytest.MonkeyPatch) -> None:
    """Whatever may be tried again is, without end."""

    def again(story: Story, step: Any, error: str, tail: str, **_: Any) -> None:
        at = story.now
        story.tell(StepRetryScheduled(step.name, step.attempt, error, tail, at + 5_000, at))

    plant.setattr(attempts, "fail_attempt", again)


def order_is_forgotten(plant: pytest.MonkeyPatch) -> None:
    """A step that waits for others begins with the first ones."""
    plant.setattr(progress, "_waits", lambda run, name: run.steps[name].status != "pending")


def the_end_is_told_twice(plant: pytest.MonkeyPatch) -> None:
    """Two terminal events in one decision."""
    tell = progress.end

    def end(*words: Any) -> None:
        tell(*words)
        tell(*words)

    plant.setattr(progress, "end", end)


def timers_are_early(plant: pytest.MonkeyPatch) -> None:
    """Every timer of a step fires a second before its time."""
    due = timers._step_due  # the bug's place
    plant.setattr(timers, "_step_due", lambda *words: None if (at := due(*words)) is None else at - 1_000)


def nothing_goes_on(plant: pytest.MonkeyPatch) -> None:
    """A step ends, and nobody looks at what comes after it."""
    plant.setattr(attempts, "go_on", lambda *_: None)


def a_cancel_leaves_offers_open(plant: pytest.MonkeyPatch) -> None:
    """The run is told to be over, and its steps are forgotten."""

    def stop(story: Story, status: str, error: str | None, **_: Any) -> None:
        progress.end(story, status, error)

    plant.setattr(decide, "stop", stop)


def offers_of_a_paused_run_are_forgotten(plant: pytest.MonkeyPatch) -> None:
    """Runners have dropped what they could not claim, and nobody offers it again."""
    plant.setattr(decide, "offer_again", lambda *_: None)


def claimed_twice(run: RunSpec) -> None:
    run.claim("a")
    run.do(ClaimStep("a", 1, "another", "runner-2"))


def late_result(run: RunSpec) -> None:
    run.claim("a")
    run.tick(LEASE_MS + 1)
    run.do(CompleteStep("a", 1, "a/1"))


def lost(run: RunSpec) -> None:
    run.claim("a")
    run.now = LEASE_MS - 1_000
    if (due := run.aggregate.due(run.state)) is not None and due <= run.now:
        run.do(Tick(due))


def failed_twice(run: RunSpec) -> None:
    for _ in range(2):
        run.claim("a")
        run.fail("a")
        run.tick(run.now + 4_000)
        run.tick(run.now + 1_000)


def done(run: RunSpec) -> None:
    run.run("a", "b")


def first_done(run: RunSpec) -> None:
    run.run("a")


def begun(_run: RunSpec) -> None:
    """Creation is enough."""


def resumed(run: RunSpec) -> None:
    run.do(PauseRun())
    run.do(ResumeRun())


def cancelled(run: RunSpec) -> None:
    run.claim("a")
    run.do(CancelRun())


@pytest.mark.parametrize(
    ("plant", "story", "invariant", "words"),
    [
        (claimed_by_anybody, claimed_twice, "I7", "attempt 1 of a was claimed while 1 is running by runner-1"),
        (no_result_is_stale, late_result, "I7", "the success of attempt 1 of a counts, but attempt 2 is queued"),
        (retries_are_not_counted, failed_twice, "I7", "a is tried again after 2 failures of 2 attempts"),
        (order_is_forgotten, begun, "I3", "b was offered while a before it is queued"),
        (the_end_is_told_twice, done, "I1", "RunEnded (version 9) is told of a run that has ended"),
        (timers_are_early, failed_twice, "I9", "a was tried again 1000 ms before its time"),
        (timers_are_early, lost, "I9", "the lease of a ended 1000 ms early"),
        (nothing_goes_on, first_done, "I4", "nothing will move it: no offer, lease, timer or wait, and b is left"),
        (offers_of_a_paused_run_are_forgotten, resumed, "I4", "a was not offered again when the run was resumed"),
        (a_cancel_leaves_offers_open, cancelled, "I1", "it ends (cancelled) before a has ended"),
    ],
)  # fmt: skip
def test_a_planted_bug_is_caught(
    plant: Plant,
    story: Callable[[RunSpec], None],
    invariant: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The history is sound without the bug, and its first finding names it with the bug."""
    told = findings_after(story) if story not in (claimed_twice, late_result) else []
    assert told == []
    plant(monkeypatch)
    first = findings_after(story)[0]
    assert (first.invariant, first.run) == (invariant, "r1")
    assert words in first.said


def polled(run: RunSpec) -> None:
    run.claim("poll[0]")
    run.complete("poll[0]", '{"done":true}')


def polled_again(run: RunSpec) -> None:
    run.claim("poll[0]")
    run.complete("poll[0]", '{"done":false}')


def no_result_is_enough(plant: pytest.MonkeyPatch) -> None:
    """A repeat goes on whatever its last turn brought."""
    plant.setattr(progress, "settled", lambda *_: False)


def any_result_will_do(plant: pytest.MonkeyPatch) -> None:
    """A repeat ends whatever its last turn brought."""
    plant.setattr(progress, "settled", lambda *_: True)


def nobody_waits(plant: pytest.MonkeyPatch) -> None:
    """The next turn of a repeat begins at once."""
    plant.setattr(duration, "parse", lambda _: 0)


@pytest.mark.parametrize(
    ("plant", "story", "invariant", "words"),
    [
        (no_result_is_enough, polled, "I3", "poll[1] begins, and ${{ result.done }} held before it"),
        (any_result_will_do, polled_again, "I3", "poll succeeded, and ${{ result.done }} did not hold"),
        (nobody_waits, polled_again, "I9", "poll[1] waits 0 ms, not 30000"),
    ],
)
def test_a_bug_planted_in_a_repeat_is_caught(
    plant: Plant,
    story: Callable[[RunSpec], None],
    invariant: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The condition is reckoned again from the definition and the results that are told."""
    for planted in (False, True):
        block = {"command": {"argv": ["x"]}, "until": "${{ result.done }}", "max": 3, "wait": "30s"}
        if planted:
            plant(monkeypatch)
        run = created({"name": "poll", "repeat": block})
        story(run)
        monkeypatch.undo()
        found = findings_of_run(run.log)
        assert [(one.invariant, one.said) for one in found[:1]] == ([(invariant, words)] if planted else [])


def test_turns_have_no_gap_and_are_no_more_than_the_definition_says() -> None:
    """Whatever else may be told of them."""
    block = {"command": {"argv": ["x"]}, "until": "${{ result.done }}", "max": 3}
    run = created({"name": "poll", "repeat": block})
    polled_again(run)
    (mapped,) = [event for event in run.log if isinstance(event, happened.StepMapped)]
    more = [replace(event, total=4) if event is mapped else event for event in run.log]
    assert [one.said for one in findings_of_run(more)] == ["poll may have 4 turns"]
    gap = [
        replace(event, step="poll[2]") if getattr(event, "step", "") == "poll[1]" else event
        for event in run.log
    ]
    assert [one.said for one in findings_of_run(gap)] == [
        "poll[2] begins while poll is repeating after 1 of 3 turns"
    ]


def findings_after(story: Callable[[RunSpec], None]) -> list[Any]:
    """Return what the judge says after a story of two steps, one after the other."""
    run = created(command("a", retry=RETRIED), command("b", "a"))
    story(run)
    return findings_of_run(run.log)


# ---------------------------------------------------------------- single records
def whole() -> list[Any]:
    """Return the events of a run that went well."""
    return list(created(command("a"), command("b", "a")).run("a", "b").log)


@pytest.mark.parametrize("at", range(len(whole())))
def test_no_event_can_be_left_out_told_twice_or_told_later(at: int) -> None:
    """The rest is numbered anew, as a product would that forgot it: something is always found."""
    events = whole()
    assert findings_of_run(events) == []
    last = at == len(events) - 1
    assert findings_of_run([*events[:at], *events[at + 1 :]]) or last, "the end of the log may be anywhere"
    assert findings_of_run([*events[: at + 1], *events[at:]])
    assert last or findings_of_run([*events[:at], events[at + 1], events[at], *events[at + 2 :]])


def test_limits_and_slots_are_judged_by_their_own_events() -> None:
    """Too many holders, a holder that has ended, a slot under another run's name."""
    run = created(command("a"), limits=[{"name": "crm", "max": 1}])
    waiting = [Happened("run", "r1", event, 0) for event in run.log]
    assert findings(waiting) == []
    let_in = [Happened("limit", "crm", LimitAcquired(name, 1, 0), 0) for name in ("r1", "r2")]
    assert [(one.invariant, one.run) for one in findings(let_in)] == [("I8", "crm")]

    run.do(CancelRun())
    ended = [Happened("run", "r1", event, 0) for event in run.log]
    later = Happened("limit", "other", LimitReleased("r9", SETTLED_MS + 1), 0)
    assert [one.said for one in findings([*ended, let_in[0], later])] == [
        "it has ended and still holds limit crm"
    ]
    assert findings([*ended, let_in[0], Happened("limit", "crm", LimitReleased("r1", 1), 0), later]) == []

    fired = Happened("schedule", "customers", SlotFired(60_000, "not-its-run", 120_000, 60_000), 0)
    assert [one.invariant for one in findings([fired])] == ["I15"]


def record(version: int, event: Any, headers: dict[str, bytes] | None = None) -> LogRecord:
    """Return an event of run ``r1`` as it is read."""
    envelope = {"tenant": "default", "aggregate_id": "r1", "version": version, "sequence": version}
    body = {"envelope": envelope, **to_record(event)}
    name = f"flexcore.run.{type(event).__name__}"
    return LogRecord("run.events", 0, version, b"", b"", headers or {}, name, body)


@pytest.mark.parametrize("at", [0, 2])
def test_a_missing_event_is_found_unless_it_was_redacted(at: int) -> None:
    """A redaction stands behind the rest; what follows the hole is not judged."""
    for headers, found in (({}, 1), ({REDACTED: b"ada: asked for"}, 0)):
        judge, records = RunJudge(), [record(number, event) for number, event in enumerate(whole(), 1)]
        removed = records.pop(at)
        for one in (*records, *([replace(removed, headers=headers)] if headers else ())):
            judge.event("run", one)
        judge.finish()
        assert bool(judge.findings) == bool(found), judge.findings
        assert judge.open == 0


def outcome(kind: str, status: str = "accepted", run: str = "r1", at: int = 0) -> LogRecord:
    """Return the answer to a command, as it is read."""
    reply = f'{{"run":"{run}"}}' if kind == "StartRun" else None
    body = {
        "tenant": "default",
        "aggregate_id": run,
        "command_type": kind,
        "status": status,
        "reply": reply,
        "at": at,
    }
    return LogRecord("outcomes", 0, 7, b"", b"", {}, "flexcore.common.Outcome", body)


def test_a_start_that_was_answered_has_its_run() -> None:
    """Unless it is still on its way, or its creation was refused."""
    for outcomes, events, wanted in (
        ([outcome("StartRun"), outcome("StartRun", run="r2", at=SETTLED_MS + 1)], [], ["I5"]),
        ([outcome("StartRun"), outcome("Tick", at=SETTLED_MS + 1)], whole(), []),
        ([outcome("StartRun"), outcome("CreateRun", "rejected", at=SETTLED_MS + 1)], [], []),
        ([outcome("CreateRun"), outcome("StartRun", at=SETTLED_MS + 1)], [], ["I5"]),
    ):
        judge = RunJudge()
        for one in outcomes:
            judge.outcome(one)
        for number, event in enumerate(events, 1):
            judge.event("run", record(number, event))
        judge.finish()
        assert [finding.invariant for finding in judge.findings] == wanted
        assert judge.checks["I5"].examined == (1 if events else len(wanted))


def test_what_cannot_be_read_is_a_finding() -> None:
    """Neither a value of an unknown schema nor an event of an unknown name is passed over."""
    judge = RunJudge()
    judge.event("run", record(1, whole()[0]))
    judge.event("run", replace(record(2, whole()[1]), name="flexcore.run.StepInvented"))
    judge.event("run", LogRecord("run.events", 0, 3, b"", b"", {}, "no schema 7", {}))
    assert [finding.invariant for finding in judge.findings] == ["I17", "I17"]


def test_every_invariant_is_judged_or_said_to_be_judged_elsewhere() -> None:
    """None is left out of the table, and the judge can follow every event there is."""
    assert [*INVARIANTS] == [f"I{number}" for number in range(1, 18)]
    assert INVARIANTS.keys() > ELSEWHERE.keys()
    assert {kind.__name__ for kind in happened.Event.__args__} - {"RunCreated"} <= known_kinds()


def known_kinds() -> set[str]:
    """Return the events that the judge can follow."""
    from streams.proof.run_history import RunHistory

    return set(RunHistory._TELL)  # what it knows is said there alone
