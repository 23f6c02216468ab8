"""Steps that are done once for each item of a list: some at once, joined when all are done."""

import json
import random
from typing import Any

import pytest

from streams.domain.aggregate import Message, TaskOffer
from streams.domain.run.commands import (
    CancelRun,
    ClaimStep,
    CompleteStep,
    FailStep,
    PauseRun,
    ResumeRun,
    SkipStep,
    Tick,
)
from streams.domain.run.events import (
    RunEnded,
    StepCancelled,
    StepFailed,
    StepMapped,
    StepOffered,
    StepSucceeded,
)
from streams.domain.run.state import Run
from tests.support.pipeline_files import command
from tests.support.run_spec import AGGREGATE, RUN, RunSpec, created, creation


def each(name: str, *after: str, over: Any = "${{ inputs.list }}", **more: Any) -> dict[str, Any]:
    """Return a step that runs a program for each item."""
    step_keys: dict[str, Any] = {key: more.pop(key) for key in ("retry", "timeout") if key in more}
    block = {"over": over, "command": {"argv": ["echo", "${{ item }}", "${{ index }}"]}, **more}
    return {"name": name, "after": list(after), "map": block, **step_keys}


def told_with(items: list[Any], *steps: dict[str, Any]) -> RunSpec:
    """Return a run of these steps whose input is a list."""
    return created(*steps, more={"input": json.dumps({"list": items})})


def test_each_item_is_offered_as_a_step_of_its_own_some_at_once() -> None:
    """With its values; the next one when one is done; the outputs are joined in the order of the items."""
    told = told_with(["de", "fr", "it"], each("all", max_parallel=2), command("b", "all"))
    assert told.log[1:] == [
        StepMapped("all", '["de","fr","it"]', 3, 0),
        StepOffered("all[0]", 1, "default", 0, '{"argv":["echo","de","0"]}'),
        StepOffered("all[1]", 1, "default", 0, '{"argv":["echo","fr","1"]}'),
    ]
    assert [(offer["step"], offer["kind"], offer["spec"]["argv"][1]) for offer in told.offers()] == [
        ("all[0]", "command", "de"), ("all[1]", "command", "fr"),
    ]  # fmt: skip
    told.claim("all[1]")
    assert told.complete("all[1]", '{"n":2,"tail":"printed"}')[1].step == "all[2]"  # type: ignore[union-attr]  # an offer
    told.run("all[2]")
    told.claim("all[0]")
    joined = told.complete("all[0]", '{"n":1}')[1:]
    output = '{"total":3,"failed":0,"outputs":[{"n":1},{"n":2},{}]}'
    assert joined == (StepSucceeded("all", 0, output, 0, 0, 0, 0, 0), StepOffered("b", 1, "default", 0))
    assert told.run("b").state.status == "succeeded"
    assert set(told.state.steps) == {"all", "b"}


def test_nothing_to_do_is_done() -> None:
    """An empty list, or one in the file itself."""
    told = told_with([], each("all"), command("b", "all"))
    assert told.statuses() == {"all": "succeeded", "b": "queued"}
    assert created(each("all", over=[1, 2])).state.steps["all"].fan is not None


@pytest.mark.parametrize(
    ("over", "words"),
    [("${{ inputs.day }}", 'map.over: "x" is no list'), ("${{ inputs.missing }}", "map.over: "), ("${{ inputs.many }}", "10001 items are more")],
)  # fmt: skip
def test_what_is_no_list_fails_the_step(over: str, words: str) -> None:
    """As a list that is too long does."""
    more = {"input": json.dumps({"day": "x", "many": [0] * 10_001})}
    told = created(each("all", over=over), more=more)
    assert words in (told.state.error or "")


def test_a_failing_item_is_tried_again_by_itself() -> None:
    """With the step's retry; a lost runner's item goes to another one."""
    told = told_with([1, 2], each("all", retry={"attempts": 2, "initial": "1s", "jitter": "none"}))
    told.claim("all[0]")
    told.fail("all[0]")
    assert told.tick(1_000) == (StepOffered("all[0]", 2, "default", 1_000, '{"argv":["echo","1","0"]}'),)
    told.claim("all[1]")
    told.tick(8_000)
    assert (told.step("all[1]").status, told.step("all[1]").attempt) == ("queued", 2)
    told.run("all[0]", "all[1]")
    assert told.state.status == "succeeded"


def test_one_failure_too_many_ends_the_step_and_what_is_at_work() -> None:
    """The first failure is told; the run fails as for any step."""
    told = told_with([1, 2, 3, 4], each("all", tolerated_failures="25%", max_parallel=3), command("b", "all"))
    told.claim("all[0]")
    assert [type(event) for event in told.fail("all[0]")] == [StepFailed, StepOffered]
    told.claim("all[1]")
    events = told.fail("all[1]", "other")
    error = "2 of 4 items failed, more than 1; the first: all[0]: broken"
    assert [type(event) for event in events[1:3]] == [StepCancelled, StepCancelled]
    assert events[3] == StepFailed("all", 0, error, "", "failed", 0)
    assert told.state.error == f"step all failed: {error}"
    told.when(ClaimStep("all[2]", 1, "t", "n")).refused("stale_lease")


