"""The steps of pipeline files: what is wrong with them."""

from typing import Any

import pytest

from streams.domain.definition import problems
from tests.support.pipeline_files import command, extract, found, load, pipeline, step_problems, transform


def test_an_unknown_key_is_answered_with_the_nearest_known_one() -> None:
    """A slip of the finger costs one look."""
    assert "did you mean extract?" in step_problems({"name": "a", "extrct": {}})["spec.steps[0].extrct"]
    assert "did you mean schedule?" in found(pipeline(command("a"), shedule={}))["spec.shedule"]


def test_an_unknown_key_that_resembles_nothing_is_answered_with_all_known_ones() -> None:
    """There is no guess to make."""
    assert (
        "known: name, after, when, runs_on, extract"
        in step_problems(command("a", qqqq=1))["spec.steps[0].qqqq"]
    )


@pytest.mark.parametrize("name", ["A", "-a", "a_b", "", "a" * 64, "ä", 5, "a\n"])
def test_names_have_one_pattern(name: object) -> None:
    """Names go into topics, URLs and file names as they are."""
    assert "use 1 to 63 of a-z" in step_problems(command(name))["spec.steps[0].name"]  # type: ignore[arg-type]  # the point


def test_a_step_needs_a_name() -> None:
    """A step nobody can name cannot be rerun."""
    assert "is missing" in step_problems({"command": {"argv": ["true"]}})["spec.steps[0].name"]


def test_two_steps_cannot_share_a_name() -> None:
    """The second one is the mistake."""
    assert "names two steps" in step_problems(command("a"), command("a"))["spec.steps[1].name"]


def test_a_step_does_exactly_one_thing() -> None:
    """Neither nothing nor two things."""
    assert "does nothing" in step_problems({"name": "a"})["spec.steps[0]"]
    assert "extract and command" in step_problems({**extract("a"), **command("a")})["spec.steps[0]"]


@pytest.mark.parametrize("steps", [None, [], {}, "a"])
def test_a_pipeline_needs_steps(steps: object) -> None:
    """A pipeline that does nothing is a mistake."""
    document = pipeline()
    document["spec"]["steps"] = steps
    assert "at least one step" in found(document)["spec.steps"]


def test_a_step_that_is_no_mapping_is_named() -> None:
    """Its neighbours are checked all the same."""
    assert set(step_problems("just text", {"name": "a"})) == {"spec.steps[0]", "spec.steps[1]"}


def test_the_number_of_steps_has_a_bound() -> None:
    """A run is one aggregate in one owner's memory."""
    assert "more than 2000" in found(pipeline(*(command(f"s{i}") for i in range(2001))))["spec.steps"]


def test_after_names_steps_that_exist() -> None:
    """A step that is not there is answered with the one that is nearly called so."""
    assert (
        "did you mean first?"
        in step_problems(command("b", "frist"), command("first"))["spec.steps[1].after[0]"]
    )


def test_after_is_a_list_of_different_names() -> None:
    """Text, numbers and repetitions are mistakes."""
    assert "write [a]" in step_problems({**command("b"), "after": "a"}, command("a"))["spec.steps[1].after"]
    assert (
        "is no name" in step_problems({**command("b"), "after": [3]}, command("a"))["spec.steps[1].after[0]"]
    )
    assert "is there twice" in step_problems(command("b", "a", "a"), command("a"))["spec.steps[1].after[1]"]


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
    assert "reads the records of a step before it" in step_problems(make("b"))["spec.steps[0].after"]
    assert "none of a makes records" in step_problems(make("b", "a"), command("a"))["spec.steps[1].after"]
    assert step_problems(make("b", "a", "x"), command("a"), extract("x")) == {}


def test_an_extract_names_one_source() -> None:
    """A Singer tap or a builtin source."""
    both = {"name": "a", "extract": {"tap": "tap-jsonl", "source": "file"}}
    assert "exactly one of tap and source" in step_problems(both)["spec.steps[0].extract"]
    assert (
        "exactly one of tap and source"
        in step_problems({"name": "a", "extract": {}})["spec.steps[0].extract"]
    )
    wrong = {"name": "a", "extract": {"tap": "", "config": [], "streams": [1], "catalog": 3}}
    assert set(step_problems(wrong)) == {
        f"spec.steps[0].extract.{p}" for p in ("tap", "config", "streams[0]", "catalog")
    }


