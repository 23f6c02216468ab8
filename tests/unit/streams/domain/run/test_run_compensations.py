"""What was done is undone when the run does not succeed: the latest first, one after the other, before `finally`."""

from typing import Any

import pytest

from streams.domain.aggregate import Send
from streams.domain.run import progress
from streams.domain.run.commands import CancelRun, CreateRun, PauseRun, RerunRun, ResumeRun, SkipStep
from streams.domain.run.events import (
    RunCompensating,
    RunEnded,
    RunFinishing,
    StepCancelled,
    StepFailed,
    StepOffered,
    StepRetryScheduled,
    StepSkipped,
    StepSucceeded,
)
from streams.domain.run.state import document
from tests.support.pipeline_files import command, step_problems
from tests.support.run_judging import findings_of_run
from tests.support.run_spec import RunSpec, created

FAILED = "step c failed: broken"


def undoable(name: str, *after: str, **more: Any) -> dict[str, Any]:
    """Return a step that can be undone; ``more`` is of its compensation."""
    return command(name, *after, compensate={"command": {"argv": ["undo"]}, **more})


def three(**last: Any) -> RunSpec:
    """Return a run whose steps a and b, which can be undone, are done, and whose last step c is at work."""
    spec: dict[str, Any] = {"finally": [command("z")], **last}
    told = created(undoable("a"), undoable("b", "a"), command("c", "b"), **spec)
    told.run("a", "b")
    told.claim("c")
    return told


def test_a_run_that_fails_undoes_what_was_done_the_latest_first_and_tidies_up_then() -> None:
    """Each with the result of what it undoes; the run has failed all the same."""
    told = three()
    begun = told.fail("c")
    undo = ["b:compensate", "a:compensate"]
    assert begun[1:] == (
        RunCompensating("failed", FAILED, '["b:compensate","a:compensate"]', 0),
        StepOffered("b:compensate", 1, "default", 0),
    )
    assert told.state.status == "compensating"
    assert told.offers()[-1]["upstream"] == {"b": {}}
    told.claim(undo[0])
    assert told.complete(undo[0])[1] == StepOffered(undo[1], 1, "default", 0)
    told.claim(undo[1])
    assert [type(event) for event in told.complete(undo[1])] == [StepSucceeded, RunFinishing, StepOffered]
    told.run("z")
    assert (told.state.status, told.state.error) == ("failed", FAILED)
    shown = {step["name"]: step["status"] for step in document("r1", told.state)["steps"]}
    assert shown == {
        "a": "compensated", "b": "compensated", "c": "failed", "z": "succeeded", **dict.fromkeys(undo, "succeeded")
    }  # fmt: skip
    assert findings_of_run(told.log) == []


def test_a_compensation_that_fails_is_tried_again_then_told_and_the_others_go_on() -> None:
    """With a retry of its own."""
    retry = {"attempts": 2, "initial": "1s", "jitter": "none"}
    told = created(undoable("a"), undoable("b", "a", retry=retry), command("c", "b"))
    told.run("a", "b")
    told.claim("c")
    told.fail("c")
    told.claim("b:compensate")
    assert [type(event) for event in told.fail("b:compensate")] == [StepRetryScheduled]
    told.tick(1_000)
    told.claim("b:compensate")
    assert [type(event) for event in told.fail("b:compensate", "no disk")] == [StepFailed, StepOffered]
    told.run("a:compensate")
    assert told.state.error == f"{FAILED}; compensation of b failed: no disk"
    assert (told.step("a").status, told.step("b").status) == ("compensated", "succeeded")
    assert findings_of_run(told.log) == []


def test_a_cancelled_run_undoes_what_was_done_unless_it_is_now() -> None:
    """What was at work is stopped, not undone; a second word changes nothing; now stops the undoing too."""
    told = three()
    assert [type(event) for event in told.do(CancelRun())[:2]] == [StepCancelled, RunCompensating]
    assert told.do(CancelRun()) == ()
    told.when(PauseRun()).refused("not_running", "compensations go on")
    assert [type(event) for event in told.do(CancelRun(now=True))][-1] == RunEnded
    assert told.state.status == "cancelled"
    other = three()
    assert not any(isinstance(event, RunCompensating) for event in other.do(CancelRun(now=True)))
    failed = three()
    failed.fail("c")
    failed.when(CancelRun()).refused("already_ended", "its compensations are at work")
    for one in (told, other, failed):
        assert findings_of_run(one.log) == []


