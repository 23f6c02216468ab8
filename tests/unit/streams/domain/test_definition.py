"""Pipeline files: what is wrong with them, and what they say."""

import json
from datetime import date
from typing import Any

import pytest

from streams.cron import mistake
from streams.domain.definition import Definition, Problem, Retry, canonical, check, digest, problems
from streams.domain.validation import schedule_problems
from tests.support.pipeline_files import command, extract, load, pipeline, transform

SURFACE_EXAMPLE: dict[str, Any] = {
    "apiVersion": "flexcore/v1",
    "kind": "Pipeline",
    "metadata": {
        "name": "customer-data-synchronization",
        "owner": "data-team",
        "description": "customers, every two hours",
        "tags": ["crm"],
    },
    "spec": {
        "schedule": {
            "cron": "0 */2 * * *",
            "timezone": "America/Sao_Paulo",
            "overlap": "skip",
            "catch_up": "1h",
        },
        "limits": [{"name": "crm-database", "max": 1}],
        "timeout": "1h",
        "steps": [
            {"name": "extract-customers", "extract": {"tap": "tap-jsonl==0.3.1", "config": {"paths": ["a"]}}},
            {
                "name": "clean-customers",
                "after": ["extract-customers"],
                "transform": {"python": "transforms.clean:customer"},
            },
            {
                "name": "sync-customers",
                "after": ["clean-customers"],
                "load": {
                    "sink": "postgres",
                    "config": {"url": "${env:CRM_URL}", "table": "c", "mode": "upsert"},
                },
                "retry": {"attempts": 5, "initial": "2s", "multiplier": 2, "max": "60s", "jitter": "full"},
            },
            {
                "name": "update-directory",
                "after": ["clean-customers"],
                "load": {"sink": "http", "config": {}},
                "retry": {"attempts": 3},
            },
            {
                "name": "rebuild-marts",
                "after": ["sync-customers"],
                "command": {"argv": ["dbt", "build"], "timeout": "20m"},
            },
        ],
        "alerts": [{"on": "failed", "notify": "webhook"}, {"on": "quiet", "for": "3h", "notify": "webhook"}],
    },
}


def found(document: object) -> dict[str, str]:
    """Return message and fix of each problem by its place."""
    return {problem.path: f"{problem.message} | {problem.fix}" for problem in problems(document, mistake)}


def step_problem(step: Any, *others: Any) -> dict[str, str]:
    """Return the problems of a file with this step after the others."""
    return found(pipeline(*others, step))


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


def test_an_unknown_key_is_answered_with_the_nearest_known_one() -> None:
    """A slip of the finger costs one look."""
    assert "did you mean extract?" in step_problem({"name": "a", "extrct": {}})["spec.steps[0].extrct"]
    assert "did you mean schedule?" in found(pipeline(command("a"), shedule={}))["spec.shedule"]


def test_an_unknown_key_that_resembles_nothing_is_answered_with_all_known_ones() -> None:
    """There is no guess to make."""
    assert "known: name, after, extract" in step_problem(command("a", qqqq=1))["spec.steps[0].qqqq"]


@pytest.mark.parametrize("name", ["A", "-a", "a_b", "", "a" * 64, "ä", 5, "a\n"])
def test_names_have_one_pattern(name: object) -> None:
    """Names go into topics, URLs and file names as they are."""
    assert "use 1 to 63 of a-z" in step_problem(command(name))["spec.steps[0].name"]  # type: ignore[arg-type]  # the point


def test_a_step_needs_a_name() -> None:
    """A step nobody can name cannot be rerun."""
    assert "is missing" in step_problem({"command": {"argv": ["true"]}})["spec.steps[0].name"]


def test_two_steps_cannot_share_a_name() -> None:
    """The second one is the mistake."""
    assert "names two steps" in step_problem(command("a"), command("a"))["spec.steps[1].name"]


def test_a_step_does_exactly_one_thing() -> None:
    """Neither nothing nor two things."""
    assert "does nothing" in step_problem({"name": "a"})["spec.steps[0]"]
    assert "extract and command" in step_problem({**extract("a"), **command("a")})["spec.steps[0]"]


