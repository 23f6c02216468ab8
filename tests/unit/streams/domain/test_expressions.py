"""Expressions in pipeline files: where they may stand, what they may name, what they become."""

import json
from typing import Any

import pytest

from streams.cron import mistake
from streams.domain.definition import problems
from streams.domain.expressions import Named, Wrong, evaluate, fill, named, parse
from streams.domain.run.events import StepOffered
from streams.expressions import LANGUAGE
from tests.support.pipeline_files import command, pipeline
from tests.support.run_spec import created

NAMES: dict[str, Any] = {
    "inputs": {
        "day": "2026-11-24",
        "n": 3,
        "list": [1, 2, 3],
        "secret": "${env:CRM_URL}",
        "nothing": None,
    },
    "steps": {"a-b": {"outputs": {"rows": 7}, "status": "succeeded"}},
    "run": {"id": "r1"},
    "slot": "2026-11-24T06:00:00Z",
}


def filled(value: Any, *as_text: str) -> Any:
    """Return a setting with its expressions evaluated over NAMES."""
    return fill(LANGUAGE, "kind", {"x": value}, lambda _used: NAMES, as_text)["x"]


def found(step: dict[str, Any], *others: dict[str, Any]) -> dict[str, str]:
    """Return the problems of a file with this step after the others, by place."""
    document = pipeline(*others, {**step, "after": [other["name"] for other in others]})
    return {
        problem.path: f"{problem.message} | {problem.fix}"
        for problem in problems(document, mistake, LANGUAGE)
    }


# ---------------------------------------------------------------- what they become
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain ${env:X} text", "plain ${env:X} text"),
        ("${{ inputs.n }}", 3),
        (
            "day ${{ inputs.day }}, ${{ inputs.n + 1 }} of ${{ inputs.list }}",
            "day 2026-11-24, 4 of [1, 2, 3]",
        ),
        ("${{ steps.a-b.outputs.rows > 5 }}", True),
        ("${{ steps.a-b.outputs.rows - 1 }}", 6),
        ("${{ {'a': {'b': inputs.list.map(x, x * 2)}} }}", {"a": {"b": [2, 4, 6]}}),
        ("${{ '}}' + \"steps.a-b.outputs\" }}", "}}steps.a-b.outputs"),
        ("${{ timestamp(slot) - duration('24h') }}", "2026-11-23T06:00:00Z"),
        ("until ${{ duration('90s') }}", "until 1m30s"),
        ("${{ has(inputs.other) ? inputs.other : null }}", None),
    ],
)
def test_an_expression_becomes_its_value(text: str, value: Any) -> None:
    """Of whatever type, when it is all of the text; text in a longer one."""
    assert filled({"deep": [text]}) == {"deep": [value]}


