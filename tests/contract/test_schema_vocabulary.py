"""The .avsc files and the dataclasses of the domain say the same: names, fields, order, types, defaults."""

import dataclasses
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

import pytest

from streams.aggregates import builtin
from streams.domain.aggregate import Aggregate
from streams.translation import fullname
from tests.contract.schema_releases import catalogue

COMMON = ("RedactEvent", "EventRedacted")
_PRIMITIVE = {str: "string", int: "long", bool: "boolean", float: "double"}


def avro_type(kind: Any) -> Any:
    """The Avro type that stands for a Python type."""
    if kind in _PRIMITIVE:
        return _PRIMITIVE[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union) and type(None) in parts and len(parts) == 2:
        return ["null", avro_type(next(part for part in parts if part is not type(None)))]
    if origin is dict and parts[0] is str:
        return {"type": "map", "values": avro_type(parts[1])}
    if origin is list or (origin is tuple and parts[1:] == (...,)):
        return {"type": "array", "items": avro_type(parts[0])}
    raise AssertionError(f"no Avro type stands for {kind}")


def avro_fields(kind: Any) -> list[dict[str, Any]]:
    """The fields that the record of a dataclass must have."""
    hints, fields = typing.get_type_hints(kind), []
    for field in dataclasses.fields(kind):
        expected: dict[str, Any] = {"name": field.name, "type": avro_type(hints[field.name])}
        if isinstance(expected["type"], list):
            expected["default"] = None
        elif field.default is not dataclasses.MISSING:
            default = field.default
            expected["default"] = list(default) if isinstance(default, tuple) else default
        elif field.default_factory is not dataclasses.MISSING:
            expected["default"] = field.default_factory()
        fields.append(expected)
    return fields


def spoken(aggregate: Aggregate) -> tuple[tuple[type, ...], tuple[type, ...]]:
    """Commands (the clock's included) and events of an aggregate."""
    tick = (
        (aggregate.tick,) if aggregate.tick is not None and aggregate.tick not in aggregate.commands else ()
    )
    return (*aggregate.commands, *tick), aggregate.events


def committed_fields(name: str) -> list[dict[str, Any]]:
    """The fields of the committed schema, without words for people."""
    fields = catalogue().schema(name)["fields"]
    return [{key: field[key] for key in ("name", "type", "default") if key in field} for field in fields]


CASES = [
    pytest.param(aggregate.name, kind, kind in spoken(aggregate)[1], id=f"{aggregate.name}.{kind.__name__}")
    for aggregate in builtin()
    for kind in (*spoken(aggregate)[0], *spoken(aggregate)[1])
]


@pytest.mark.parametrize(("aggregate", "kind", "is_event"), CASES)
def test_a_dataclass_and_its_schema_are_the_same_record(aggregate: str, kind: type, is_event: bool) -> None:
    """An event's record begins with the envelope; the rest is the dataclass."""
    fields = committed_fields(fullname(aggregate, kind))
    if is_event:
        envelope = fields.pop(0)
        assert envelope["name"] == "envelope"
        assert envelope["type"]["name"] == "flexcore.common.Envelope"
    assert fields == avro_fields(kind)


def test_every_schema_belongs_to_somebody() -> None:
    """No file is left over from a record that nobody writes any more."""
    known = {fullname(a.name, kind) for a in builtin() for kinds in spoken(a) for kind in kinds}
    common = {f"flexcore.common.{name}" for name in ("AuditKey", "Checkpoint", "Envelope", "Outcome")}
    assert set(catalogue().names()) - known == common


def test_the_readme_names_every_record() -> None:
    """People who produce commands find all of them in schemas/README.md, and none that does not exist."""
    readme = (Path(__file__).parents[2] / "schemas" / "README.md").read_text(encoding="utf-8")
    assert all(f"`flexcore.common.{name}`" in readme for name in COMMON)
    for aggregate in builtin():
        (row,) = re.findall(rf"^\| {aggregate.name} \| (.*) \| (.*) \|$", readme, re.MULTILINE)
        named = tuple({*cell.split(", "), common} for cell, common in zip(row, COMMON, strict=True))
        assert named == tuple({kind.__name__ for kind in kinds} for kinds in spoken(aggregate)), (
            aggregate.name
        )


def test_what_takes_the_place_of_a_redacted_value_is_a_value_of_its_field() -> None:
    """Texts only: a text that is JSON stays JSON, so that whoever reads the event need not know."""
    marked = 0
    for name in catalogue().names():
        fields = {field["name"]: field for field in catalogue().schema(name)["fields"]}
        for field, mark in catalogue().redactable(name).items():
            marked += 1
            assert fields[field]["type"] in ("string", ["null", "string"]), (name, field)
            assert mark == "[redacted]" or json.loads(mark) in ({}, []), (name, field)
    assert marked > 20
