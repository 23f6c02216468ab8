"""Steps that are runs of other pipelines: asked for, waited for, given up."""

from dataclasses import replace
from typing import Any

import pytest

from streams.domain.identity import child_run_id
from streams.domain.limit import LimitAcquired
from streams.domain.pipeline import ApplyPipeline, PausePipeline
from streams.domain.run.commands import (
    CancelRun,
    ClaimStep,
    CompleteStep,
    FailStep,
    NoteChildEnded,
    PauseRun,
    SkipStep,
)
from streams.domain.run.events import (
    ChildEnded,
    RunCreated,
    RunEnded,
    StepCalled,
    StepFailed,
    StepRetryScheduled,
)
from streams.domain.run.state import Run, document
from streams.domain.starts import RecallRun, RunRecalled, RunRefused, StartRun
from streams.rehearsal.world import Happened
from tests.support.pipeline_files import command, pipeline, step_problems, text_and_hash
from tests.support.reacting import World
from tests.support.run_judging import findings
from tests.support.run_spec import RUN, created

CHILD = child_run_id(RUN, "call", 1)
SECOND = child_run_id(RUN, "call", 2)


def call(*after: str, name: str = "call", to: str = "load", **more: Any) -> dict[str, Any]:
    """Return a step that is a run of the pipeline ``load``; ``more`` is of its block, but for retry and timeout."""
    step_keys: dict[str, Any] = {key: more.pop(key) for key in ("retry", "timeout") if key in more}
    return {"name": name, "after": list(after), "pipeline": {"name": to, **more}, **step_keys}


def world(*steps: dict[str, Any], child: tuple[dict[str, Any], ...] = (command("count"),)) -> World:
    """Return a world with a run ``r1`` of a pipeline ``main``, and a pipeline ``load``."""
    made = World()
    for name, of in (("load", child), ("main", steps)):
        if of:
            text, _ = text_and_hash(pipeline(*of, name=name))
            made.send("pipeline", name, ApplyPipeline(text))
    made.send("pipeline", "main", StartRun(run_id=RUN, input='{"code":"de"}'))
    return made


def run(made: World, run_id: str = RUN) -> Run:
    """Return a run as it is."""
    state: Run = made.states["run", run_id]
    return state


def work(made: World, run_id: str, step: str, output: str = "{}") -> None:
    """Claim and complete a step."""
    attempt = run(made, run_id).steps[step].attempt
    made.send("run", run_id, ClaimStep(step, attempt, f"{step}/{attempt}", "n"))
    made.send("run", run_id, CompleteStep(step, attempt, f"{step}/{attempt}", output))


def broken(made: World, run_id: str, step: str) -> None:
    """Claim and fail a step."""
    made.send("run", run_id, ClaimStep(step, 1, "t", "n"))
    made.send("run", run_id, FailStep(step, 1, "t", "no disk"))


def test_a_step_is_a_run_of_another_pipeline_and_its_results_are_the_steps_output() -> None:
    """Its input comes from expressions; each of the two names the other; the log has nothing to be blamed for."""
    calls = call(input={"country": "${{ inputs.code }}", "full": True})
    made = world(calls, command("b", "call", when="${{ steps.call.outputs.steps.count.rows == 7 }}"))
    child = run(made, CHILD)
    assert (child.pipeline, child.trigger, child.parent, child.depth) == ("load", "run", RUN, 1)
    assert child.input == '{"country":"de","full":true}'
    shown = document(RUN, run(made))["steps"][0]
    assert (shown["status"], shown["child"], document(CHILD, child)["parent"]) == ("waiting", CHILD, RUN)
    work(made, CHILD, "count", '{"rows":7,"tail":"printed"}')
    assert run(made).steps["call"].output == f'{{"run":"{CHILD}","steps":{{"count":{{"rows":7}}}}}}'
    work(made, RUN, "b")
    assert run(made).status == "succeeded"
    assert (made.rejected, findings(made.happened)) == ([], [])


def test_a_run_that_fails_is_called_again_as_another_run_as_often_as_the_step_says() -> None:
    """Then the step has failed, and says which run did."""
    retry = {"attempts": 2, "initial": "1s", "jitter": "none"}
    made = world(call(retry=retry), command("b", "call"))
    broken(made, CHILD, "count")
    assert made.told(ChildEnded) == [
        ChildEnded("call", 1, CHILD, "failed", "step count failed: no disk", 1_000)
    ]
    assert run(made).steps["call"].status == "retrying"
    made.tick(2_000)
    assert [event.run_id for event in made.told(StepCalled)] == [CHILD, SECOND]
    broken(made, SECOND, "count")
    assert run(made).error == f"step call failed: run {SECOND} failed: step count failed: no disk"
    assert (made.rejected, findings(made.happened)) == ([], [])


