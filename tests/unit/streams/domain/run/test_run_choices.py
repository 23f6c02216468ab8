"""Which steps of a run are done: conditions, switches, steps left out by hand, and those that come last in any case."""

from typing import Any

import pytest

from streams.domain.run.commands import (
    CancelRun,
    CompleteStep,
    NoteLimitGranted,
    PauseRun,
    RerunRun,
    ResumeRun,
    SkipStep,
)
from streams.domain.run.events import (
    LimitGranted,
    RunEnded,
    RunFinishing,
    StepCancelled,
    StepOffered,
    StepSkipped,
    StepSucceeded,
)
from tests.support.pipeline_files import command
from tests.support.run_spec import RunSpec, created, folded


def when(step: dict[str, Any], expression: str) -> dict[str, Any]:
    """Return the step with a condition."""
    return {**step, "when": f"${{{{ {expression} }}}}"}


def switch(name: str, *after: str, cases: dict[str, str], default: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a switch: each step that a case leads to, with its condition."""
    rules = [{"when": f"${{{{ {text} }}}}", "then": [step]} for step, text in cases.items()]
    return {"name": name, "after": list(after), "switch": {"cases": rules, "default": list(default)}}


def told_with(day: str, *steps: dict[str, Any], **spec: Any) -> RunSpec:
    """Return a run of these steps whose input is a day."""
    return created(*steps, more={"input": f'{{"day":"{day}"}}'}, **spec)


# ---------------------------------------------------------------- conditions
def test_a_step_whose_condition_does_not_hold_is_skipped_and_no_failure() -> None:
    """Nor is what comes after it alone; a step that joins it with another one is done."""
    monthly = when(command("b", "a"), "inputs.day == 'last'")
    told = told_with("first", command("a"), monthly, command("c", "b"), command("d", "a", "c")).run("a")
    assert told.log[-3:] == [
        StepSkipped("b", "when inputs.day == 'last' is false", 0, "condition"),
        StepSkipped("c", "all steps before it were skipped", 0, "condition"),
        StepOffered("d", 1, "default", 0),
    ]
    assert told.run("d").state.status == "succeeded"


def test_a_step_whose_condition_holds_is_done() -> None:
    """Results of steps before it count, and the condition is looked at once."""
    told = created(command("a"), when(command("b", "a"), "steps.a.outputs.rows > 5"))
    told.claim("a")
    told.complete("a", '{"rows":6}')
    assert told.statuses()["b"] == "queued"


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("inputs.day", 'when: "x" is neither true nor false'),
        ("inputs.nothing", "when: "),
        ("1 / 0 == 1", "divide"),
    ],
)
def test_a_condition_that_says_neither_yes_nor_no_fails_the_step(expression: str, words: str) -> None:
    """Nobody guesses what was meant."""
    told = told_with("x", when(command("a"), expression))
    assert told.state.status == "failed"
    assert words in (told.state.error or "")


def test_a_failure_skips_what_comes_after_it_whatever_its_condition() -> None:
    """Conditions choose among successes; what is to be done in any case stands in finally."""
    told = created(command("a"), when(command("b", "a"), "steps.a.status == 'failed'"))
    told.claim("a")
    told.fail("a")
    assert told.log[-2] == StepSkipped("b", "step a failed", 0)


def test_a_thousand_steps_after_one_that_is_skipped_are_skipped_in_one_decision() -> None:
    """However long the row: nothing recurses."""
    row = [when(command("s0"), "false"), *(command(f"s{n}", f"s{n - 1}") for n in range(1, 1_000))]
    assert folded(*row).status == "succeeded"


# ---------------------------------------------------------------- switches
STEPS = (
    command("count"),
    switch(
        "size",
        "count",
        cases={"monday": "inputs.day == 'monday'", "weekend": "inputs.day > 's'"},
        default=("other",),
    ),
    command("monday", "size"),
    command("weekend", "size"),
    command("other", "size"),
    command("always", "size"),
    command("join", "monday", "weekend", "other"),
)


@pytest.mark.parametrize(("day", "taken"), [("monday", "monday"), ("sunday", "weekend"), ("friday", "other")])
def test_a_switch_takes_the_first_case_that_holds(day: str, taken: str) -> None:
    """Else the default; what no case names is done in any case, and the branches join again."""
    told = told_with(day, *STEPS).run("count")
    statuses = told.statuses()
    assert statuses[taken] == statuses["always"] == "queued"
    left_out = {"monday", "weekend", "other"} - {taken}
    assert {statuses[name] for name in left_out} == {"skipped"}
    assert told.step(left_out.pop()).error == f"switch size chose {taken}"
    assert told.step("size").output == f'{{"chosen":["{taken}"]}}'
    assert told.run(taken, "always", "join").state.status == "succeeded"


def test_a_switch_that_chooses_nothing_skips_all_its_branches() -> None:
    """And the run goes on to its end."""
    told = told_with("x", switch("s", cases={"a": "inputs.day == 'y'"}), command("a", "s"), command("b", "a"))
    assert told.statuses() == {"s": "succeeded", "a": "skipped", "b": "skipped"}
    assert told.state.status == "succeeded"


def test_five_hundred_switches_in_a_row_decide_at_once() -> None:
    """Each skips a branch and leads to the next."""
    steps: list[dict[str, Any]] = []
    for n in range(500):
        before = [f"s{n - 1}", f"b{n - 1}"] if n else []
        steps += [switch(f"s{n}", *before, cases={f"b{n}": "false"}), command(f"b{n}", f"s{n}")]
    assert folded(*steps).status == "succeeded"


# ---------------------------------------------------------------- by hand
def test_a_step_left_out_by_hand_counts_as_done() -> None:
    """Whatever it was doing; who did it and why is told, and said again it changes nothing."""
    told = created(command("a", retry={"attempts": 3}), command("b", "a"))
    told.claim("a")
    told.when(SkipStep("a", "away")).then(
        StepSkipped("a", "skipped by anonymous: away", 0, "hand"), StepOffered("b", 1, "default", 0)
    )
    told.when(CompleteStep("a", 1, "a/1")).refused("stale_lease", "is skipped")
    assert told.run("b").state.status == "succeeded"


def test_a_step_may_be_left_out_before_its_turn() -> None:
    """The run then passes over it; in a paused run nothing begins."""
    told = created(command("a"), command("b", "a"), command("c", "b"))
    told.do(SkipStep("b"))
    assert told.run("a").statuses() == {"a": "succeeded", "b": "skipped", "c": "queued"}
    paused = created(command("a"), command("b", "a"))
    paused.do(PauseRun())
    paused.when(SkipStep("a")).then(StepSkipped("a", "skipped by anonymous", 0, "hand"))
    assert paused.do(ResumeRun())[-1] == StepOffered("b", 1, "default", 0)


def test_only_a_step_that_has_not_ended_can_be_left_out() -> None:
    """What failed is mended by a rerun."""
    told = created(command("a"), command("b")).run("a")
    told.when(SkipStep("a")).refused("already_ended", "it is succeeded")
    told.when(SkipStep("x")).refused("invalid", "a, b")


# ---------------------------------------------------------------- in any case
LAST: dict[str, Any] = {"finally": [command("tidy"), when(command("tell", "tidy"), "run.status == 'failed'")]}


def test_finally_steps_are_done_after_all_others() -> None:
    """They know how the run will end; it ends when they are done."""
    told = created(command("a"), **LAST)
    assert told.statuses() == {"a": "queued", "tidy": "pending", "tell": "pending"}
    told.claim("a")
    assert told.complete("a")[1:] == (
        RunFinishing("succeeded", None, 0),
        StepOffered("tidy", 1, "default", 0),
    )
    assert told.state.status == "running"
    told.claim("tidy")
    assert told.complete("tidy")[1:] == (
        StepSkipped("tell", "when run.status == 'failed' is false", 0, "condition"),
        RunEnded("succeeded", None, "customers", None, "manual", 0),
    )


def test_finally_steps_are_done_after_a_failure_and_the_run_has_failed() -> None:
    """Whatever became of them: the first failure is the run's."""
    told = created(command("a"), command("b", "a"), **LAST)
    told.claim("a")
    told.fail("a")
    assert told.run("tidy").statuses() == {
        "a": "failed",
        "b": "skipped",
        "tidy": "succeeded",
        "tell": "queued",
    }
    told.claim("tell")
    told.fail("tell")
    assert (told.state.status, told.state.error) == ("failed", "step a failed: broken")


def test_a_failure_among_the_last_steps_is_the_runs() -> None:
    """When all others went well."""
    told = created(command("a"), **LAST).run("a")
    told.claim("tidy")
    told.fail("tidy")
    assert (told.state.status, told.state.error) == ("failed", "step tidy failed: broken")


def test_a_cancelled_run_does_its_last_steps_unless_it_is_to_end_now() -> None:
    """It is cancelling until then, and cancelled after it."""
    told = created(command("a"), **LAST)
    told.claim("a")
    told.when(CancelRun("enough")).then(
        StepCancelled("a", 1, 0),
        RunFinishing("cancelled", "cancelled: enough", 0),
        StepOffered("tidy", 1, "default", 0),
    )
    assert told.state.status == "cancelling"
    told.when(PauseRun()).refused("not_running", "finally steps go on")
    told.when(CancelRun(now=True)).then(
        StepCancelled("tidy", 1, 0),
        StepCancelled("tell", 0, 0),
        RunEnded("cancelled", "cancelled", "customers", None, "manual", 0),
    )


def test_a_run_that_has_begun_nothing_has_nothing_to_tidy_up() -> None:
    """It ends at once."""
    told = created(command("a"), **LAST)
    assert told.do(CancelRun())[-1] == RunEnded("cancelled", "cancelled", "customers", None, "manual", 0)
    assert told.statuses() == {"a": "cancelled", "tidy": "cancelled", "tell": "cancelled"}


def test_a_run_that_took_too_long_does_its_last_steps() -> None:
    """Its timeout is for the steps proper; each of the last ones may have its own."""
    told = created(command("a"), timeout="5s", **LAST)
    told.claim("a")
    assert told.tick(5_000)[1] == RunFinishing(
        "timed_out", "the run took longer than its timeout of 5s", 5_000
    )
    told.when(CancelRun()).refused("already_ended", "cancel it with now")
    assert told.run("tidy").state.status == "timed_out"


def test_the_last_steps_of_a_paused_run_wait_until_it_is_resumed() -> None:
    """As any step does."""
    told = created(command("a"), **LAST)
    told.claim("a")
    told.do(PauseRun())
    assert [type(event) for event in told.complete("a")] == [StepSucceeded]
    assert told.do(ResumeRun())[1:] == (
        RunFinishing("succeeded", None, 0),
        StepOffered("tidy", 1, "default", 0),
    )


def test_a_rerun_does_the_last_steps_again() -> None:
    """Nothing of them is reused."""
    told = created(command("a"), **LAST).run("a", "tidy")
    assert told.state.status == "succeeded"
    told.do(RerunRun("r2", "tell"))
    again = RunSpec()
    again.do(told.sent[-1].body)  # type: ignore[union-attr]  # the creation of the new run
    assert again.statuses() == {"a": "succeeded", "tidy": "queued", "tell": "pending"}


def test_a_run_that_waits_for_its_limit_does_nothing_before_it_is_let_in() -> None:
    """Not even its last steps, when all others are reused or left out."""
    limits = [{"name": "crm", "max": 1}]
    reused = created(command("a"), more={"reused": '{"a":{"status":"succeeded"}}'}, limits=limits, **LAST)
    skipped = created(command("a"), limits=limits, **LAST)
    skipped.do(SkipStep("a"))
    for told in (reused, skipped):
        assert (told.state.waiting_for, told.offers()) == ("crm", [])
        told.when(NoteLimitGranted("crm")).then(
            LimitGranted("crm", 0),
            RunFinishing("succeeded", None, 0),
            StepOffered("tidy", 1, "default", 0),
        )
    alone = created(command("a"), limits=limits)
    alone.do(SkipStep("a"))
    assert alone.do(NoteLimitGranted("crm"))[-1] == RunEnded(
        "succeeded", None, "customers", None, "manual", 0
    )
