"""Steps that are done again and again until their result is what is wanted: numbered turns, one after the other."""

import json
from typing import Any, cast

import pytest

from streams.domain.aggregate import Send
from streams.domain.run.commands import (
    CancelRun,
    ClaimStep,
    CreateRun,
    PauseRun,
    RerunRun,
    ResumeRun,
    SkipStep,
)
from streams.domain.run.events import (
    RunEnded,
    StepCancelled,
    StepFailed,
    StepLost,
    StepMapped,
    StepOffered,
    StepRetryScheduled,
    StepSkipped,
    StepSucceeded,
    StepWaiting,
)
from streams.domain.run.timing import LEASE_MS
from tests.support.pipeline_files import command, step_problems
from tests.support.run_judging import findings_of_run
from tests.support.run_spec import RunSpec, created

DONE = '{"done":true}'
MORE = '{"done":false}'


def poll(name: str = "poll", *after: str, **more: Any) -> dict[str, Any]:
    """Return a step that asks again until the answer is yes."""
    step_keys: dict[str, Any] = {
        key: more.pop(key) for key in ("retry", "timeout", "when", "compensate") if key in more
    }
    block = {"command": {"argv": ["ask"]}, "until": "${{ result.done }}", "max": 3, "wait": "30s", **more}
    return {"name": name, "after": list(after), "repeat": block, **step_keys}


def turn(told: RunSpec, name: str, output: str = MORE) -> tuple[Any, ...]:
    """Let a turn do its work; return what follows from its result."""
    told.claim(name)
    return told.complete(name, output)


def test_turns_follow_each_other_after_the_wait_until_the_condition_holds() -> None:
    """Each is a step of its own; the last one's result is the step's."""
    told = created(poll(), command("b", "poll"))
    assert told.log[1:] == [StepMapped("poll", "[]", 3, 0), StepOffered("poll[0]", 1, "default", 0)]
    told.now = 1_000
    assert turn(told, "poll[0]")[1:] == (StepWaiting("poll[1]", "time", 31_000, 1_000),)
    assert (told.step("poll").status, told.step("poll").until) == ("repeating", 31_000)
    assert told.tick(30_999) == ()
    assert told.tick(31_000) == (StepOffered("poll[1]", 1, "default", 31_000),)
    assert turn(told, "poll[1]", DONE)[1:] == (
        StepSucceeded("poll", 0, DONE, 0, 0, 0, 0, 31_000),
        StepOffered("b", 1, "default", 31_000),
    )
    assert told.run("b").state.status == "succeeded"
    assert set(told.state.steps) == {"poll", "b"}
    assert findings_of_run(told.log) == []


def test_without_a_wait_the_next_turn_begins_at_once_and_is_given_the_last_result() -> None:
    """In its expressions and beside them, with its number; the first one is given an empty result."""
    argv = ["ask", "${{ index }}", "${{ has(result.page) ? result.page : 0 }}"]
    told = created(poll(command={"argv": argv}, wait="0s"))
    turn(told, "poll[0]", '{"done":false,"page":7}')
    assert [
        (task["step"], task["index"], task["result"], task["spec"]["argv"]) for task in told.offers()
    ] == [
        ("poll[0]", 0, {}, ["ask", "0", "0"]),
        ("poll[1]", 1, {"done": False, "page": 7}, ["ask", "1", "7"]),
    ]


def test_when_its_turns_are_used_up_the_step_has_failed() -> None:
    """The error says what did not hold, and what comes after is skipped as after any failure."""
    told = created(poll(max=2, wait="0s"), command("b", "poll"))
    turn(told, "poll[0]")
    events = turn(told, "poll[1]")
    error = "until result.done did not hold after 2 turns"
    assert [type(event) for event in events] == [StepSucceeded, StepFailed, StepSkipped, RunEnded]
    assert events[1] == StepFailed("poll", 0, error, "", "failed", 0)
    assert told.state.error == f"step poll failed: {error}"
    assert findings_of_run(told.log) == []


@pytest.mark.parametrize(
    ("until", "output", "words"),
    [
        ("${{ result.done }}", "{}", "repeat.until: "),
        ("${{ result.n }}", '{"n":3}', "repeat.until: 3 is neither true nor false"),
    ],
)
def test_a_condition_that_cannot_be_had_fails_the_step(until: str, output: str, words: str) -> None:
    """No further turn would be different."""
    told = created(poll(until=until))
    turn(told, "poll[0]", output)
    assert words in (told.state.error or "")


def test_each_turn_is_tried_again_by_the_steps_own_retry() -> None:
    """A failure, a lost runner; a turn that fails for good fails the step."""
    told = created(poll(retry={"attempts": 2, "initial": "1s", "jitter": "none"}))
    told.claim("poll[0]")
    assert isinstance(told.fail("poll[0]")[0], StepRetryScheduled)
    assert told.tick(1_000) == (StepOffered("poll[0]", 2, "default", 1_000),)
    told.claim("poll[0]")
    lost = told.tick(1_000 + LEASE_MS)
    assert [type(event) for event in lost] == [StepLost, StepOffered]
    turn(told, "poll[0]")
    told.tick(told.now + 30_000)
    for _ in range(2):
        told.claim("poll[1]")
        told.fail("poll[1]")
        told.tick(told.now + 1_000)
    assert told.state.error == "step poll failed: turn poll[1]: broken"
    assert findings_of_run(told.log) == []


def test_a_turn_whose_settings_cannot_be_had_fails_the_step() -> None:
    """Also when it was waited for."""
    step = poll(command={"argv": ["ask", "${{ index == 0 ? 'a' : result.page }}"]})
    told = created(step)
    turn(told, "poll[0]")
    told.tick(30_000)
    assert (told.state.error or "").startswith("step poll failed: turn poll[1]: command.argv[1]: ")
    assert findings_of_run(told.log) == []


