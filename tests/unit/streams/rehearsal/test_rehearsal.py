"""Scenarios played in virtual time: which events come when, and what is said when it comes differently."""

from typing import Any

from streams.cron import mistake
from streams.domain.definition import Definition, canonical, problems
from streams.domain.run import events as happened
from streams.expressions import LANGUAGE
from streams.rehearsal.coverage import coverage
from streams.rehearsal.rehearsal import Rehearsal, rehearse
from streams.rehearsal.scenario import UNWRITTEN
from streams.rehearsal.scenario_file import scenarios_of
from tests.support.pipeline_files import command, extract, load, pipeline

DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
APPROVAL: dict[str, Any] = {
    "name": "ask",
    "approval": {"by": ["ann"], "deadline": "10d", "on_silence": "reject"},
}
SWITCH: dict[str, Any] = {
    "name": "size",
    "switch": {"cases": [{"when": "${{ inputs.n > 9 }}", "then": ["big"]}], "default": ["small"]},
}


def play(document: dict[str, Any], **scenario: Any) -> Rehearsal:
    """Play one scenario on a pipeline; both must be without mistakes."""
    assert problems(document, mistake, LANGUAGE) == []
    text = canonical(document)
    scenarios, wrong = scenarios_of({"scenarios": [{"name": "it", **scenario}]}, Definition.parse(text))
    assert [str(problem) for problem in wrong] == []
    return rehearse(text, scenarios[0])


def told(rehearsal: Rehearsal, *left_out: type) -> list[tuple[str, int]]:
    """Return the names of the run's events, each with the ms since the run was created."""
    run = [event for event in rehearsal.events if event.aggregate == "run"]
    return [
        (f"{type(event.body).__name__} {getattr(event.body, 'step', '')}".strip(), event.at - run[0].at)
        for event in run
        if not isinstance(event.body, left_out)
    ]


def taken(document: dict[str, Any], rehearsal: Rehearsal, step: str) -> dict[str, int]:
    """Return how often each branch of a step was taken."""
    found = coverage(Definition.parse(canonical(document)), rehearsal.ways)
    return {line.branch: line.times for line in found if line.step == step}


def test_a_month_goes_by_with_an_approval_and_retries_at_their_times() -> None:
    """No event is early, late or missing; nothing waits for a real clock."""
    retry = {"attempts": 3, "initial": "1h", "multiplier": 3, "max": "1d", "jitter": "none"}
    document = pipeline({"name": "settle", "wait": {"for": "25d"}}, {**APPROVAL, "after": ["settle"]},
                        command("post", "ask", retry=retry))  # fmt: skip
    came = play(
        document,
        steps={"post": [{"fail": {"times": 2, "duration": "5m"}}, {"succeed": {"duration": "10m"}}]},
        approvals=[{"step": "ask", "after": "5d"}],
        expect={"attempts": {"post": 3}, "duration": "30d4h20m", "outputs": {"ask": {"by": "ann"}}},
    )
    assert came.differences == ()
    begin = 30 * DAY
    assert told(came, happened.StepOffered) == [
        ("RunCreated", 0), ("StepWaiting settle", 0),
        ("StepSucceeded settle", 25 * DAY), ("StepWaiting ask", 25 * DAY),
        ("StepDecided ask", begin), ("StepSucceeded ask", begin), ("StepClaimed post", begin),
        ("StepRetryScheduled post", begin + 5 * MINUTE),
        ("StepClaimed post", begin + 65 * MINUTE), ("StepRetryScheduled post", begin + 70 * MINUTE),
        ("StepClaimed post", begin + 250 * MINUTE), ("StepSucceeded post", begin + 260 * MINUTE),
        ("RunEnded", begin + 260 * MINUTE),
    ]  # fmt: skip
    assert taken(document, came, "post") == {
        "succeeded": 1, "failed": 0, "retried": 2, "skipped after a failure": 0,
    }  # fmt: skip


def test_a_lost_runner_is_noticed_when_its_lease_runs_out_and_a_hanging_one_at_its_timeout() -> None:
    """A runner that works for hours keeps its lease all the time."""
    document = pipeline(
        command("slow", retry={"attempts": 2, "initial": "1s", "jitter": "none"}, timeout="3h")
    )
    came = play(
        document,
        steps={"slow": [{"lose": {"duration": "1h"}}, "hang", {"succeed": {"duration": "2h"}}]},
        expect={"attempts": {"slow": 3}},
    )
    assert came.differences == ()
    lost = HOUR + 6_000
    assert told(came, happened.StepClaimed, happened.RunCreated) == [
        ("StepOffered slow", 0), ("StepLost slow", lost), ("StepOffered slow", lost),
        ("StepRetryScheduled slow", lost + 3 * HOUR), ("StepOffered slow", lost + 3 * HOUR + 1_000),
        ("StepSucceeded slow", lost + 5 * HOUR + 1_000), ("RunEnded", lost + 5 * HOUR + 1_000),
    ]  # fmt: skip
    assert taken(document, came, "slow") == {
        "succeeded": 1, "failed": 0, "retried": 1, "timed out": 1, "runner lost": 1,
    }  # fmt: skip