def test_where_only_text_will_do_values_become_text() -> None:
    """Arguments and environment of a program."""
    assert filled(["${{ inputs.n }}", "${{ inputs.list }}", "${{ true }}"], "x") == ["3", "[1, 2, 3]", "true"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${{ inputs.missing }}", "missing"),
        ("${{ inputs.day + 1 }}", "No matching overloads"),
        ("${{ 1 / 0 }}", "divide by zero"),
        ("a ${{ inputs.nothing }}", "null, which is no text"),
        ("${{ {1: 2} }}", "keys of a map must be text"),
        ("${{ b'x' }}", "nothing that JSON knows"),
        ("${{ 0.0 / 0.0 }}", "nan is no number"),
        ("a ${{ '\\x00' + inputs.day }}", "character 0"),
        ("${{ inputs.secret }}", "reference to a secret"),
        ("${{ [inputs.secret] }}", "reference to a secret"),
        ("${{ '$' }}{env:CRM_URL}", "reference to a secret"),
        ("$${{ '{env:CRM_URL}' }}", "reference to a secret"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_place(text: str, words: str) -> None:
    """Above all a secret that whoever starts the run would like to see."""
    with pytest.raises(Wrong, match=r"kind\.x\.deep") as refused:
        filled({"deep": text})
    assert words in str(refused.value)


def test_a_secret_written_in_the_file_stays_beside_a_value() -> None:
    """The reference is resolved where the step runs."""
    assert filled("${env:URL}/${{ inputs.day }}") == "${env:URL}/2026-11-24"


# ---------------------------------------------------------------- what they cost
def test_an_expression_has_a_budget() -> None:
    """Loops, sizes and results are bounded, whatever the input is."""
    many = {"inputs": {"list": list(range(300)), "text": "x" * 60_000}}
    few = {"inputs": {"list": list(range(300))}}
    with pytest.raises(ValueError, match="Iteration budget exceeded"):
        evaluate(LANGUAGE, "inputs.list.map(x, inputs.list.map(y, x + y))", lambda _used: few)
    for expression, words in [
        ("inputs.list.map(x, inputs.list.map(y, inputs.text))", "too much for one expression"),
        ("inputs.text + inputs.text", "120002 characters"),
    ]:
        with pytest.raises(ValueError, match=words):
            evaluate(LANGUAGE, expression, lambda _used: many)
    assert evaluate(LANGUAGE, "inputs.list.filter(x, x > 297)", lambda _used: many) == [298, 299]


# ---------------------------------------------------------------- what they name
def test_the_steps_and_facts_that_are_named_are_found() -> None:
    """Not in literals, and not as somebody's field."""
    text = "steps.a-b.outputs.n-1 + inputs.steps.c + run.id + 'steps.d.outputs' + steps['e']"
    assert named(text) == Named((("a-b", "outputs"), ("", "")), ("id",), inputs=True)


def test_text_and_expressions_come_by_turns() -> None:
    """One that has no end is a mistake."""
    assert parse("a${{ 1 }}b${{ '}}' }}") == ("a", "1", "b", "'}}'", "")
    with pytest.raises(ValueError, match="has no end"):
        parse("a ${{ {1 }}")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("${{ inputs.n + }}", "is no expression: Syntax error"),
        ("${{ input.n }}", "'input' is not known | did you mean inputs?"),
        ("${{ sise(inputs.n) }}", "did you mean size?"),
        ("${{ steps.frst.outputs.n }}", "no step is named 'frst' | did you mean first?"),
        ("${{ steps.aside.outputs.n }}", "add aside to the after list of last"),
        ("${{ steps.first.output }}", "did you mean outputs?"),
        ("${{ steps['first'].outputs }}", "write steps.<name>.outputs"),
        ("${{ run.pipelin }}", "did you mean pipeline?"),
        ("${{ }}", "is empty"),
        ("${{ inputs.n", "has no end"),
        ("${{ '\ud800' }}", "no Unicode text"),
        ("${{ '" + "x" * 1_000 + "' }}", "more than 1000"),
    ],
)
def test_mistakes_are_found_before_anything_runs(argument: str, words: str) -> None:
    """Each with its place, and the name that was probably meant."""
    first, aside = command("first"), command("aside")
    last = {"name": "last", "after": ["first"], "command": {"argv": ["echo", argument]}}
    document = pipeline(first, aside, last)
    told = {p.path: f"{p.message} | {p.fix}" for p in problems(document, mistake, LANGUAGE)}
    assert list(told) == ["spec.steps[2].command.argv[1]"]
    assert words in told["spec.steps[2].command.argv[1]"]


def test_a_step_two_places_before_may_be_named() -> None:
    """Its result is there."""
    last = {"name": "c", "command": {"argv": ["echo", "${{ steps.a.outputs.n }}"]}, "after": ["b"]}
    assert problems(pipeline(command("a"), command("b", "a"), last), mistake, LANGUAGE) == []


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ({"command": {"argv": ["${{ inputs.program }}"]}}, ".command.argv[0]"),
        ({"extract": {"tap": "${{ inputs.tap }}"}}, ".extract.tap"),
        ({"approval": {"by": ["${{ inputs.boss }}"]}}, ".approval.by[0]"),
    ],
)
def test_what_runs_and_who_decides_is_not_for_the_starter_to_say(step: dict[str, Any], place: str) -> None:
    """A definition is pinned; so is the program it starts."""
    assert "not evaluated here" in found({"name": "a", **step})[f"spec.steps[0]{place}"]