@pytest.mark.parametrize("steps", [None, [], {}, "a"])
def test_a_pipeline_needs_steps(steps: object) -> None:
    """A pipeline that does nothing is a mistake."""
    document = pipeline()
    document["spec"]["steps"] = steps
    assert "at least one step" in found(document)["spec.steps"]


def test_a_step_that_is_no_mapping_is_named() -> None:
    """Its neighbours are checked all the same."""
    assert set(step_problem("just text", {"name": "a"})) == {"spec.steps[0]", "spec.steps[1]"}


def test_the_number_of_steps_has_a_bound() -> None:
    """A run is one aggregate in one owner's memory."""
    assert "more than 2000" in found(pipeline(*(command(f"s{i}") for i in range(2001))))["spec.steps"]


def test_after_names_steps_that_exist() -> None:
    """A step that is not there is answered with the one that is nearly called so."""
    assert (
        "did you mean first?"
        in step_problem(command("b", "frist"), command("first"))["spec.steps[1].after[0]"]
    )


def test_after_is_a_list_of_different_names() -> None:
    """Text, numbers and repetitions are mistakes."""
    assert "write [a]" in step_problem({**command("b"), "after": "a"}, command("a"))["spec.steps[1].after"]
    assert (
        "is no name" in step_problem({**command("b"), "after": [3]}, command("a"))["spec.steps[1].after[0]"]
    )
    assert "is there twice" in step_problem(command("b", "a", "a"), command("a"))["spec.steps[1].after[1]"]


def test_a_cycle_is_named_by_its_steps() -> None:
    """Whoever reads it knows which arrow to remove."""
    steps = [command("a", "c"), command("b", "a"), command("c", "b"), command("d", "a")]
    assert found(pipeline(*steps)) == {
        "spec.steps": "steps wait for each other: a → c → b → a | remove one of these from its after list"
    }


def test_a_step_cannot_wait_for_itself() -> None:
    """The smallest cycle is one, too."""
    assert "a → a" in found(pipeline(command("a", "a")))["spec.steps"]


def test_two_cycles_are_two_problems() -> None:
    """Fixing one does not reveal the next."""
    steps = [command("a", "b"), command("b", "a"), command("c", "d"), command("d", "c")]
    assert len(problems(pipeline(*steps))) == 2


def test_a_diamond_is_no_cycle() -> None:
    """Two ways to one step are fine."""
    steps = [command("a"), command("b", "a"), command("c", "a"), command("d", "b", "c")]
    assert problems(pipeline(*steps)) == []


@pytest.mark.parametrize("make", [load, transform])
def test_a_reader_needs_a_step_before_it_that_makes_records(make: Any) -> None:
    """Nothing before it, or nothing with records before it, is a mistake."""
    assert "reads the records of a step before it" in step_problem(make("b"))["spec.steps[0].after"]
    assert "none of a makes records" in step_problem(make("b", "a"), command("a"))["spec.steps[1].after"]
    assert step_problem(make("b", "a", "x"), command("a"), extract("x")) == {}


def test_an_extract_names_one_source() -> None:
    """A Singer tap or a builtin source."""
    both = {"name": "a", "extract": {"tap": "tap-jsonl", "source": "file"}}
    assert "exactly one of tap and source" in step_problem(both)["spec.steps[0].extract"]
    assert (
        "exactly one of tap and source" in step_problem({"name": "a", "extract": {}})["spec.steps[0].extract"]
    )
    wrong = {"name": "a", "extract": {"tap": "", "config": [], "streams": [1], "catalog": 3}}
    assert set(step_problem(wrong)) == {
        f"spec.steps[0].extract.{p}" for p in ("tap", "config", "streams[0]", "catalog")
    }