def test_what_came_differently_is_told_in_one_sentence_each() -> None:
    """Expected, actual, and why."""
    came = play(
        pipeline(command("a"), {**APPROVAL, "after": ["a"]}, limits=[{"name": "db", "max": 1}],
                 alerts=[{"on": "failed", "notify": "x"}]),
        steps={"a": {"fail": {"error": "no route", "retryable": False}}},
        approvals=[{"step": "ask"}],
        expect={"steps": {"ask": "waiting"}, "attempts": {"a": 2}, "outputs": {"a": {"rows": 1}}, "error": "x",
                "duration": {"at_least": "1h"}, "alerts": []},
    )  # fmt: skip
    assert came.differences == (
        "approvals[0]: approve ask never came: ask is skipped",
        "status: expected succeeded, but it is failed (step a failed: no route)",
        "error: expected 'x' in it, but it is 'step a failed: no route'",
        "duration: expected at least 1h, but it is 0s",
        "alerts: expected none, but there are failed",
        "steps.ask: expected waiting, but it is skipped (step a failed)",
        "attempts.a: expected 2, but there were 1",
        "outputs.a.rows: expected 1, but it is not there",
    )


def test_a_decision_of_somebody_who_may_not_is_a_difference() -> None:
    """The rules refuse it here as they would on a node."""
    came = play(pipeline(APPROVAL), approvals=[{"step": "ask", "by": "carl"}], expect={"status": "failed"})
    assert came.differences == (
        "approvals[0]: approve ask was refused: step ask is for ann to decide, not for carl",
    )


def test_without_a_scenario_silence_decides_and_what_waits_for_ever_is_named() -> None:
    """The run is not expected to end well: nobody is there."""
    document = pipeline(APPROVAL, {"name": "invoices", "signal": {}})
    came = rehearse(canonical(document), UNWRITTEN)
    assert came.differences == ()
    assert came.waits == "step invoices waits for signal invoices, without a deadline"
    assert came.run["steps"][0]["error"] == "rejected: nobody decided within 10d"
    assert taken(document, came, "ask")["silence"] == 1
    assert taken(document, came, "invoices") == {"signal": 0}
    hanging = play(pipeline(command("a")), steps={"a": "hang"}, expect={"status": "running"})
    assert (hanging.differences, hanging.waits) == ((), "step a hangs, without a timeout")
    silent = pipeline(
        command(
            "a",
            heartbeat_timeout="5m",
            timeout="1h",
            retry={"attempts": 2, "initial": "1m", "jitter": "none"},
        )
    )
    noticed = {"duration": "6m", "attempts": {"a": 2}}
    assert play(silent, steps={"a": ["hang", {"succeed": {}}]}, expect=noticed).differences == ()


def test_a_step_whose_label_no_runner_has_waits() -> None:
    """Unless the scenario says so, there is a runner for every step."""
    document = pipeline(command("a", runs_on=["eu"]), command("b"), timeout="1h")
    assert play(document).differences == ()
    came = play(document, labels=["default"], expect={"status": "timed_out", "steps": {"b": "succeeded"}, "duration": "1h"})  # fmt: skip
    assert came.differences == ()
    waiting = play(pipeline(command("a", runs_on=["eu"])), labels=["default"], expect={"status": "queued"})
    assert (waiting.differences, waiting.waits) == ((), "step a waits for a runner labelled eu")


def test_a_step_whose_label_no_runner_has_waits_no_longer_than_its_start_timeout() -> None:
    """Coverage tells it from an attempt that was at work for too long."""
    document = pipeline(command("a", runs_on=["eu"], start_timeout="10m", timeout="1h"))
    assert play(document).differences == ()
    came = play(document, labels=["default"], expect={"status": "failed", "steps": {"a": "timed_out"}, "duration": "10m"})  # fmt: skip
    assert came.differences == ()
    assert taken(document, came, "a") == {"succeeded": 0, "failed": 1, "timed out": 0, "not taken in time": 1}


