"""A committed schema stays readable for ever: what was written by any released version is read by today's."""

from typing import Any

import pytest

from schemas.compatibility import Mode, broken
from schemas.parsing import Schema, canonical, wordless
from tests.contract.schema_releases import FILE, catalogue, line_for, released


def broken_since_release(today: dict[str, Schema]) -> list[str]:
    """What today's schemas break of the released ones."""
    problems = []
    for name in sorted({release.name for release in released()}):
        earlier = [release.schema for release in released() if release.name == name]
        if name not in today:
            problems.append(f"{name} is gone, and records of it lie in topics: keep its .avsc")
            continue
        problems += [str(one) for one in broken(today[name], earlier, Mode.BACKWARD_TRANSITIVE)]
    return problems


def todays() -> dict[str, Schema]:
    return {name: catalogue().schema(name) for name in catalogue().names()}


def test_no_committed_schema_breaks_a_released_one() -> None:
    """Backward-transitive, as the registry demands at run time: found here before anybody deploys it."""
    assert broken_since_release(todays()) == []


def test_every_schema_is_released_as_it_is_today() -> None:
    """A changed schema gets a line of its own, or its bytes would be guarded by nothing."""
    known = {(release.name, canonical(release.schema)) for release in released()}
    today = {name: canonical(wordless(schema)) for name, schema in todays().items()}
    missing = [line_for(todays()[name]) for name, text in today.items() if (name, text) not in known]
    assert not missing, f"add to {FILE.name}:\n" + "\n".join(missing)


def without(schema: Any, field: str) -> Any:
    return {**schema, "fields": [one for one in schema["fields"] if one["name"] != field]}


def retyped(schema: Any, field: str, kind: Any) -> Any:
    return {
        **schema,
        "fields": [{**one, "type": kind} if one["name"] == field else one for one in schema["fields"]],
    }


def with_field(schema: Any, **field: Any) -> Any:
    return {**schema, "fields": [*schema["fields"], field]}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda schema: with_field(schema, name="host", type="string"),
            "flexcore.run.StepClaimed.host: records without",
        ),
        (
            lambda schema: retyped(schema, "attempt", "int"),
            "flexcore.run.StepClaimed.attempt: long cannot be read as int",
        ),
        (
            lambda schema: retyped(schema, "runner", ["null", "long"]),
            "flexcore.run.StepClaimed.runner: the union has no",
        ),
        (lambda schema: {**schema, "name": "flexcore.run.StepTaken"}, "flexcore.run.StepClaimed has become"),
        (
            lambda schema: retyped(
                schema, "envelope", with_field(schema["fields"][0]["type"], name="zone", type="long")
            ),
            "flexcore.run.StepClaimed.envelope.zone: records without",
        ),
    ],
)
def test_a_breaking_change_is_caught(change: Any, complaint: str) -> None:
    """The guard is proven to bite: a new field without default, another type, another name, deep inside too."""
    schemas = todays()
    schemas["flexcore.run.StepClaimed"] = change(schemas["flexcore.run.StepClaimed"])
    assert any(complaint in problem for problem in broken_since_release(schemas))


def test_a_schema_that_is_gone_is_caught() -> None:
    """Deleting a record's file makes its past unreadable."""
    schemas = todays()
    del schemas["flexcore.run.StepClaimed"]
    assert broken_since_release(schemas) == [
        "flexcore.run.StepClaimed is gone, and records of it lie in topics: keep its .avsc"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda schema: with_field(schema, name="host", type=["null", "string"], default=None),
        lambda schema: without(schema, "runner"),
        lambda schema: {**schema, "doc": "A runner has taken the step."},
    ],
)
def test_an_evolution_by_the_rules_passes(change: Any) -> None:
    """A field with a default, a field less, other words: none of these breaks a reader of today."""
    schemas = todays()
    schemas["flexcore.run.StepClaimed"] = change(schemas["flexcore.run.StepClaimed"])
    assert broken_since_release(schemas) == []