@pytest.mark.parametrize(
    ("policy", "child"),
    [({}, "cancelled"), ({"on_parent_close": "leave"}, "queued")],
    ids=["cancel", "leave"],
)
def test_a_run_that_ends_early_takes_its_children_with_it_or_leaves_them(
    policy: dict[str, Any], child: str
) -> None:
    """As `on_parent_close` says; what becomes of a child that was left changes nothing any more."""
    made = world(call(**policy))
    made.send("run", RUN, CancelRun())
    assert (run(made).status, run(made, CHILD).status) == ("cancelled", child)
    if child == "queued":
        work(made, CHILD, "count")
    assert (made.rejected, findings(made.happened)) == ([], [])


def test_a_recall_comes_after_the_creation_of_what_it_recalls() -> None:
    """Both go by the pipeline: a run cancelled in the moment it calls another leaves none behind."""
    made = world(command("a"))
    made.send("pipeline", "load", StartRun(run_id=CHILD, trigger="run", parent=RUN, depth=1))
    made.send("pipeline", "load", RecallRun(CHILD, "not needed"))
    assert [event.run_id for event in made.told(RunRecalled)] == [CHILD]
    assert run(made, CHILD).status == "cancelled"


def test_a_child_that_takes_too_long_is_cancelled_and_called_again() -> None:
    """The step's timeout counts for each attempt; the late result of the first changes nothing."""
    made = world(call(timeout="1m", retry={"attempts": 2, "initial": "1s", "jitter": "none"}))
    made.tick(61_000)
    assert [event.error for event in made.told(StepRetryScheduled)] == [
        f"run {CHILD} took longer than the timeout of 1m"
    ]
    assert run(made, CHILD).status == "cancelled"
    made.tick(62_000)
    assert run(made).steps["call"].child == SECOND
    made.send("run", RUN, NoteChildEnded(CHILD, "succeeded"))
    assert run(made).steps["call"].status == "waiting"
    made.tick(122_000)
    assert (run(made).status, made.told(StepFailed)[0].status) == ("failed", "timed_out")
    assert findings(made.happened) == []


def test_a_child_is_recalled_when_its_step_is_left_out_and_not_tried_again_when_somebody_cancels_it() -> None:
    """Who cancels a run means it."""
    made = world(call(retry={"attempts": 3}))
    made.send("run", RUN, SkipStep("call"))
    assert (run(made).status, run(made, CHILD).status) == ("succeeded", "cancelled")
    other = world(call(retry={"attempts": 3}))
    other.send("run", CHILD, CancelRun("wrong day"))
    assert run(other).error == f"step call failed: run {CHILD} was cancelled: cancelled: wrong day"


@pytest.mark.parametrize(
    ("paused", "words"), [(True, "pipeline load is paused"), (False, "there is no pipeline load")]
)
def test_a_pipeline_that_cannot_be_started_fails_the_step(paused: bool, words: str) -> None:
    """Paused, or never applied: said by name; tried again later, if the step is."""
    made = world(command("first"), call("first"), child=(command("count"),) if paused else ())
    if paused:
        made.send("pipeline", "load", PausePipeline())
    work(made, RUN, "first")
    assert [event.parent for event in made.told(RunRefused)] == [RUN]
    assert run(made).error == f"step call failed: {words}"
    assert (made.rejected, findings(made.happened)) == ([], [])


def test_a_pipeline_that_calls_itself_ends_with_a_clear_word() -> None:
    """Not with as many runs as fit into memory."""
    made = world(call(to="main"))
    assert len(made.told(RunCreated)) == 9
    assert [event.status for event in made.told(RunEnded)] == ["failed"] * 9
    deepest = made.told(RunEnded)[0]
    assert deepest.error == (
        "step call failed: runs call runs at most 8 deep, and so many are above this one: does main call itself?"
    )