def test_a_run_that_times_out_takes_the_time_it_needs_to_undo() -> None:
    """The run's timeout does not count for it."""
    told = three(timeout="1m")
    told.tick(60_000)
    assert told.aggregate.due(told.state) is None
    told.tick(600_000)
    told.at(600_000).run("b:compensate", "a:compensate", "z")
    assert told.state.status == "timed_out"
    assert findings_of_run(told.log) == []


def test_what_cannot_be_undone_may_be_left_out_by_hand() -> None:
    """The next one goes on."""
    told = three()
    told.fail("c")
    assert [type(event) for event in told.do(SkipStep("b:compensate"))] == [StepSkipped, StepOffered]
    told.run("a:compensate", "z")
    assert told.step("b").status == "succeeded"
    assert findings_of_run(told.log) == []


def test_a_paused_run_undoes_when_it_is_resumed() -> None:
    """Nothing begins in a paused run."""
    told = three()
    told.do(PauseRun())
    assert len(told.fail("c")) == 1
    assert [type(event).__name__ for event in told.do(ResumeRun())][-2:] == ["RunCompensating", "StepOffered"]
    assert findings_of_run(told.log) == []


def test_a_run_that_succeeds_or_has_done_nothing_undoes_nothing() -> None:
    """Nor is what another run has done this one's to undo; what was undone is done again by a rerun."""
    done = created(undoable("a")).run("a")
    assert done.state.status == "succeeded"
    nothing = created(undoable("a"))
    nothing.claim("a")
    assert [type(event) for event in nothing.fail("a", retryable=False)] == [StepFailed, RunEnded]
    reused = created(undoable("a"), command("c", "a"), more={"reused": '{"a":{}}', "rerun_of": "r0"})
    reused.claim("c")
    assert isinstance(reused.fail("c")[-1], RunEnded)
    told = three()
    told.fail("c")
    told.run("b:compensate", "a:compensate", "z").do(RerunRun("r2", "c"))
    (again,) = [effect.body for effect in told.sent if isinstance(effect, Send)]
    assert isinstance(again, CreateRun)
    assert again.reused == "{}"


def test_a_compensation_whose_settings_cannot_be_had_has_failed_and_stops_nothing() -> None:
    """Its expressions may name what it undoes, and how the run will end."""
    step = undoable("a")
    step["compensate"]["command"] = {"argv": ["undo", "${{ steps.a.outputs.table }} ${{ run.status }}"]}
    told = created(step, command("b", "a"))
    told.run("a")
    told.claim("b")
    told.fail("b")
    assert "compensation of a failed: command.argv[1]: " in (told.state.error or "")
    well = created(step, command("b", "a"))
    well.claim("a")
    well.complete("a", '{"table":"t"}')
    well.claim("b")
    well.fail("b")
    assert well.offers()[-1]["spec"]["argv"] == ["undo", "t failed"]


def test_the_log_is_found_wrong_when_things_are_undone_in_another_order_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two planted bugs: done in the order of doing; forgotten."""
    monkeypatch.setattr(progress, "reversed", lambda names: names, raising=False)
    told = three()
    told.fail("c")
    assert (
        "it undoes a:compensate, b:compensate, not b:compensate, a:compensate"
        in findings_of_run(told.log)[0].said
    )
    monkeypatch.setattr(progress, "_undoable", lambda *_: False)
    told = three()
    told.fail("c")
    told.run("z")
    first = findings_of_run(told.log)[0]
    assert (first.invariant, first.said) == ("I11", "it failed, and b was not undone")


def test_the_file_is_checked() -> None:
    """A compensation is a program with a retry; only what does something has one."""
    wrong = step_problems(undoable("a", retry={"attempts": 0}, more=1))
    assert wrong.keys() == {f"spec.steps[0].compensate.{key}" for key in ("more", "retry.attempts")}
    waits = {"name": "w", "wait": {"for": "1s"}, "compensate": {"command": {"argv": ["undo"]}}}
    assert "nothing to undo" in step_problems(waits)["spec.steps[0].compensate"]
    later = undoable("a")
    later["compensate"]["command"]["argv"].append("${{ steps.b.outputs.x }}")
    assert (
        "need not have ended"
        in step_problems(later, command("b"))["spec.steps[1].compensate.command.argv[1]"]
    )