def test_a_paused_run_begins_no_turn_and_makes_up_for_the_wait_when_it_is_resumed() -> None:
    """What ended meanwhile counts; the wait goes on meanwhile, too."""
    told = created(poll())
    told.claim("poll[0]")
    told.do(PauseRun())
    assert [type(event) for event in told.complete("poll[0]", MORE)] == [StepSucceeded, StepWaiting]
    assert told.tick(40_000) == ()
    assert [type(event) for event in told.do(ResumeRun())[1:]] == [StepOffered]
    told.do(PauseRun())
    told.when(ClaimStep("poll[1]", 1, "t", "n")).refused("paused")
    assert told.do(ResumeRun())[1] == StepOffered("poll[1]", 1, "default", 40_000)
    assert turn(told, "poll[1]", DONE)[-1].status == "succeeded"
    assert findings_of_run(told.log) == []
    other = created(poll(wait="0s"))
    other.claim("poll[0]")
    other.do(PauseRun())
    assert len(other.complete("poll[0]", MORE)) == 1
    assert other.do(ResumeRun())[1] == StepOffered("poll[1]", 1, "default", 0)
    assert findings_of_run(other.log) == []


@pytest.mark.parametrize("claimed", [True, False])
def test_a_cancel_ends_the_turn_at_work_or_the_wait_for_the_next_one(claimed: bool) -> None:
    """Nothing begins afterwards."""
    told = created(poll())
    if claimed:
        told.claim("poll[0]")
    else:
        turn(told, "poll[0]")
    at_work = "poll[0]" if claimed else "poll[1]"
    events = told.do(CancelRun())
    assert [event.step for event in events if isinstance(event, StepCancelled)] == ["poll", at_work]
    assert told.state.status == "cancelled"
    assert told.tick(60_000) == ()
    assert findings_of_run(told.log) == []


def test_the_runs_timeout_ends_a_repeat_and_undoing_follows() -> None:
    """A step with turns is undone as any other: as a whole, after its success only."""
    undo = {"command": {"argv": ["undo", "${{ steps.poll.outputs.done }}"]}}
    told = created(poll(wait="0s", compensate=undo), poll("next", "poll"), timeout="1m")
    turn(told, "poll[0]", DONE)
    told.tick(60_000)
    assert told.statuses()["next"] == "cancelled"
    assert told.run("poll:compensate").state.status == "timed_out"
    assert told.step("poll").status == "compensated"
    assert findings_of_run(told.log) == []


def test_finally_steps_repeat_too() -> None:
    """The run ends when they have."""
    told = created(command("a"), **cast("dict[str, Any]", {"finally": [poll("tidy")]}))
    told.run("a")
    turn(told, "tidy[0]", DONE)
    assert told.state.status == "succeeded"
    assert findings_of_run(told.log) == []


def test_a_turn_left_out_by_hand_brought_nothing_and_the_next_one_follows() -> None:
    """Leaving out the step ends it, whatever its turn is doing."""
    told = created(poll(), command("b", "poll"))
    told.claim("poll[0]")
    assert told.do(SkipStep("poll[0]"))[1:] == (StepWaiting("poll[1]", "time", 30_000, 0),)
    assert told.do(SkipStep("poll[1]"))[1:] == (StepWaiting("poll[2]", "time", 30_000, 0),)
    events = told.do(SkipStep("poll"))
    assert [type(event) for event in events] == [StepCancelled, StepSkipped, StepOffered]
    assert told.run("b").state.status == "succeeded"
    assert findings_of_run(told.log) == []
    last = created(poll(max=1))
    last.do(SkipStep("poll[0]"))
    assert "did not hold after 1 turn" in (last.state.error or "")
    assert findings_of_run(last.log) == []


def test_a_rerun_from_a_later_step_keeps_the_result_one_from_the_step_begins_with_its_first_turn() -> None:
    """The turns belong to the step."""
    told = created(poll(), command("b", "poll"))
    turn(told, "poll[0]", DONE)
    told.run("b")
    for origin, kept in (("b", {"poll"}), ("poll", set())):
        told.do(RerunRun(f"again-{origin}", origin))
        (asked,) = (one.body for one in told.sent[-1:] if isinstance(one, Send))
        assert isinstance(asked, CreateRun)
        assert json.loads(asked.reused).keys() == kept


@pytest.mark.parametrize(
    ("block", "path", "words"),
    [
        ({"until": "always"}, ".until", "is always the same"),
        ({"until": "${{ steps.poll.outputs.done }}"}, ".until", "write result"),
        ({"until": "${{ item }}"}, ".until", "there is no item here"),
        ({"max": 0}, ".max", "from 1 to 10000"),
        ({"max": None}, ".max", "is missing"),
        ({"wait": "soon"}, ".wait", "soon"),
        ({"waits": "1s"}, ".waits", "did you mean wait?"),
        ({"command": {"argv": []}}, ".command.argv", "must be the program"),
        ({"command": {"argv": ["a", "${{ item }}"]}}, ".command.argv[1]", "in the command of a map step"),
    ],
)
def test_every_mistake_is_named_with_its_place(block: dict[str, Any], path: str, words: str) -> None:
    """Also a result where there is none."""
    assert words in step_problems(poll(**block))[f"spec.steps[0].repeat{path}"]


def test_a_result_is_a_repeats_own() -> None:
    """Neither another command nor a map has one."""
    told = step_problems({"name": "a", "command": {"argv": ["x", "${{ result }}"]}})
    assert "it stands in a repeat step" in told["spec.steps[0].command.argv[1]"]