def test_a_load_names_one_sink_or_singer_target() -> None:
    """And configures it by a mapping."""
    step: dict[str, Any] = {"name": "b", "after": ["a"], "load": {"config": 3}}
    assert set(step_problems(step, extract("a"))) == {"spec.steps[1].load", "spec.steps[1].load.config"}
    step["load"] = {"sink": "postgres", "target": "target-jsonl==0.1.4"}
    assert "exactly one of sink and target" in step_problems(step, extract("a"))["spec.steps[1].load"]
    step["load"] = {"sink": ""}
    assert set(step_problems(step, extract("a"))) == {"spec.steps[1].load.sink"}


def test_what_an_extract_and_a_transform_may_be_told_besides() -> None:
    """Truth values, and a share."""
    read = {"name": "a", "extract": {"source": "file", "changed_only": 1, "full_refresh": "no"}}
    clean = {**transform("b", "a"), "transform": {"python": "transforms.a:b", "tolerate": 1.5, "config": []}}
    assert set(step_problems(clean, read)) == {
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
    assert "transforms.clean:customer" in step_problems(step, extract("a"))["spec.steps[1].transform.python"]


@pytest.mark.parametrize("argv", [None, [], "dbt build", ["dbt", 3], [""]])
def test_a_command_is_a_program_and_its_arguments(argv: object) -> None:
    """A line of shell is not."""
    step = {"name": "a", "command": {"argv": argv}}
    assert "write argv: [dbt, build]" in step_problems(step)["spec.steps[0].command.argv"]


def test_the_environment_of_a_command_is_text() -> None:
    """Numbers are put in quotes; empty text is fine."""
    step = {"name": "a", "command": {"argv": ["x"], "env": {"A": 1, "B": ""}}}
    assert set(step_problems(step)) == {"spec.steps[0].command.env.A"}


@pytest.mark.parametrize("block", ["extract", "load", "transform", "command"])
def test_a_kinds_block_is_a_mapping(block: str) -> None:
    """Anything else says which keys it wants."""
    assert (
        "must be a mapping"
        in step_problems({"name": "b", block: "x", "after": ["a"]}, extract("a"))[f"spec.steps[1].{block}"]
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
        ({"attempts": 2, "non_retryable": "denied"}, "non_retryable"),
        ({"attempts": 2, "non_retryable": [""]}, "non_retryable[0]"),
        ({"attempts": 2, "intial": "1s"}, "intial"),
    ],
)
def test_a_retry_has_bounds(retry: dict[str, Any], place: str) -> None:
    """Each wrong part is named by itself."""
    assert set(step_problems(command("a", retry=retry))) == {f"spec.steps[0].retry.{place}"}


def test_a_retry_is_a_mapping() -> None:
    """A bare number is not understood."""
    assert set(step_problems(command("a", retry=3))) == {"spec.steps[0].retry"}


def test_a_timeout_is_said_once() -> None:
    """At the step or in its command."""
    step = {"name": "a", "timeout": "1m", "command": {"argv": ["x"], "timeout": "2m"}}
    assert "keep one" in step_problems(step)["spec.steps[0].timeout"]


def test_a_timeout_has_bounds() -> None:
    """Neither nothing nor for ever."""
    assert "1s to 366d" in step_problems(command("a", timeout="0s"))["spec.steps[0].timeout"]


# ---------------------------------------------------------------- waits, signals, approvals
@pytest.mark.parametrize(
    ("step", "path", "words"),
    [
        ({"wait": {}}, ".wait", "exactly one of for and until"),
        ({"wait": {"for": "1s", "until": "2026-12-01T06:00:00Z"}}, ".wait", "exactly one"),
        ({"wait": {"for": "soon"}}, ".wait.for", "no duration"),
        ({"wait": {"until": "2026-12-01T06:00:00"}}, ".wait.until", "no point in time | write for example"),
        ({"wait": {"until": "2026-12-01"}}, ".wait.until", "no point in time"),
        ({"wait": {"until": 5}}, ".wait.until", "is no text"),
        ({"wait": {"for": "1s"}, "retry": {"attempts": 2}}, ".retry", "means nothing for a wait"),
        ({"signal": {"name": "No Name"}}, ".signal.name", "is no name"),
        ({"signal": {"on_silence": "fail"}}, ".signal.deadline", "silence for how long?"),
        ({"signal": {"deadline": "1h", "on_silence": "approve"}}, ".signal.on_silence", "fail, succeed"),
        ({"signal": {}, "timeout": "1h"}, ".timeout", "write signal: {deadline: 1h}"),
        ({"approval": {"by": "ann"}}, ".approval.by", "must be a list"),
        (
            {"approval": {"deadline": "1h", "on_silence": "rejct"}},
            ".approval.on_silence",
            "did you mean reject?",
        ),
    ],
)
def test_a_wait_is_checked_like_everything_else(step: dict[str, Any], path: str, words: str) -> None:
    """Each mistake has its place and its way out."""
    assert words in step_problems({"name": "a", **step})[f"spec.steps[0]{path}"]


