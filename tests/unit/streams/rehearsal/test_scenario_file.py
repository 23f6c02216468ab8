"""Mistakes of a scenario file: each with its place and the way out."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from streams.domain.definition import Definition, canonical
from streams.rehearsal.rehearsal import rehearse
from streams.rehearsal.scenario_file import pipeline_of, scenarios_of
from tests.support.pipeline_files import command, pipeline

TEXT = canonical(
    pipeline(
        command("copy"),
        {"name": "ask", "approval": {}},
        {"name": "go", "signal": {"name": "start-it"}},
        alerts=[{"on": "late", "notify": "x"}],
    )
)
PLAN = Definition.parse(TEXT)


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ({"name": "x", "step": {}}, "scenarios[0].step: 'step' is not known here (did you mean steps?)"),
        ({}, "scenarios[0].name: is missing"),
        ({"name": "x", "start": "monday"}, "scenarios[0].start: 'monday' is no point in time"),
        ({"name": "x", "steps": {"cpy": "hang"}}, "steps.cpy: no step is named 'cpy' (did you mean copy?)"),
        ({"name": "x", "steps": {"copy": "fall"}}, "steps.copy: 'fall' is not known (did you mean fail?)"),
        ({"name": "x", "steps": {"copy": {"hang": {}, "fail": {}}}}, "needs exactly one of succeed, fail"),
        ({"name": "x", "steps": {"copy": {"fail": {"after": "1s"}}}}, "copy.fail.after: 'after' is not known"),
        ({"name": "x", "steps": {"copy": [{"fail": {"times": 0}}]}}, "steps.copy[0].fail.times: 0 does not fit"),
        ({"name": "x", "steps": {"ask": "fail"}}, "steps.ask: no runner takes a step of kind approval (say it under approvals)"),
        ({"name": "x", "signals": [{"name": "start"}]}, "signals[0].name: no step waits for a signal 'start'"),
        ({"name": "x", "signals": [{"name": "start-it", "at": "soon"}]}, "'soon' is no moment of this scenario"),
        ({"name": "x", "approvals": [{"step": "copy"}]}, "approvals[0].step: 'copy' is no approval step"),
        ({"name": "x", "approvals": [{"step": "ask", "at": "1h", "after": "1h"}]}, "after: stands beside at"),
        ({"name": "x", "usual": {"record": 5}}, "usual.record: 'record' is not known here (did you mean records?)"),
        ({"name": "x", "usual": {"records": -1}}, "usual.records: -1 does not fit"),
        ({"name": "x", "expect": {"alerts": ["laet"]}}, "alerts[0]: 'laet' is not known (did you mean late?)"),
        ({"name": "x", "cancel": {}}, "cancel.at: is missing (write at: 2h, counted from the start)"),
        ({"name": "x", "schedule": "3d"}, "scenarios[0].schedule: pipeline customers has no schedule"),
        ({"name": "x", "schedule": "3d", "cancel": {"at": "1h"}}, "cancel: is for a run that is started by hand"),
        ({"name": "x", "expect": {"slots": []}}, "expect.slots: 'slots' is not known here"),
        ({"name": "x", "expect": {"status": "done"}}, "expect.status: 'done' is not known"),
        ({"name": "x", "expect": {"attempts": {"copy": "2"}}}, "expect.attempts.copy: '2' does not fit"),
        ({"name": "x", "expect": {"duration": {"at_least": "x"}}}, "duration.at_least: 'x' is no duration"),
    ],
)  # fmt: skip
def test_every_mistake_names_its_place_and_the_fix(scenario: dict[str, Any], said: str) -> None:
    """As in a pipeline file."""
    _, problems = scenarios_of({"scenarios": [scenario]}, PLAN)
    assert any(said in str(problem) for problem in problems), [str(problem) for problem in problems]


LISTENING = canonical(
    pipeline(
        command("copy"),
        schedule={"every": "1h"},
        triggers=[
            {"event": {"name": "orders"}},
            {"event": {"name": "stock"}},
            {"after": {"pipeline": "load-orders"}},
        ],
    )
)
LISTENS = Definition.parse(LISTENING)
PLACED = {"name": "orders", "source": "/shop", "id": "o-1", "type": "placed"}


@pytest.mark.parametrize(
    ("plan", "scenario", "said"),
    [
        (LISTENS, {"trigger": {}}, "trigger: must be one trigger (write {event: {…}} or {after: {…}})"),
        (LISTENS, {"trigger": {"evnt": {}}}, "trigger.evnt: 'evnt' is not known here (did you mean event?)"),
        (LISTENS, {"trigger": {"event": {}}}, "trigger.event.name: is missing"),
        (LISTENS, {"trigger": {"event": {**PLACED, "name": "order"}}}, "event.name: no trigger names 'order' (did you mean orders?)"),
        (LISTENS, {"trigger": {"event": {**PLACED, "id": 7}}}, "trigger.event.id: 7 is no text (put it in quotes)"),
        (LISTENS, {"trigger": {"event": {**PLACED, "specversion": 1.0}}}, "event.specversion: 1.0 is not known"),
        (LISTENS, {"trigger": {"after": {"pipeline": "load-ordres"}}}, "after.pipeline: no trigger names 'load-ordres' (did you mean load-orders?)"),
        (LISTENS, {"trigger": {"after": {"status": "done"}}}, "trigger.after.status: 'done' is not known"),
        (LISTENS, {"trigger": {"after": {"steps": []}}}, "trigger.after.steps: must be a mapping"),
        (LISTENS, {"trigger": {"after": {}}, "input": {}}, "input: is for a run that is started by hand (leave out trigger)"),
        (LISTENS, {"trigger": {"after": {}}, "schedule": "1d"}, "trigger: is for a run that is started by hand (leave out schedule)"),
        (LISTENS, {"trigger": {"after": {}}, "expect": {"started": "no"}}, "expect.started: 'no' is neither true nor false"),
        (LISTENS, {"trigger": {"after": {}}, "expect": {"started": False, "steps": {}}}, "expect.steps: is of a run, and none is expected"),
        (PLAN, {"expect": {"started": False}}, "expect.started: 'started' is not known here"),
        (PLAN, {"trigger": {"event": PLACED}}, "event.name: pipeline customers hears no event (add it to triggers of the pipeline, or leave out trigger)"),
        (PLAN, {"trigger": {"after": {}}}, "after.pipeline: pipeline customers starts after no other"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_trigger_is_said(plan: Definition, scenario: dict[str, Any], said: str) -> None:
    """It must be one of the file's, and what it starts has its input from it."""
    _, problems = scenarios_of({"scenarios": [{"name": "x", **scenario}]}, plan)
    assert any(said in str(problem) for problem in problems), [str(problem) for problem in problems]