def test_coverage_knows_every_branch_and_how_often_it_was_taken() -> None:
    """Cases of a switch, conditions, and what comes after steps that were left out."""
    document = pipeline(
        SWITCH, command("big", "size"), command("small", "size"), command("join", "big", "small"),
        command("extra", "join", when="${{ inputs.extra }}"), command("after", "extra"),
    )  # fmt: skip
    came = play(document, input={"n": 3, "extra": False})
    assert came.differences == ()
    assert taken(document, came, "size") == {"case 1: inputs.n > 9": 0, "default": 1}
    assert taken(document, came, "big")["not chosen"] == 1
    assert taken(document, came, "small")["not chosen"] == 0
    extra = taken(document, came, "extra")
    assert (extra["when true"], extra["when false"], extra["not chosen"]) == (0, 1, 0)
    assert taken(document, came, "after")["not chosen"] == 1
    other = play(
        document, input={"n": 30, "extra": True}, steps={"extra": {"fail": {}}}, expect={"status": "failed"}
    )
    assert taken(document, other, "size") == {"case 1: inputs.n > 9": 1, "default": 0}
    assert taken(document, other, "extra")["when true"] == 1
    assert taken(document, other, "after")["skipped after a failure"] == 1
    assert taken(document, other, "(run)") == {"succeeded": 0, "failed": 1}


def test_items_of_a_map_may_behave_differently() -> None:
    """One by its own name, the others by the step's."""
    document = pipeline(
        {"name": "each", "map": {"over": [1, 2, 3], "tolerated_failures": 1, "command": {"argv": ["x"]}}}
    )
    came = play(
        document,
        steps={"each": {"succeed": {"output": {"ok": True}}}, "each[1]": {"fail": {}}},
        expect={"outputs": {"each": {"failed": 1, "outputs": [{"ok": True}, None, {"ok": True}]}}},
    )
    assert came.differences == ()
    assert taken(document, came, "each") == {"succeeded": 1, "failed": 0, "item failed": 1}


def test_turns_of_a_repeat_do_what_a_list_says_one_after_the_other() -> None:
    """Time goes by between them; each way out of it is a branch."""
    block = {"command": {"argv": ["x"]}, "until": "${{ result.ok }}", "max": 3, "wait": "2d"}
    document = pipeline(
        {"name": "ask", "repeat": block, "retry": {"attempts": 2, "initial": "1m", "jitter": "none"}}
    )
    no, yes = ({"succeed": {"output": {"ok": ok}}} for ok in (False, True))
    came = play(
        document,
        steps={"ask": [no, {"fail": {}}, yes]},
        expect={"outputs": {"ask": {"ok": True}}, "duration": "2d1m"},
    )
    assert came.differences == ()
    ways = {"succeeded": 1, "failed": 0, "another turn": 1, "turns used up": 0, "retried": 1}
    assert taken(document, came, "ask") == ways
    error = "until result.ok did not hold after 3 turns"
    late = play(document, steps={"ask": no}, expect={"status": "failed", "error": error, "duration": "4d"})
    assert late.differences == ()
    assert taken(document, late, "ask")["turns used up"] == 1


def test_a_run_that_a_step_calls_does_what_the_scenario_says_of_the_step() -> None:
    """Fails, is cancelled when it takes too long, ends well; the pipeline it is of need not be there."""
    step = {"name": "call", "pipeline": {"name": "other"}, "timeout": "1h", "retry": {"attempts": 3, "initial": "1m", "jitter": "none"}}  # fmt: skip
    document = pipeline(step, command("b", "call", when="${{ steps.call.outputs.rows > 1 }}"))
    came = play(
        document,
        steps={"call": [{"fail": {"duration": "5m"}}, "hang", {"succeed": {"output": {"rows": 7}}}]},
        expect={"steps": {"b": "succeeded"}, "attempts": {"call": 3}, "duration": "1h7m"},
    )
    assert came.differences == ()
    branches = taken(document, came, "call")
    assert branches == {"succeeded": 1, "failed": 0, "retried": 2, "timed out": 1}
    assert (
        play(
            document, steps={"call": {"fail": {"retryable": False}}}, expect={"status": "failed"}
        ).differences
        == ()
    )
    del step["timeout"]
    assert play(document, steps={"call": "hang"}, expect={"status": "running"}).waits == (
        "step call waits for a run of other, without a deadline"
    )