def test_a_load_names_its_sink() -> None:
    """And configures it by a mapping."""
    step: dict[str, Any] = {"name": "b", "after": ["a"], "load": {"config": 3}}
    assert set(step_problem(step, extract("a"))) == {"spec.steps[1].load.sink", "spec.steps[1].load.config"}
    step["load"] = {"sink": ""}
    assert set(step_problem(step, extract("a"))) == {"spec.steps[1].load.sink"}


def test_what_an_extract_and_a_transform_may_be_told_besides() -> None:
    """Truth values, and a share."""
    read = {"name": "a", "extract": {"source": "file", "changed_only": 1, "full_refresh": "no"}}
    clean = {**transform("b", "a"), "transform": {"python": "transforms.a:b", "tolerate": 1.5, "config": []}}
    assert set(step_problem(clean, read)) == {
        "spec.steps[0].extract.changed_only",
        "spec.steps[0].extract.full_refresh",
        "spec.steps[1].transform.tolerate",
        "spec.steps[1].transform.config",
    }


@pytest.mark.parametrize(
    "python", [None, 5, "clean:customer", "transforms.clean", "transforms:f", "transforms.a:b c"]
)
def test_a_transform_names_a_function_of_the_project(python: object) -> None:
    """Code comes from the transforms folder only."""
    step = {"name": "b", "after": ["a"], "transform": {"python": python}}
    assert "transforms.clean:customer" in step_problem(step, extract("a"))["spec.steps[1].transform.python"]


@pytest.mark.parametrize("argv", [None, [], "dbt build", ["dbt", 3], [""]])
def test_a_command_is_a_program_and_its_arguments(argv: object) -> None:
    """A line of shell is not."""
    step = {"name": "a", "command": {"argv": argv}}
    assert "write argv: [dbt, build]" in step_problem(step)["spec.steps[0].command.argv"]


def test_the_environment_of_a_command_is_text() -> None:
    """Numbers are put in quotes; empty text is fine."""
    step = {"name": "a", "command": {"argv": ["x"], "env": {"A": 1, "B": ""}}}
    assert set(step_problem(step)) == {"spec.steps[0].command.env.A"}


@pytest.mark.parametrize("block", ["extract", "load", "transform", "command"])
def test_a_kinds_block_is_a_mapping(block: str) -> None:
    """Anything else says which keys it wants."""
    assert (
        "must be a mapping"
        in step_problem({"name": "b", block: "x", "after": ["a"]}, extract("a"))[f"spec.steps[1].{block}"]
    )


@pytest.mark.parametrize(
    ("retry", "place"),
    [
        ({}, "attempts"),
        ({"attempts": 101}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"attempts": 2, "initial": 5}, "initial"),
        ({"attempts": 2, "max": "1y"}, "max"),
        ({"attempts": 2, "multiplier": 0.5}, "multiplier"),
        ({"attempts": 2, "jitter": "half"}, "jitter"),
        ({"attempts": 2, "jitter": False}, "jitter"),
        ({"attempts": 2, "intial": "1s"}, "intial"),
    ],
)
def test_a_retry_has_bounds(retry: dict[str, Any], place: str) -> None:
    """Each wrong part is named by itself."""
    assert set(step_problem(command("a", retry=retry))) == {f"spec.steps[0].retry.{place}"}


def test_a_retry_is_a_mapping() -> None:
    """A bare number is not understood."""
    assert set(step_problem(command("a", retry=3))) == {"spec.steps[0].retry"}


def test_a_timeout_is_said_once() -> None:
    """At the step or in its command."""
    step = {"name": "a", "timeout": "1m", "command": {"argv": ["x"], "timeout": "2m"}}
    assert "keep one" in step_problem(step)["spec.steps[0].timeout"]


def test_a_timeout_has_bounds() -> None:
    """Neither nothing nor for ever."""
    assert "1s to 366d" in step_problem(command("a", timeout="0s"))["spec.steps[0].timeout"]


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
    ],
)
def test_limits_and_alerts_have_a_shape(spec: dict[str, Any], places: set[str]) -> None:
    """They are kept with the definition, so they must be readable later."""
    assert set(found(pipeline(command("a"), **spec))) == places


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
