"""Steps that must be taken by a runner in time: when the clock starts, what stops it, and what happens at its end."""

from dataclasses import replace
from typing import Any

from streams.domain.run.commands import CancelRun, ClaimStep, PauseRun, ResumeRun, Tick
from streams.domain.run.events import RunEnded, RunPaused, StepCancelled, StepFailed, StepOffered
from streams.domain.run.timing import LEASE_MS
from tests.support.pipeline_files import command, step_problems
from tests.support.run_judging import findings_of_run
from tests.support.run_spec import AGGREGATE, RunSpec, created

SOON = {"start_timeout": "10m"}
SOON_MS = 600_000
LATE = "no runner took it within 10m"


def due(run: RunSpec) -> int | None:
    """Return when the run's timer fires."""
    return AGGREGATE.due(run.state)


def test_a_step_that_no_runner_takes_in_time_fails_with_what_comes_after_it() -> None:
    """Not a millisecond early, and once; the run ends, and a claim that comes later is refused."""
    run = created(command("a", **SOON), command("b", "a"))
    offered = run.log[-1]
    assert (offered.until, due(run), run.step("a").until) == (SOON_MS, SOON_MS, SOON_MS)
    run.now = SOON_MS - 1
    assert run.do(Tick(SOON_MS)) == ()
    told = run.tick(SOON_MS)
    assert told[0] == StepFailed("a", 1, LATE, "", "timed_out", SOON_MS)
    assert told[-1].error == f"step a timed out: {LATE}"
    assert (run.statuses(), due(run)) == ({"a": "timed_out", "b": "skipped"}, None)
    assert run.tick(SOON_MS + 1) == ()
    run.when(ClaimStep("a", 1, "t", "n")).refused("stale_lease", "failed")
    assert findings_of_run(run.log) == []


def test_a_claim_stops_the_clock() -> None:
    """From then on the step's timeout counts, and the heartbeats of its runner."""
    run = created(command("a", **SOON, timeout="1h"))
    run.now = SOON_MS - 1
    run.claim("a")
    assert (run.step("a").until, due(run)) == (None, SOON_MS - 1 + LEASE_MS)
    run.complete("a")
    assert run.state.status == "succeeded"


def test_it_is_not_tried_again_because_it_would_wait_in_the_same_place() -> None:
    """Retries are for attempts that were at work; each of them has the time anew to be taken."""
    retry = {"attempts": 3, "initial": "1s", "jitter": "none"}
    run = created(command("a", retry=retry, **SOON))
    run.now = 300_000
    run.claim("a")
    run.fail("a")
    assert (run.step("a").status, due(run)) == ("retrying", 301_000)
    run.tick(301_000)
    assert (run.step("a").attempt, due(run)) == (2, 301_000 + SOON_MS)
    run.tick(301_000 + SOON_MS)
    assert (run.step("a").status, run.step("a").attempt, run.state.status) == ("timed_out", 2, "failed")
    assert findings_of_run(run.log) == []


def test_a_step_whose_runner_was_lost_has_the_time_anew() -> None:
    """It is on offer again from the moment of the loss."""
    run = created(command("a", **SOON))
    run.claim("a")
    run.tick(LEASE_MS)
    assert (run.step("a").status, due(run)) == ("queued", LEASE_MS + SOON_MS)
    run.tick(LEASE_MS + SOON_MS)
    assert run.step("a").error == LATE


def test_a_pause_stops_the_clock_and_the_time_begins_anew_with_the_offer() -> None:
    """Nobody may take what is paused, so nobody is late."""
    run = created(command("a", **SOON))
    run.now = 500_000
    run.do(PauseRun())
    assert due(run) is None
    run.now = SOON_MS
    assert run.do(Tick(SOON_MS)) == ()
    run.now = 900_000
    run.do(ResumeRun())
    assert due(run) == 900_000 + SOON_MS
    run.tick(900_000 + SOON_MS)
    assert run.step("a").error == LATE
    assert findings_of_run(run.log) == []


def test_waiting_for_a_limit_is_not_waiting_for_a_runner() -> None:
    """The clock starts when the step is offered."""
    run = created(command("a", **SOON), limits=[{"name": "crm", "max": 1}])
    assert due(run) is None


