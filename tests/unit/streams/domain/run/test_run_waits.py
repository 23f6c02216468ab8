"""Steps for which a run itself waits: time, signals, approvals."""

import json
from typing import Any

import pytest

from streams.domain.aggregate import Message
from streams.domain.run.commands import ApproveStep, CancelRun, PauseRun, RejectStep, ResumeRun, SignalRun
from streams.domain.run.events import (
    RunEnded,
    RunPaused,
    RunResumed,
    SignalReceived,
    StepCancelled,
    StepDecided,
    StepFailed,
    StepOffered,
    StepSkipped,
    StepSucceeded,
    StepWaiting,
)
from tests.support.pipeline_files import command
from tests.support.run_spec import RunSpec, created, creation, folded

DECEMBER = 1_796_104_800_000  # 2026-12-01T06:00:00Z


def step(called: str, kind: str, *after: str, **block: Any) -> dict[str, Any]:
    """Return a step that no runner takes."""
    return {"name": called, kind: block, "after": list(after)}


def done(name: str, output: str, at: int = 0) -> StepSucceeded:
    """Return the success of a step that no runner took."""
    return StepSucceeded(name, 0, output, 0, 0, 0, 0, at)


def events(told: RunSpec, *kinds: type) -> list[Any]:
    """Return the events of these kinds so far."""
    return [event for event in told.log if isinstance(event, kinds)]


# ---------------------------------------------------------------- time
def test_a_wait_ends_when_its_time_is_over() -> None:
    """Not earlier; what comes after it is offered in the same decision."""
    told = created(step("rest", "wait", **{"for": "10m"}), command("b", "rest"))
    assert events(told, StepWaiting) == [StepWaiting("rest", "time", 600_000, 0)]
    assert (told.state.status, told.offers()) == ("running", [])
    assert told.tick(599_999) == ()
    assert told.tick(600_000) == (done("rest", "{}", 600_000), StepOffered("b", 1, "default", 600_000))


def test_a_wait_until_a_point_in_time_that_is_over_is_over() -> None:
    """A late run does not wait for a year."""
    told = created(step("opening", "wait", until="2026-12-01T06:00:00Z"), command("b", "opening"))
    assert told.step("opening").until == DECEMBER
    late = RunSpec().at(DECEMBER + 1)
    late.do(creation(step("opening", "wait", until="2026-12-01T07:00:00+01:00"), command("b", "opening")))
    assert late.statuses() == {"opening": "succeeded", "b": "queued"}


def test_a_thousand_waits_in_a_row_that_are_over_end_in_one_decision() -> None:
    """However long the row: nothing recurses."""
    past = {"until": "1969-01-01T00:00:00Z"}
    row = [step("s0", "wait", **past), *(step(f"s{n}", "wait", f"s{n - 1}", **past) for n in range(1, 1_000))]
    assert folded(*row).status == "succeeded"


def test_time_goes_by_in_a_paused_run_too() -> None:
    """What comes after the wait is offered when the run goes on."""
    told = created(step("rest", "wait", **{"for": "1s"}), command("b", "rest"))
    told.do(PauseRun())
    assert told.tick(1_000) == (done("rest", "{}", 1_000),)
    assert told.do(ResumeRun()) == (RunResumed(1_000), StepOffered("b", 1, "default", 1_000))


def test_cancelling_ends_a_waiting_step() -> None:
    """No timer is left."""
    told = created(step("rest", "wait", **{"for": "1s"}))
    assert told.do(CancelRun())[0] == StepCancelled("rest", 0, 0)
    assert told.tick(5_000) == ()


# ---------------------------------------------------------------- signals
def test_a_signal_ends_the_step_that_waits_for_it_with_its_payload() -> None:
    """Told again, it changes nothing."""
    told = created(step("paid", "signal", name="invoice"), command("b", "paid"))
    assert events(told, StepWaiting) == [StepWaiting("paid", "signal invoice", None, 0)]
    told.at(5).when(SignalRun("invoice", '{"amount":12}')).then(
        SignalReceived("invoice", '{"amount":12}', 5),
        done("paid", '{"amount":12}', 5),
        StepOffered("b", 1, "default", 5),
    )
    told.when(SignalRun("invoice", '{"amount":13}')).then()


def test_an_early_signal_is_kept_for_the_step_that_will_wait_for_it() -> None:
    """Once, however often it is told."""
    told = created(command("a"), step("paid", "signal", "a"), command("b", "paid"))
    told.when(SignalRun("paid", '{"n":1}')).then(SignalReceived("paid", '{"n":1}', 0))
    told.when(SignalRun("paid", '{"n":2}')).then()
    told.run("a")
    assert told.statuses() == {"a": "succeeded", "paid": "succeeded", "b": "queued"}
    assert json.loads(told.step("paid").output or "") == {"n": 1}
    assert told.state.signals == ()


def test_two_steps_of_one_name_take_a_signal_each() -> None:
    """In the order of their coming."""
    told = created(step("first", "signal", name="go"), step("second", "signal", "first", name="go"))
    for n in (1, 2):
        told.do(SignalRun("go", f'{{"n":{n}}}'))
    assert told.state.status == "succeeded"
    assert [told.step(name).output for name in ("first", "second")] == ['{"n":1}', '{"n":2}']


