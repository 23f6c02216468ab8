"""Steps that ask for labels: where they are offered, who may claim them, what undoes them, how long they wait."""

from dataclasses import replace

from streams.domain.definition import Definition, canonical, digest
from streams.domain.run.commands import ClaimStep
from streams.domain.run.events import RunEnded, StepCancelled, StepClaimed, StepOffered
from tests.support.pipeline_files import command, pipeline, step_problems
from tests.support.run_judging import findings_of_run
from tests.support.run_spec import RunSpec, created

EU = {"runs_on": ["warehouse", "eu"]}


def claimed(run: RunSpec, step: str, attempt: int, labels: str) -> RunSpec:
    """Return the run after a runner with these labels has claimed the step."""
    run.do(ClaimStep(step, attempt, f"{step}/{attempt}", "n", labels))
    return run


def test_a_step_is_offered_on_the_queue_of_its_labels_in_any_order() -> None:
    """One topic for each set of labels; without any it is the one of `default`."""
    run = created(command("a", **EU), command("b", runs_on=["eu", "warehouse"]), command("c"))
    offers = [(event.step, event.queue) for event in run.log if isinstance(event, StepOffered)]
    assert offers == [("a", "eu.warehouse"), ("b", "eu.warehouse"), ("c", "default")]


def test_a_claim_is_for_runners_that_have_all_labels() -> None:
    """More do no harm; what a runner says of itself is in the event."""
    run = created(command("a", **EU))
    for labels in ("default", "eu", "default,warehouse"):
        run.when(ClaimStep("a", 1, "t", "n", labels)).refused("invalid", "is not labelled")
    run.when(ClaimStep("a", 1, "t", "n", "eu,gpu,warehouse")).then(
        StepClaimed("a", 1, "t", "n", 0, "eu,gpu,warehouse")
    )


def test_a_runner_of_labels_alone_leaves_steps_that_ask_for_none() -> None:
    """`default` is a label as the others; a runner that says nothing of itself has it."""
    created(command("a")).when(ClaimStep("a", 1, "t", "n", "eu")).refused("invalid", "not labelled default")
    created(command("a")).when(ClaimStep("a", 1, "t", "n")).then(StepClaimed("a", 1, "t", "n", 0))


def test_items_turns_retries_and_what_undoes_a_step_ask_for_the_same() -> None:
    """Whatever is done for a step is done where it belongs."""
    retry = {"attempts": 2, "initial": "1s", "jitter": "none"}
    fanned = {"over": [1, 2], "command": {"argv": ["x"]}}
    run = created({"name": "all", "map": fanned, **EU}, command("a", retry=retry, compensate={"command": {"argv": ["y"]}}, **EU),
                  command("b", "a"))  # fmt: skip
    claimed(run, "a", 1, "eu,warehouse")
    run.fail("a")
    run.tick(1_000)
    claimed(run, "a", 2, "eu,warehouse")
    run.complete("a")
    claimed(run, "b", 1, "default")
    run.fail("b")
    for item in ("all[0]", "all[1]"):
        claimed(run, item, 1, "eu,warehouse")
        run.complete(item)
    asked = {(event.step, event.queue) for event in run.log if isinstance(event, StepOffered)}
    assert asked == {("all[0]", "eu.warehouse"), ("all[1]", "eu.warehouse"), ("a", "eu.warehouse"), ("b", "default"),
                     ("a:compensate", "eu.warehouse")}  # fmt: skip


def test_a_step_that_no_runner_may_take_waits_no_longer_than_the_run() -> None:
    """The run's time-out goes on while nobody comes; a claim that is too late is refused."""
    run = created(command("a", **EU), timeout="1m")
    run.tick(60_000)
    kinds = [type(event) for event in run.log]
    assert kinds[-2:] == [StepCancelled, RunEnded]
    assert run.state.status == "timed_out"
    run.when(ClaimStep("a", 1, "t", "n", "eu,warehouse")).refused("stale_lease", "timed out")


def test_a_definition_without_labels_keeps_its_hash() -> None:
    """The file's text is what is hashed: nothing is added to it."""
    document = pipeline(command("a"))
    assert "runs_on" not in canonical(document)
    assert Definition.parse(canonical(document)).step("a").runs_on == ("default",)
    assert digest(canonical(document)) != digest(canonical(pipeline(command("a", **EU))))


def test_wrong_labels_are_named_with_their_place() -> None:
    """Each with the way out, and only where a runner comes."""
    found = step_problems(command("a", runs_on=["EU", "gpu", "gpu", 3]))
    assert "is no name" in found["spec.steps[0].runs_on[0]"]
    assert "is there twice" in found["spec.steps[0].runs_on[2]"]
    assert "is no name" in found["spec.steps[0].runs_on[3]"]
    assert "write [eu]" in step_problems(command("a", runs_on="eu"))["spec.steps[0].runs_on"]
    assert "is empty" in step_problems(command("a", runs_on=[]))["spec.steps[0].runs_on"]
    long = [f"{number}{'x' * 60}" for number in range(2)]
    assert "more than 120" in step_problems(command("a", runs_on=long))["spec.steps[0].runs_on"]
    waits = step_problems({"name": "w", "wait": {"for": "1s"}, "runs_on": ["eu"]})
    assert "no runner takes it" in waits["spec.steps[0].runs_on"]


def test_the_judge_of_the_log_sees_a_claim_by_a_runner_without_the_labels() -> None:
    """What a node would never tell, in a log that somebody else wrote."""
    run = claimed(created(command("a", **EU)), "a", 1, "eu,warehouse")
    run.complete("a")
    assert findings_of_run(run.log) == []
    alien = [replace(event, labels="eu") if isinstance(event, StepClaimed) else event for event in run.log]
    (found,) = findings_of_run(alien)
    assert (found.invariant, found.said) == ("I7", "a was claimed by n, which is not labelled warehouse")
