"""Pipeline files: what is wrong with them, and what they say."""

import json
from datetime import date
from typing import Any

import pytest

from streams.cron import mistake
from streams.domain.definition import Definition, Problem, Retry, canonical, check, digest, problems
from streams.domain.validation import schedule_problems
from tests.support.pipeline_files import SURFACE_EXAMPLE, command, extract, found, load, pipeline


def test_the_example_of_the_surface_is_valid() -> None:
    """What users are told to write is accepted."""
    assert problems(SURFACE_EXAMPLE, mistake) == []


def test_every_mistake_is_named_at_once() -> None:
    """One run of the checks shows them all, each with its place."""
    document = pipeline(
        {"name": "Extract!", "extrct": {}},
        load("b", "nowhere", retry={"attempts": 0}),
        name="Bad Name",
        timeout="soon",
    )
    document["apiVersion"] = "v2"

    assert set(found(document)) == {
        "apiVersion",
        "metadata.name",
        "spec.timeout",
        "spec.steps[0].name",
        "spec.steps[0].extrct",
        "spec.steps[0]",
        "spec.steps[1].retry.attempts",
        "spec.steps[1].after[0]",
        "spec.steps[1].after",
    }


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_a_document_that_is_no_mapping_is_one_problem(document: object) -> None:
    """There is nothing to look into, and the answer says what a file looks like."""
    (problem,) = problems(document)

    assert problem.path == ""
    assert "apiVersion" in problem.fix


def test_missing_parts_are_named() -> None:
    """An empty file lacks everything."""
    assert set(found({})) == {"apiVersion", "kind", "metadata", "spec"}


@pytest.mark.parametrize(
    ("schedule", "place", "words"),
    [
        ({}, "", "exactly one of cron and every"),
        ({"cron": "* * * * *", "every": "5s"}, "", "exactly one of cron and every"),
        ({"cron": "61 * * * *"}, "", "bad minute"),
        ({"cron": "* * * *"}, "", "wrong number of fields"),
        ({"cron": "0 0 30 2 *"}, "", "bad day-of-month"),
        ({"cron": "* * * * *", "timezone": "Mars/Phobos"}, "", "no time zone"),
        ({"cron": 5}, ".cron", "is no text"),
        ({"every": "5s", "timezone": "UTC"}, ".timezone", "only with cron"),
        ({"every": "5s", "dst": "first"}, ".dst", "only with cron"),
        ({"cron": "0 2 * * *", "dst": "second"}, ".dst", "not known"),
        ({"every": "1ms"}, ".every", "out of bounds"),
        ({"every": "5s", "overlap": "wait"}, ".overlap", "not known"),
        ({"every": "5s", "catch_up": "yes"}, ".catch_up", "no duration"),
        ("hourly", "", "must be a mapping"),
    ],
)
def test_a_schedule_is_checked(schedule: Any, place: str, words: str) -> None:
    """Shape by the domain, syntax by whoever computes the slots."""
    assert words in found(pipeline(command("a"), schedule=schedule))[f"spec.schedule{place}"]


def test_a_schedule_is_checked_by_itself_too() -> None:
    """The schedule aggregate gets it without its file."""
    assert schedule_problems({"every": "5s"}) == []
    assert schedule_problems({"evry": "5s"})


@pytest.mark.parametrize(
    ("spec", "places"),
    [
        ({"limits": [{"name": "X", "max": 0}]}, {"spec.limits[0].name", "spec.limits[0].max"}),
        ({"limits": [{}]}, {"spec.limits[0].name", "spec.limits[0].max"}),
        ({"limits": 5}, {"spec.limits"}),
        ({"alerts": [{"on": "quiet", "notify": "w"}]}, {"spec.alerts[0].for"}),
        ({"alerts": [{"on": "sad"}]}, {"spec.alerts[0].on", "spec.alerts[0].notify"}),
        ({"alerts": [{"on": "quiet", "for": 3, "notify": "w"}]}, {"spec.alerts[0].for"}),
        ({"alerts": ["failed"]}, {"spec.alerts[0]"}),
        ({"alerts": [{"on": ["late"], "notify": "w"}]}, {"spec.alerts[0].on"}),
        ({"alerts": [{"on": "failed", "for": "3h", "notify": "w"}]}, {"spec.alerts[0].for"}),
        (
            {"alerts": [{"on": "late", "factor": 0, "after": "1ms", "notify": "w"}]},
            {"spec.alerts[0].factor", "spec.alerts[0].after"},
        ),
        (
            {"alerts": [{"on": "records", "min": -1, "max": True, "factor": "2", "notify": "w"}]},
            {"spec.alerts[0].min", "spec.alerts[0].max", "spec.alerts[0].factor"},
        ),
        ({"alerts": [{"on": "records", "min": 5, "max": 4, "notify": "w"}]}, {"spec.alerts[0].max"}),
        ({"alerts": [{"on": "quarantine", "above": 0.5, "notify": "w"}]}, {"spec.alerts[0].above"}),
        ({"alerts": [{"on": "quarantine", "min": 5, "notify": "w"}]}, {"spec.alerts[0].min"}),
    ],
)
def test_limits_and_alerts_have_a_shape(spec: dict[str, Any], places: set[str]) -> None:
    """They are kept with the definition, so they must be readable later."""
    assert set(found(pipeline(command("a"), **spec))) == places