def test_a_signal_that_comes_while_the_run_is_paused_counts() -> None:
    """Its step ends; nothing is offered."""
    told = created(step("paid", "signal"), command("b", "paid"))
    told.when(PauseRun()).then(RunPaused(0))
    assert [type(event) for event in told.do(SignalRun("paid"))] == [SignalReceived, StepSucceeded]
    assert told.do(ResumeRun())[-1] == StepOffered("b", 1, "default", 0)


def test_silence_fails_the_step_or_lets_the_run_go_on() -> None:
    """As the file says; failing is what happens if it says nothing."""
    told = created(step("paid", "signal", deadline="2s"), command("b", "paid"))
    error = "the signal did not come within 2s"
    assert told.tick(2_000) == (
        StepFailed("paid", 0, error, "", "timed_out", 2_000),
        StepSkipped("b", "step paid timed out", 2_000),
        RunEnded("failed", f"step paid timed out: {error}", "customers", None, "manual", 2_000),
    )
    told = created(step("paid", "signal", deadline="2s", on_silence="succeed"), command("b", "paid"))
    assert told.tick(2_000) == (done("paid", "{}", 2_000), StepOffered("b", 1, "default", 2_000))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (SignalRun("piad"), "did you mean paid?"),
        (SignalRun("x"), "it waits for: paid"),
        (SignalRun("paid", "[]"), "JSON object"),
        (SignalRun("paid", '{"a":"' + "x" * 70_000 + '"}'), "65536"),
    ],
)
def test_a_signal_that_nobody_could_use_is_refused(body: SignalRun, words: str) -> None:
    """A wrong name above all: it would be waited for in vain."""
    created(command("a"), step("paid", "signal", "a")).when(body).refused("invalid", words)


def test_what_people_send_does_not_pass_for_a_dataset() -> None:
    """Runners are not given it as the result of a step that made records."""
    told = created(step("paid", "signal"), command("b", "paid"))
    told.do(SignalRun("paid", '{"topic":"somebody-elses"}'))
    assert told.offers()[0]["upstream"] == {}


# ---------------------------------------------------------------- approvals
def decide(told: RunSpec, body: ApproveStep | RejectStep, actor: str) -> Any:
    """Let somebody decide, and fold what follows."""
    decision = told.aggregate.decide(Message(body, "default", "r1", "c", told.now, actor), told.state)
    if isinstance(decision, tuple):
        told.given(*decision)
    return decision


def test_one_of_those_who_may_approves() -> None:
    """Who it was and why are in the event and in the step's output; said again, it changes nothing."""
    told = created(step("ok", "approval", by=["ann", "ben"]), command("b", "ok"))
    assert events(told, StepWaiting) == [StepWaiting("ok", "approval by ann or ben", None, 0)]
    assert decide(told, ApproveStep("ok", "checked"), "ben") == (
        StepDecided("ok", "approved", "ben", "checked", 0),
        done("ok", '{"approved":true,"by":"ben","note":"checked"}'),
        StepOffered("b", 1, "default", 0),
    )
    assert decide(told, ApproveStep("ok"), "ann") == ()
    assert decide(told, RejectStep("ok"), "ann").reason == "already_ended"


def test_a_rejection_fails_the_step() -> None:
    """And with it the run, as any failure does."""
    told = created(step("ok", "approval"), command("b", "ok"))
    facts = decide(told, RejectStep("ok", "wrong month"), "ann")
    assert facts[:2] == (
        StepDecided("ok", "rejected", "ann", "wrong month", 0),
        StepFailed("ok", 0, "rejected by ann: wrong month", "", "failed", 0),
    )
    assert told.state.error == "step ok failed: rejected by ann: wrong month"
    assert decide(told, RejectStep("ok"), "ann").reason == "already_ended"


def test_others_may_not_decide() -> None:
    """Nor may anybody before it is asked, nor of a step that asks nobody."""
    told = created(command("a"), step("ok", "approval", "a", by=["ann"]))
    told.when(ApproveStep("ok")).refused("not_running", "pending")
    told.when(ApproveStep("a")).refused("invalid", "its approvals: ok")
    told.run("a")
    told.when(ApproveStep("ok")).refused("not_allowed", "for ann to decide, not for anonymous")
    told.when(RejectStep("ok", "x" * 5_000)).refused("invalid", "4096")


@pytest.mark.parametrize(
    ("meaning", "status", "error"),
    [
        ({}, "timed_out", "nobody decided within 1d"),
        ({"on_silence": "reject"}, "failed", "rejected: nobody decided within 1d"),
        ({"on_silence": "approve"}, "succeeded", None),
    ],
)
def test_silence_means_what_the_file_says(meaning: dict[str, str], status: str, error: str | None) -> None:
    """A deadline that goes by decides."""
    told = created(step("ok", "approval", deadline="1d", **meaning))
    told.tick(86_400_000)
    assert (told.step("ok").status, told.step("ok").error) == (status, error)
    if status == "succeeded":
        assert '"by":null' in (told.step("ok").output or "")
