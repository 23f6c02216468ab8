"""Any pipeline under any faults, in virtual time: what must hold of every run, whatever happens to it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.cron import mistake
from streams.domain.definition import Definition, canonical, problems
from streams.domain.run import events as happened
from streams.expressions import LANGUAGE
from streams.rehearsal.rehearsal import Rehearsal, rehearse
from streams.rehearsal.scenario_file import scenarios_of
from tests.support.pipeline_files import command, pipeline
from tests.support.run_judging import findings

ENDS = (happened.StepSucceeded, happened.StepFailed, happened.StepSkipped, happened.StepCancelled)
DURATIONS = st.sampled_from(["1s", "3m", "2h", "9d"])
BEHAVIOURS = st.one_of(
    st.builds(
        lambda length, done: {"succeed": {"duration": length, "output": {"done": done}}},
        DURATIONS,
        st.booleans(),
    ),
    st.builds(
        lambda length, good: {"fail": {"duration": length, "retryable": good}}, DURATIONS, st.booleans()
    ),
    st.builds(lambda length: {"lose": {"duration": length}}, DURATIONS),
    st.just("hang"),
)
REPEATS = st.fixed_dictionaries(
    {"until": st.sampled_from(["${{ index == 1 }}", "${{ result.done }}"]), "max": st.integers(1, 3)},
    optional={"wait": st.sampled_from(["0s", "5h"])},
)


@st.composite
def plays(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a pipeline and a scenario for it."""
    steps: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 5))):
        name = f"s{number}"
        after = draw(st.sets(st.sampled_from([step["name"] for step in steps]))) if steps else set()
        silence = {"deadline": draw(DURATIONS), "on_silence": "fail"} if draw(st.booleans()) else {}
        step: dict[str, Any] = draw(
            st.sampled_from(
                [
                    command(name, timeout="1h", retry={"attempts": 3, "initial": "1m"}),
                    command(name),
                    command(name, compensate={"command": {"argv": ["undo"]}, "timeout": "1h"}),
                    {"name": name, "wait": {"for": "2d"}},
                    {"name": name, "pipeline": {"name": "other"}, "retry": {"attempts": 2}, "timeout": "3h"},
                    {"name": name, "signal": silence},
                    {"name": name, "approval": silence},
                    {"name": name, "map": {"over": [1, 2, 3], "max_parallel": 2, "command": {"argv": ["x"]}}},
                    {"name": name, "repeat": {**draw(REPEATS), "command": {"argv": ["x"]}}, "timeout": "3h"},
                ]
            )
        )
        if draw(st.booleans()):
            step["when"] = "${{ inputs.yes }}"
        steps.append({**step, "after": sorted(after)})
    document = pipeline(*steps, **({"timeout": "20d"} if draw(st.booleans()) else {}))
    if draw(st.booleans()):
        document["spec"]["finally"] = [command("tidy", timeout="1h")]
    run_by = [step["name"] for step in steps if {"command", "map", "repeat", "pipeline"} & step.keys()]
    run_by += [f"{step['name']}:compensate" for step in steps if "compensate" in step]
    waiting = [step["name"] for step in steps if "signal" in step]
    asking = [step["name"] for step in steps if "approval" in step]
    scenario: dict[str, Any] = {
        "name": "any",
        "input": {"yes": draw(st.booleans())},
        "steps": {name: draw(st.lists(BEHAVIOURS, min_size=1, max_size=4)) for name in run_by},
        "signals": [{"name": name, "at": draw(DURATIONS)} for name in waiting if draw(st.booleans())],
        "approvals": [{"step": name, "after": draw(DURATIONS)} for name in asking if draw(st.booleans())],
    }
    if draw(st.integers(0, 3)) == 0:
        scenario["cancel"] = {"at": draw(DURATIONS)}
    return document, scenario


@given(plays())
@settings(max_examples=150, deadline=None)
def test_every_run_ends_once_or_says_what_it_waits_for(play: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Nothing begins before what it comes after, no timer is early or late, and the same play goes the same way."""
    document, scenario = play
    assert problems(document, mistake, LANGUAGE) == []
    plan = Definition.parse(canonical(document))
    (read,), wrong = scenarios_of({"scenarios": [scenario]}, plan)
    assert wrong == []
    came = rehearse(canonical(document), read)
    told = [event.body for event in came.events if event.aggregate == "run"]
    assert [event.at for event in told] == sorted(event.at for event in told)
    ends = [event for event in told if isinstance(event, happened.RunEnded)]
    assert ends == told[-1:] or (not ends and came.waits)
    if ends:
        statuses = {step["status"] for step in came.run["steps"]}
        assert statuses <= {"succeeded", "failed", "timed_out", "skipped", "cancelled", "compensated"}
        assert {step for step, _ in came.ways} == {"(run)", *plan.steps}
    _orderly(plan, told)
    assert findings(came.events) == []
    again: Rehearsal = rehearse(canonical(document), read)
    assert (again.events, again.ways, again.differences) == (came.events, came.ways, came.differences)


def _orderly(plan: Definition, told: list[Any]) -> None:
    ended: set[str] = set()
    failures: dict[str, int] = {}
    retries: dict[str, int] = {}
    for event in told:
        step = getattr(event, "step", "")
        if isinstance(
            event, happened.StepOffered | happened.StepWaiting | happened.StepMapped | happened.StepCalled
        ):
            assert ended.issuperset(plan.step(step).after), f"{step} began too early"
            assert event.at == retries.pop(step, event.at), f"{step} was not offered at its time"
        if isinstance(event, happened.StepWaiting) and "[" in step:
            assert event.until is not None
            retries[step] = event.until
        if isinstance(event, happened.StepRetryScheduled):
            retries[step] = event.retry_at
            failures[step] = failures.get(step, 0) + 1
            assert failures[step] < plan.step(step).retry.attempts
        if isinstance(event, ENDS):
            assert step not in ended, f"{step} ended twice"
            ended.add(step)
