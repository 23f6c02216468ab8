"""Runs that an event or another run's end starts, in virtual time."""

from typing import Any

from streams.domain.definition import Definition, canonical
from streams.domain.identity import event_key, run_id
from streams.domain.run.events import StepOffered
from streams.rehearsal.rehearsal import Rehearsal, rehearse
from streams.rehearsal.scenario_file import scenarios_of
from tests.support.pipeline_files import command, pipeline

BIG = {"event": {"name": "orders", "filter": "${{ event.data.total > 100 }}"}}
AFTER = {"after": {"pipeline": "load-orders", "status": ["succeeded", "failed"]}}


def comes(trigger: dict[str, Any], **scenario: Any) -> Rehearsal:
    """Let a trigger of a pipeline that has both kinds be tried."""
    step = {"name": "greet", "command": {"argv": ["echo", "${{ inputs.steps.copy.rows }}"]}}
    if "event" in trigger:
        step = command("greet")
    text = canonical(pipeline(step, name="greetings", triggers=[BIG, AFTER]))
    (read,), wrong = scenarios_of(
        {"scenarios": [{"name": "it", "trigger": trigger, **scenario}]}, Definition.parse(text)
    )
    assert wrong == []
    return rehearse(text, read)


def order(**data: Any) -> dict[str, Any]:
    """Return an event."""
    return {"event": {"source": "/shop", "id": "o-1", "type": "placed", "data": data}}


def test_an_event_that_passes_starts_the_run_that_a_node_would_start() -> None:
    """Under the same id, with the event as input."""
    came = comes(order(total=120), expect={"steps": {"greet": "succeeded"}})
    assert came.differences == ()
    assert came.run["id"] == run_id("default", "greetings", event_key("/shop", "o-1"))
    assert (came.run["trigger"], came.run["input"]) == (
        "event",
        {"specversion": "1.0", "source": "/shop", "id": "o-1", "type": "placed", "data": {"total": 120}},
    )


def test_an_event_that_does_not_pass_starts_nothing() -> None:
    """That may be expected; if it is not, or a run comes that is not expected, it is told."""
    assert comes(order(total=20), expect={"started": False}).differences == ()
    came = comes(order(total=20))
    assert (came.run, came.virtual_ms, came.waits) == ({}, 0, "the event does not pass the filter")
    assert came.differences == ("started: expected a run, but the event does not pass the filter",)
    came = comes(order(total=120), expect={"started": False})
    assert came.differences == ("started: expected no run, but there is one",)


def test_a_filter_that_fails_is_expected_by_its_error_only() -> None:
    """Most often it is a mistake of the filter or of the event."""
    assert comes(order(sum=1), expect={"started": False, "error": "Key not found"}).differences == ()
    (told,) = comes(order(sum=1), expect={"started": False}).differences
    assert told.startswith("error: expected none, but the filter fails: ")
    (told,) = comes(order(total=1), expect={"started": False, "error": "Key not found"}).differences
    assert told == "error: expected Key not found, but the event does not pass the filter"


def test_what_people_do_to_a_run_that_does_not_come_is_told() -> None:
    """It never happens."""
    came = comes(order(total=20), cancel={"at": "1h"}, expect={"started": False})
    assert came.differences == ("cancel: cancel never came: there was no run",)


def test_the_end_of_another_run_starts_one_with_its_results() -> None:
    """If it is an end that counts."""
    came = comes({"after": {"status": "failed", "error": "no", "steps": {"copy": {"rows": 3}}}})
    assert came.differences == ()
    assert (came.run["trigger"], came.run["input"]) == (
        "run",
        {
            "run": "run-of-load-orders",
            "pipeline": "load-orders",
            "status": "failed",
            "error": "no",
            "steps": {"copy": {"rows": 3}},
        },
    )
    (offered,) = [event.body for event in came.events if isinstance(event.body, StepOffered)]
    assert offered.settings == '{"argv":["echo","3"]}'
    assert comes({"after": {"status": "cancelled"}}, expect={"started": False}).differences == ()
    (told,) = comes({"after": {"status": "cancelled"}}).differences
    assert (
        told == "started: expected a run, but it does not start after a run of load-orders that is cancelled"
    )
