"""The priority of a run: from its file or its start, on every offer, on to reruns and called runs."""

from dataclasses import replace

import pytest

from streams.domain.aggregate import TaskOffer
from streams.domain.run.commands import CreateRun, RerunRun
from streams.domain.run.events import RunCreated, StepCalled, StepOffered
from streams.reactors import REACTORS
from tests.support.pipeline_files import command, found, pipeline
from tests.support.run_judging import findings_of_run
from tests.support.run_spec import RunSpec, created, creation


@pytest.mark.parametrize(
    ("file", "start", "lane"),
    [
        ({}, None, "normal"),
        ({"priority": "low"}, None, "low"),
        ({"priority": "low"}, "high", "high"),
        ({}, "low", "low"),
    ],
)
def test_a_run_has_the_priority_of_its_start_else_of_its_file(
    file: dict[str, str], start: str | None, lane: str
) -> None:
    """Every attempt is offered in that lane; a run that is told nothing is in the middle."""
    run = created(command("a"), more={"priority": start}, **file)
    assert run.state.priority == lane
    assert [effect.priority for effect in run.sent if isinstance(effect, TaskOffer)] == [lane]
    assert findings_of_run(run.log) == []


def test_a_rerun_is_as_urgent_as_the_run_it_repeats() -> None:
    """Whatever the file says."""
    run = created(command("a"), more={"priority": "high"}, priority="low").run("a")
    run.do(RerunRun("again"))
    (again,) = [effect.body for effect in run.sent if not isinstance(effect, TaskOffer)]
    assert isinstance(again, CreateRun)
    assert again.priority == "high"


@pytest.mark.parametrize(("lane", "told"), [("high", "high"), ("low", "low"), ("normal", None)])
def test_a_called_run_is_as_urgent_as_the_one_that_waits_for_it(lane: str, told: str | None) -> None:
    """One of no urgency of its own leaves it to the called file."""
    run = created({"name": "a", "pipeline": {"name": "other"}}, more={"priority": lane})
    (called,) = [event for event in run.log if isinstance(event, StepCalled)]
    (send,) = REACTORS[StepCalled]("default", "r1", called, run.state)
    assert send.body.priority == told


def test_a_wrong_priority_is_named_in_a_file_and_in_a_command() -> None:
    """With the ones that there are."""
    problems = found(pipeline(command("a"), priority="hihg"))
    assert "did you mean high?" in problems["spec.priority"]
    RunSpec().when(replace(creation(command("a")), priority="urgent")).refused(
        "invalid", "one of high, normal, low"
    )


def test_the_judge_of_the_log_sees_an_offer_in_another_lane_or_on_another_queue() -> None:
    """What the run was created with is what counts."""
    run = created(command("a", runs_on=["eu"]), priority="low")
    (offer,) = [event for event in run.log if isinstance(event, StepOffered)]
    for wrong in (replace(offer, priority="high"), replace(offer, queue="default")):
        (said,) = findings_of_run([wrong if event is offer else event for event in run.log])
        assert said.invariant == "I14"
        assert said.said.endswith("not on eu low")
    (told,) = [event for event in run.log if isinstance(event, RunCreated)]
    assert told.priority == "low"