def test_a_paused_run_hears_of_its_child_and_goes_on_when_resumed() -> None:
    """As with signals."""
    made = world(call(), command("b", "call"))
    made.send("run", RUN, PauseRun())
    work(made, CHILD, "count")
    assert {step.name: step.status for step in run(made).steps.values()} == {
        "call": "succeeded",
        "b": "pending",
    }


def test_results_that_are_too_much_together_are_left_out() -> None:
    """Whoever needs them asks the child."""
    made = world(call(), child=(command("a"), command("b")))
    for name in ("a", "b"):
        work(made, CHILD, name, f'{{"x":"{"y" * 200_000}"}}')
    assert run(made).steps["call"].output == f'{{"run":"{CHILD}","steps":null}}'


def test_what_is_no_input_and_what_is_no_output_is_refused() -> None:
    """The first fails the step, the second is an answer to whoever sent it."""
    told = created(call(input="${{ inputs.x }}"), more={"input": '{"x":[1]}'})
    assert told.state.error == "step call failed: pipeline.input: [1] is no mapping"
    told = created(call())
    told.when(NoteChildEnded(CHILD, "succeeded", None, "[]")).refused("invalid", "JSON object")
    assert told.do(NoteChildEnded("another", "succeeded")) == ()
    assert told.tick(10**9) == ()


def test_the_file_is_checked() -> None:
    """Every field of the block, with its fix."""
    wrong = step_problems(call(to="Load!", input="all of it", on_parent_close="stop", extra=1))
    assert wrong.keys() == {
        f"spec.steps[0].pipeline.{key}" for key in ("extra", "name", "input", "on_parent_close")
    }
    assert "one of cancel, leave" in wrong["spec.steps[0].pipeline.on_parent_close"] or (
        "cancel" in wrong["spec.steps[0].pipeline.on_parent_close"]
    )
    named = step_problems(call(to="${{ inputs.which }}"))
    assert "expressions stand in" in named["spec.steps[0].pipeline.name"]
    assert step_problems(call(input="${{ inputs }}", retry={"attempts": 2}, timeout="1h")) == {}


def test_a_called_run_goes_in_with_its_caller_and_nobody_waits_for_ever() -> None:
    """Three deep, the one in the middle without the limit; another run has its turn when the family has ended."""
    limits = [{"name": "crm", "max": 1}]
    made = World()
    for name, steps, spec in (
        ("low", (command("count"),), {"limits": limits}),
        ("mid", (call(to="low"),), {}),
        ("top", (call(to="mid"),), {"limits": limits}),
    ):
        text, _ = text_and_hash(pipeline(*steps, name=name, **spec))
        made.send("pipeline", name, ApplyPipeline(text))
    made.send("pipeline", "top", StartRun(run_id=RUN))
    made.send("pipeline", "low", StartRun(run_id="other"))
    lowest = child_run_id(CHILD, "call", 1)
    assert (run(made, lowest).above, run(made, lowest).depth) == ((RUN, CHILD), 2)
    assert run(made, lowest).callers == ("top/call", "mid/call")
    assert [task["run"] for task in made.tasks] == [lowest]
    assert made.states["limit", "crm"].waiting == ("other",)
    work(made, lowest, "count")
    assert run(made).status == "succeeded"
    work(made, "other", "count")
    assert (made.states["limit", "crm"].holders, made.states["limit", "crm"].guests) == ((), {})
    assert findings(made.happened) == []

    stranger = [
        Happened(one.aggregate, one.aggregate_id, replace(one.body, shares="other"), 0)
        if isinstance(one.body, LimitAcquired) and one.body.shares
        else one
        for one in made.happened
    ]
    assert "shares the place of other, which has none" in findings(stranger)[0].said


def test_a_called_run_that_outlives_its_caller_keeps_the_place() -> None:
    """The limit is about the work, whoever has asked for it."""
    limits = [{"name": "crm", "max": 1}]
    made = World()
    for name, steps in (("load", (command("count"),)), ("main", (call(on_parent_close="leave"),))):
        text, _ = text_and_hash(pipeline(*steps, name=name, limits=limits))
        made.send("pipeline", name, ApplyPipeline(text))
    made.send("pipeline", "main", StartRun(run_id=RUN))
    made.send("pipeline", "load", StartRun(run_id="other"))
    made.send("run", RUN, CancelRun())
    assert [task["run"] for task in made.tasks] == [CHILD]
    work(made, CHILD, "count")
    assert [task["run"] for task in made.tasks] == [CHILD, "other"]
    assert findings(made.happened) == []