def test_a_run_that_fails_is_undone_as_the_scenario_says() -> None:
    """A compensation that fails is a branch of the step that it was to undo."""
    undo = {"command": {"argv": ["undo"]}, "retry": {"attempts": 2, "initial": "1m", "jitter": "none"}}
    document = pipeline(command("a", compensate=undo), command("b", "a", compensate=undo), command("c", "b"))
    came = play(
        document,
        steps={"c": "fail", "b:compensate": "fail", "a:compensate": {"fail": {"times": 1}}},
        expect={
            "status": "failed",
            "error": "compensation of b failed",
            "steps": {"a": "compensated", "b": "succeeded", "b:compensate": "failed"},
            "attempts": {"a:compensate": 2},
            "duration": "2m",
        },
    )
    assert came.differences == ()
    assert taken(document, came, "a")["compensated"] == 1
    assert taken(document, came, "b")["compensation failed"] == 1


def test_people_may_skip_a_step_and_cancel_the_run_and_it_is_tidied_up() -> None:
    """Counts and records of a step are told; signals may come before anybody waits for them."""
    document = pipeline(
        extract("read"), load("write", "read"), {"name": "go", "after": ["write"], "signal": {"deadline": "1d"}},
        {"name": "rest", "after": ["go"], "wait": {"for": "9d"}}, timeout="30d",
    )  # fmt: skip
    document["spec"]["finally"] = [command("tidy")]
    came = play(
        document,
        steps={"read": {"succeed": {"records_out": 5}}, "write": "hang"},
        signals=[{"name": "go", "at": "1h"}],
        skips=[{"step": "write", "at": "2h", "by": "ann"}],
        cancel={"at": "2d", "reason": "enough"},
        expect={
            "status": "cancelled",
            "steps": {"go": "succeeded", "rest": "cancelled", "tidy": "succeeded"},
        },
    )
    assert came.differences == ()
    assert came.run["steps"][0]["records_out"] == 5
    assert taken(document, came, "write")["skipped by hand"] == 1
    assert taken(document, came, "go") == {"signal": 1, "silence": 0, "skipped after a failure": 0}
    late = play(document, steps={"write": "hang"}, expect={"status": "timed_out", "duration": "30d"})
    assert taken(document, late, "(run)")["timed out"] == 1


def test_a_run_waits_while_others_hold_its_limit() -> None:
    """And is timed out, if they hold it for too long; then it was never at work."""
    document = pipeline(command("a"), limits=[{"name": "db", "max": 2}], timeout="3h")
    came = play(document, limits={"db": "2h"}, expect={"duration": "2h"})
    assert came.differences == ()
    assert taken(document, came, "(run)")["waited for limit db"] == 1
    late = play(document, limits={"db": "4h"}, expect={"status": "timed_out", "steps": {"a": "cancelled"}})
    assert late.differences == ()
    assert taken(document, play(document), "(run)")["waited for limit db"] == 0


def test_a_run_that_is_not_as_usual_is_told_of() -> None:
    """It is late while it goes on, moved too little and rejected too much; the usual one is told of by nothing."""
    document = pipeline(
        extract("a"),
        load("b", "a"),
        alerts=[{"on": on, "notify": "x"} for on in ("late", "records", "quarantine")],
    )
    usual = {"duration": "20m", "records": 1_000}
    kept = {"records_out": 1_000}
    play_ok(document, usual, {"a": {"succeed": kept}, "b": {"succeed": {"duration": "39m", **kept}}}, [])
    few = {
        "a": {"succeed": {"records_rejected": 1}},
        "b": {"succeed": {"duration": "41m", "records_out": 400}},
    }
    play_ok(document, usual, few, ["late", "records", "quarantine"])
    play_ok(document, {"duration": "1h"}, few, ["quarantine"])
    retried = {"a": {"succeed": {}}, "b": [{"fail": {"retryable": True}}, {"succeed": {"records_out": 1}}]}
    document["spec"]["steps"][1]["retry"] = {"attempts": 2, "initial": "1s"}
    play_ok(document, usual, retried, [])


def play_ok(
    document: dict[str, Any], usual: dict[str, Any], steps: dict[str, Any], alerts: list[str]
) -> None:
    """Play a run that ends well, with these alerts."""
    assert play(document, usual=usual, steps=steps, expect={"alerts": alerts}).differences == ()


def test_what_is_usual_matters_to_some_alerts_only() -> None:
    """It would play no part, so it is a mistake."""
    plan = Definition.parse(canonical(pipeline(command("a"), alerts=[{"on": "failed", "notify": "x"}])))
    _, problems = scenarios_of({"scenarios": [{"name": "it", "usual": {"records": 5}}]}, plan)
    assert [str(problem) for problem in problems] == [
        "scenarios[0].usual: no alert of pipeline customers asks what is usual (leave it out)"
    ]