def test_tolerated_failures_have_no_output() -> None:
    """They are counted."""
    told = told_with([1, 2], each("all", tolerated_failures=1))
    told.claim("all[0]")
    told.fail("all[0]")
    told.run("all[1]")
    assert told.step("all").output == '{"total":2,"failed":1,"outputs":[null,{}]}'


def test_an_item_whose_settings_cannot_be_had_has_failed() -> None:
    """And does not stop the others."""
    step = each("all", tolerated_failures=1)
    step["map"]["command"] = {"argv": ["echo", "${{ item.code }}"]}
    told = told_with([{"code": "de"}, {}, {"code": "fr"}], step)
    assert [event.step for event in told.log if isinstance(event, StepFailed)] == ["all[1]"]
    assert told.run("all[0]", "all[2]").state.status == "succeeded"


def test_outputs_that_are_too_much_together_are_left_out() -> None:
    """The work is done all the same; whoever needs them reads the events."""
    told = told_with([1, 2], each("all"))
    for name in ("all[0]", "all[1]"):
        told.claim(name)
        told.complete(name, json.dumps({"x": "y" * 200_000}))
    assert told.step("all").output == '{"total":2,"failed":0,"outputs":null}'


def test_pause_resume_cancel_and_skip_reach_the_items() -> None:
    """Nothing new begins; what was dropped is offered again; a step left out leaves nothing at work."""
    told = told_with([1, 2, 3], each("all", max_parallel=1), command("b", "all"))
    told.do(PauseRun())
    told.when(ClaimStep("all[0]", 1, "t", "n")).refused("paused")
    assert [event.step for event in told.do(ResumeRun())[1:]] == ["all[0]"]
    told.claim("all[0]")
    told.do(PauseRun())
    assert len(told.complete("all[0]")) == 1
    assert told.do(ResumeRun())[1].step == "all[1]"
    assert told.do(SkipStep("all[1]"))[1].step == "all[2]"
    assert [type(event).__name__ for event in told.do(SkipStep("all"))] == [
        "StepCancelled",
        "StepSkipped",
        "StepOffered",
    ]
    other = told_with([1, 2], each("all"))
    assert [event.step for event in other.do(CancelRun())[:-1]] == ["all", "all[0]", "all[1]"]
    assert set(other.state.steps) == {"all"}


@pytest.mark.parametrize("seed", range(8))
def test_however_items_end_every_item_ends_once_and_the_run_too(seed: int) -> None:
    """Claims, failures, successes and time, in any order: no more at once than told, none twice, none forgotten."""
    chance = random.Random(seed)
    step = each(
        "all",
        over=list(range(60)),
        max_parallel=7,
        tolerated_failures=40,
        retry={"attempts": 2, "initial": "1s"},
    )
    run: Run = AGGREGATE.initial
    offered: list[tuple[str, int]] = []
    ended: list[str] = []
    now, log = 0, 0

    def ask(body: Any) -> None:
        nonlocal run, log
        decision = AGGREGATE.decide(Message(body, "default", RUN, f"c{log}", now), run)
        for event in decision if isinstance(decision, tuple) else ():
            run = AGGREGATE.evolve(run, event)
            log += 1
            if isinstance(event, StepSucceeded | StepFailed):
                ended.append(event.step)
            for effect in AGGREGATE.effects("default", RUN, event, run):
                assert isinstance(effect, TaskOffer)
                offered.append((effect.task["step"], effect.task["attempt"]))
        assert sum("[" in name for name in run.steps) <= 7

    ask(creation(step))
    for _ in range(2_000):
        if run.ended:
            break
        now += chance.choice([0, 200, 3_000])
        if (due := AGGREGATE.due(run)) is not None and due <= now:
            ask(Tick(due))
            continue
        at_work = [(step.name, step.attempt) for step in run.steps.values() if "[" in step.name]
        name, attempt = chance.choice(at_work if chance.random() < 0.8 else offered)
        token = f"{name}/{attempt}"
        ask(
            chance.choice(
                [
                    ClaimStep(name, attempt, token, "n"),
                    CompleteStep(name, attempt, token),
                    FailStep(name, attempt, token, "x"),
                ]
            )
        )
    assert run.ended
    assert len(set(ended)) == len(ended)
    if run.status == "succeeded":
        assert set(ended) == {"all", *(f"all[{n}]" for n in range(60))}


def test_a_run_that_ends_tells_it_once_after_its_items() -> None:
    """The join and the end are one decision."""
    told = told_with([1], each("all"))
    told.claim("all[0]")
    assert [type(event) for event in told.complete("all[0]")] == [StepSucceeded, StepSucceeded, RunEnded]