def test_waits_signals_and_approvals_may_say_little() -> None:
    """Everything but the length of a wait has a meaning when it is left out."""
    steps = [{"name": "a", "wait": {"for": "1s"}}, {"name": "b", "signal": {}}, {"name": "c", "approval": {}}]
    assert found(pipeline(*steps)) == {}


# ---------------------------------------------------------------- conditions, switches, finally
WHEN = "${{ inputs.day == 'monday' }}"


@pytest.mark.parametrize(
    ("step", "path", "words"),
    [
        ({**command("a"), "when": "inputs.day"}, ".when", 'always the same | write one expression: "${{ … }}"'),
        ({**command("a"), "when": True}, ".when", "is no text"),
        ({"name": "a", "switch": {}}, ".switch.cases", "must be a list"),
        ({"name": "a", "switch": {"cases": []}}, ".switch.cases", "at least one case"),
        ({"name": "a", "switch": {"cases": [{"when": WHEN}]}}, ".switch.cases[0].then", "is missing"),
        ({"name": "a", "switch": {"cases": [{"then": []}]}}, ".switch.cases[0].when", "is missing"),
        ({"name": "a", "switch": {"cases": [{"when": WHEN, "then": ["c"]}]}}, ".switch.cases[0].then[0]", "no step is named"),
        ({"name": "a", "switch": {"cases": [{"when": WHEN, "then": ["b"]}]}}, ".switch.cases[0].then[0]", "add a to the after list of b"),
        ({"name": "a", "switch": {"cases": [{"when": WHEN, "then": "b"}]}}, ".switch.cases[0].then", "write [b]"),
        ({"name": "a", "switch": {"cases": [], "default": "b"}}, ".switch.default", "write [b]"),
        ({"name": "a", "switch": {"cases": [], "default": ["b"]}}, ".switch.default[0]", "does not come after a"),
        ({"name": "a", "switch": {"cases": []}, "retry": {"attempts": 2}}, ".retry", "means nothing for a switch"),
    ],
)  # fmt: skip
def test_conditions_and_switches_are_checked(step: dict[str, Any], path: str, words: str) -> None:
    """A switch chooses among the steps after it, by expressions."""
    problems = found(pipeline(step, command("b")))
    assert words in problems[f"spec.steps[0]{path}"]


def with_last(steps: Any) -> dict[str, Any]:
    """Return a file with these steps under finally."""
    document = pipeline(command("a"))
    document["spec"]["finally"] = steps
    return document


def test_steps_of_finally_are_steps() -> None:
    """With names of their own, among themselves."""
    assert found(with_last([command("b"), command("c", "b")])) == {}
    told = found(with_last([command("a"), command("c", "a", "x")]))
    assert "names two steps" in told["spec.finally[0].name"]
    assert "no step is named 'x'" in told["spec.finally[1].after[1]"]
    assert "must be a list" in found(with_last("b"))["spec.finally"]


MAP: dict[str, Any] = {"over": "${{ inputs.list }}", "command": {"argv": ["true"]}}


@pytest.mark.parametrize(
    ("block", "path", "words"),
    [
        ({**MAP, "over": "inputs.list"}, ".over", "write one expression"),
        ({**MAP, "over": list(range(10_001))}, ".over", "more than 10000"),
        ({**MAP, "max_parallel": 0}, ".max_parallel", "from 1 to 1000"),
        ({**MAP, "tolerated_failures": "110%"}, ".tolerated_failures", 'or "5%"'),
        ({**MAP, "tolerated_failures": -1}, ".tolerated_failures", "whole number"),
        ({"over": [1]}, ".command", "is missing"),
        ({**MAP, "parallel": 3}, ".parallel", "did you mean max_parallel?"),
    ],
)
def test_a_map_is_checked(block: dict[str, Any], path: str, words: str) -> None:
    """What is done for each item is checked as a command."""
    assert words in step_problems({"name": "a", "map": block})[f"spec.steps[0].map{path}"]