def test_who_cancels_or_skips_the_step_stops_the_clock() -> None:
    """A timer that stays behind would be told of a run that has ended."""
    run = created(command("a", **SOON))
    told = run.do(CancelRun(now=True))
    assert [type(event) for event in told] == [StepCancelled, RunEnded]
    assert (due(run), run.step("a").until) == (None, None)


def test_items_turns_finally_steps_and_compensations_are_timed_alike() -> None:
    """An item that nobody takes is a failed item; what undoes a step has a time of its own."""
    over = {"over": [1, 2, 3], "tolerated_failures": 3, "command": {"argv": ["x"]}}
    run = created({"name": "all", "map": over, **SOON})
    run.tick(SOON_MS)
    assert (run.state.status, run.state.steps["all"].status) == ("succeeded", "succeeded")

    turns = {"until": "${{ result.done }}", "max": 9, "command": {"argv": ["x"]}}
    last: dict[str, Any] = {"finally": [command("tell", **SOON)]}
    run = created({"name": "poll", "repeat": turns, **SOON}, **last)
    run.tick(SOON_MS)
    assert run.step("poll").error == f"turn poll[0]: {LATE}"
    assert due(run) == 2 * SOON_MS
    run.tick(2 * SOON_MS)
    assert run.statuses() == {"poll": "failed", "tell": "timed_out"}
    assert findings_of_run(run.log) == []

    undo = {"command": {"argv": ["undo"]}, "start_timeout": "1m"}
    run = created(command("a", compensate=undo, **SOON), command("b", "a", **SOON)).run("a")
    run.tick(SOON_MS)
    assert due(run) == SOON_MS + 60_000
    run.tick(SOON_MS + 60_000)
    assert (
        run.state.error
        == f"step b timed out: {LATE}; compensation of a timed out: no runner took it within 1m"
    )
    assert findings_of_run(run.log) == []


def test_who_takes_a_run_over_sees_the_same_timer() -> None:
    """It is in the event: a fold of the log is due at the same moment."""
    run = created(command("a", **SOON))
    again = AGGREGATE.initial
    for event in run.log:
        again = AGGREGATE.evolve(again, event)
    assert AGGREGATE.due(AGGREGATE.wake(again, SOON_MS + 5)) == SOON_MS


def test_a_wrong_start_timeout_is_named_with_its_place() -> None:
    """As the other times of a step, and only where a runner comes."""
    assert "spec.steps[0].start_timeout" in step_problems(command("a", start_timeout="soon"))
    assert "spec.steps[0].start_timeout" in step_problems(command("a", start_timeout="1ms"))
    waits = step_problems({"name": "w", "wait": {"for": "1s"}, **SOON})
    assert "no runner takes it" in waits["spec.steps[0].start_timeout"]
    called = step_problems({"name": "c", "pipeline": {"name": "load"}, **SOON})
    assert "no runner takes it" in called["spec.steps[0].start_timeout"]
    undo = {"command": {"argv": ["undo"]}, "start_timeout": 3}
    assert "spec.steps[0].compensate.start_timeout" in step_problems(command("a", compensate=undo))


def test_the_judge_of_the_log_sees_who_gave_up_too_early_or_while_paused() -> None:
    """What a node would never tell, in a log that somebody else wrote."""
    run = created(command("a", **SOON))
    run.tick(SOON_MS)
    early = [replace(event, at=event.at - 1) if isinstance(event, StepFailed) else event for event in run.log]
    (found,) = findings_of_run(early)
    assert (found.invariant, found.said) == ("I9", "a was given up 1 ms before its time")
    paused = [*run.log[:2], RunPaused(5), *run.log[2:]]
    assert (findings_of_run(paused)[0].invariant, findings_of_run(paused)[0].said) == (
        "I9",
        "a was given up while the run was paused",
    )
    short = [replace(event, until=5) if isinstance(event, StepOffered) else event for event in run.log]
    (found,) = findings_of_run(short)
    assert (found.invariant, found.said) == ("I9", f"a is on offer for 5 ms, not for {SOON_MS}")