def test_a_misspelt_option_of_an_alert_is_told_what_was_meant() -> None:
    """Only what this kind of rule may say is known."""
    alerts = [{"on": "laet", "notify": "w"}, {"on": "late", "facter": 3, "notify": "w"}]
    told = found(pipeline(command("a"), alerts=alerts))
    assert told["spec.alerts[0].on"].endswith("did you mean late?")
    assert told["spec.alerts[1].facter"].endswith("did you mean factor?")


def test_metadata_is_text() -> None:
    """Owner, description and tags are for people."""
    document = pipeline(command("a"))
    document["metadata"] |= {"owner": 5, "description": None, "tags": [1], "labels": {}}
    assert set(found(document)) == {
        "metadata.owner",
        "metadata.description",
        "metadata.tags[0]",
        "metadata.labels",
    }


def test_what_json_cannot_say_is_named_with_its_place() -> None:
    """YAML knows dates, other keys than text, and numbers that are none."""
    document = pipeline(extract("a"))
    document["spec"]["steps"][0]["extract"]["config"] = {
        "since": date(2024, 1, 1),
        "x": [float("nan")],
        True: 1,
    }
    config = "spec.steps[0].extract.config"
    assert {path: text.split("|")[1].strip() for path, text in found(document).items()} == {
        f"{config}.since": "put it in quotes",
        f"{config}.x[0]": "write a finite number",
        config: "put it in quotes",
    }


def test_nesting_has_an_end() -> None:
    """A file that nests for ever does not bring the node down."""
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    assert any("nested deeper" in text for text in found(deep).values())


def test_a_problem_reads_as_one_line() -> None:
    """Place, mistake, way out."""
    assert str(Problem("spec.steps", "is empty", "write one")) == "spec.steps: is empty (write one)"
    assert str(Problem("", "is no JSON")) == "is no JSON"


def test_text_that_is_no_json_is_one_problem() -> None:
    """A producer that knows only Kafka gets an answer, too."""
    (problem,) = check("{")
    assert "is not JSON" in problem.message


def test_equal_files_have_one_canonical_text_and_one_hash() -> None:
    """The order of keys does not matter, the order of steps does."""
    document = pipeline(command("a"), command("b"))
    shuffled = json.loads(json.dumps(document, sort_keys=True))
    assert canonical(document) == canonical(shuffled)
    assert canonical(document) != canonical(pipeline(command("b"), command("a")))
    assert digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_definition_says_what_the_file_says() -> None:
    """Durations are milliseconds, defaults are filled in."""
    definition = Definition.parse(canonical(SURFACE_EXAMPLE))
    sync, marts = definition.steps["sync-customers"], definition.steps["rebuild-marts"]

    assert definition.name == "customer-data-synchronization"
    assert definition.timeout_ms == 3_600_000
    assert definition.schedule == SURFACE_EXAMPLE["spec"]["schedule"]
    assert list(definition.steps) == [step["name"] for step in SURFACE_EXAMPLE["spec"]["steps"]]
    assert sync.retry == Retry(5, 2_000, 2.0, 60_000, "full")
    assert definition.steps["update-directory"].retry == Retry(attempts=3)
    assert (marts.kind, marts.timeout_ms, marts.after) == ("command", 1_200_000, ("sync-customers",))
    assert marts.spec["argv"] == ["dbt", "build"]
    assert (
        Definition.parse(canonical(pipeline(load("b", timeout="5s"), extract("a")))).steps["b"].timeout_ms
        == 5_000
    )


def test_downstream_is_everything_that_comes_after() -> None:
    """Directly or not, and not the step itself."""
    definition = Definition.parse(canonical(SURFACE_EXAMPLE))
    assert definition.downstream("clean-customers") == {"sync-customers", "update-directory", "rebuild-marts"}
    assert definition.downstream("rebuild-marts") == frozenset()