# ---------------------------------------------------------------- in a run
def test_an_offer_carries_the_values_and_the_event_keeps_them() -> None:
    """Whoever reads the log later sees what really ran, whatever the language has become."""
    step = {
        "name": "b",
        "after": ["a"],
        "command": {"argv": ["echo", "${{ steps.a.outputs.n }}"], "env": {"D": "${{ inputs.day }}"}},
    }
    told = created(command("a"), step, more={"input": '{"day":"monday"}'})
    told.claim("a")
    offered = told.complete("a", '{"n":7}')[-1]
    assert isinstance(offered, StepOffered)
    assert offered.settings == '{"argv":["echo","7"],"env":{"D":"monday"}}'
    assert told.offers()[-1]["spec"] == {"argv": ["echo", "7"], "env": {"D": "monday"}}
    assert told.offers()[0]["spec"] == {"argv": ["true"]}


def test_a_value_that_cannot_be_had_fails_the_step_and_says_where() -> None:
    """Nothing is offered; what comes after it is skipped."""
    step = {"name": "b", "after": ["a"], "command": {"argv": ["echo", "${{ steps.a.outputs.n }}"]}}
    told = created(command("a"), step, command("c", "b")).run("a")
    assert told.statuses() == {"a": "succeeded", "b": "failed", "c": "skipped"}
    assert told.state.error is not None
    assert "step b failed: command.argv[1]: " in told.state.error
    assert "n" in told.state.error


def test_a_wait_may_be_as_long_as_somebody_says() -> None:
    """Until the slot's end, say; what is no time fails the step."""
    told = created({"name": "a", "wait": {"for": "${{ inputs.pause }}"}}, more={"input": '{"pause":"5s"}'})
    assert told.step("a").until == 5_000
    late = {"name": "a", "wait": {"until": "${{ timestamp(slot) + duration('1h') }}"}}
    assert created(late, more={"slot": 60_000}).step("a").until == 3_660_000
    for wrong in ("5", '"soon"'):
        told = created(
            {"name": "a", "wait": {"for": "${{ inputs.pause }}"}}, more={"input": f'{{"pause":{wrong}}}'}
        )
        assert (told.step("a").status, "wait" in (told.step("a").error or "")) == ("failed", True)


def test_items_are_named_in_a_map_only() -> None:
    """Elsewhere there are none; a variable of a loop may have any name."""
    told = found({"name": "a", "command": {"argv": ["echo", "${{ item.n }}"]}})
    assert "in the command of a map step" in told["spec.steps[0].command.argv[1]"]
    block = {
        "over": "${{ inputs.list.filter(item, item > 1) }}",
        "command": {"argv": ["echo", "${{ item + index }}"]},
    }
    assert found({"name": "a", "map": block}) == {}


def test_a_slot_that_no_calendar_has_fails_the_step_and_not_the_worker() -> None:
    """Anybody may send the command that creates a run."""
    told = created({"name": "a", "command": {"argv": ["echo", "${{ slot }}"]}}, more={"slot": 10**18})
    assert "no point in time" in (told.state.error or "")


def test_what_the_language_cannot_hold_is_named() -> None:
    """Wherever it stands in the input."""
    deep = {"deep": json.loads("[" * 800 + "]" * 800)}
    with pytest.raises(ValueError, match="nested too deep"):
        evaluate(LANGUAGE, "inputs.deep", lambda _used: {"inputs": deep})
    with pytest.raises(ValueError, match=r"out of range for 'inputs\['big'\]"):
        evaluate(LANGUAGE, "inputs.day", lambda _used: {"inputs": {"day": 1, "big": 10**30}})