def test_a_file_says_what_it_is_about() -> None:
    """Its head is checked first: the rest depends on the pipeline."""
    name, problems = pipeline_of({"apiVersion": "flexcore/v1", "kind": "Pipeline", "scenarios": []})
    assert [str(problem) for problem in problems] == [
        "kind: 'Pipeline' is not known (write kind: PipelineTest)",
        "pipeline: is missing",
    ]
    assert name == "None"


WHOLE: dict[str, Any] = {
    "name": "x", "start": "2026-01-01T00:00:00Z", "input": {}, "full_refresh": True, "usual": {"duration": "1h", "records": 5}, "slot": "2026-01-01T00:00:00Z",
    "steps": {"copy": [{"fail": {"error": "e", "tail": "t", "retryable": True, "times": 2, "duration": "1s"}}]},
    "limits": {}, "signals": [{"name": "start-it", "payload": {}, "at": "1d"}],
    "approvals": [{"step": "ask", "decision": "reject", "by": "ann", "note": "n", "after": "1d"}],
    "skips": [{"step": "copy", "by": "ann", "reason": "r", "at": "1h"}], "cancel": {"at": "9d", "now": True},
    "expect": {"status": "failed", "error": "e", "steps": {"copy": "failed"}, "outputs": {"copy": {}},
               "attempts": {"copy": 1}, "duration": {"at_least": "1s", "at_most": "2s"}, "alerts": ["failed"]},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


@pytest.mark.parametrize("place", list(places(WHOLE))[1:], ids=str)
def test_nothing_that_stands_anywhere_breaks_the_reader(place: tuple[Any, ...]) -> None:
    """It is right, or a mistake is told; nothing is raised."""
    broken_anywhere(TEXT, WHOLE, place)


TRIGGERS: list[dict[str, Any]] = [
    {"name": "x", "trigger": {"event": {**PLACED, "specversion": "1.0", "data": {}}}},
    {"name": "x", "trigger": {"after": {"pipeline": "load-orders", "status": "failed", "error": "e", "steps": {}}},
     "expect": {"started": False}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("scenario", "place"),
    [(one, place) for one in TRIGGERS for place in list(places(one))[1:]],
    ids=str,
)
def test_nothing_that_stands_in_a_trigger_breaks_the_reader(
    scenario: dict[str, Any], place: tuple[Any, ...]
) -> None:
    """Nor what is played then."""
    broken_anywhere(LISTENING, scenario, place)


def broken_anywhere(text: str, whole: dict[str, Any], place: tuple[Any, ...]) -> None:
    """Read and play a scenario with junk at a place of it."""
    plan = Definition.parse(text)
    assert scenarios_of({"scenarios": [whole]}, plan)[1] == []
    wrong: list[Any] = [None, 5, -1, "", "x", True, [], [[]], {}, {"x": []}, 1.5]
    for junk in wrong:
        broken = copy.deepcopy(whole)
        inside: Any = broken
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = junk
        scenarios, problems = scenarios_of({"scenarios": [broken]}, plan)
        if not problems:
            rehearse(text, scenarios[0])
