"""Avro's rules of schema resolution, one by one, and against fastavro with random evolutions."""

import io
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import assume, given, settings

from schemas.compatibility import Mode, breaks, broken, check
from schemas.errors import Incompatible
from schemas.parsing import parse
from tests.unit.schemas.avro_strategies import evolutions


def is_field(part: Any) -> bool:
    return isinstance(part, dict) and "name" in part and part["type"] not in ("record", "enum", "fixed")


def record(*fields: Any, name: str = "a.R", **more: Any) -> dict[str, Any]:
    shaped = [field if is_field(field) else {"name": "x", "type": field} for field in fields]
    return {"type": "record", "name": name, "fields": shaped, **more}


def optional(kind: str) -> dict[str, Any]:
    return {"name": "y", "type": ["null", kind], "default": None}


ENUM = {"type": "enum", "name": "a.E", "symbols": ["A", "B"]}
MORE = {"type": "enum", "name": "a.E", "symbols": ["A", "B", "C"]}
FIXED = {"type": "fixed", "name": "a.F", "size": 4}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
LIST: dict[str, Any] = record("int", {"name": "next", "type": ["null", "a.R"]})
WIDENED = {"int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"},
           "string": {"bytes"}, "bytes": {"string"}}  # fmt: skip


@pytest.mark.parametrize("writer", ["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
@pytest.mark.parametrize("reader", ["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
def test_primitives_can_be_read_as_wider_ones_only(reader: str, writer: str) -> None:
    """The specification's table of promotions, all 64 cells of it."""
    readable = reader == writer or reader in WIDENED.get(writer, ())
    assert (breaks(record(reader), record(writer)) == ()) is readable


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (record(), record("int")),
        (record({"name": "x", "type": "int", "default": 1}), record()),
        (record({"name": "z", "aliases": ["x"], "type": "int"}), record("int")),
        (record(name="a.S", aliases=["R"]), record()),
        (record(name="b.S", aliases=["a.R"]), record()),
        (record(["null", "int"]), record("int")),
        (record(["string", "long"]), record(["int", "string"])),
        (record("long"), record(["int", "long"])),
        (record({"type": "array", "items": "long"}), record({"type": "array", "items": "int"})),
        (record({"type": "map", "values": "long"}), record({"type": "map", "values": "int"})),
        (record(MORE), record(ENUM)),
        (record({**ENUM, "default": "A"}), record(MORE)),
        (record(FIXED), record(FIXED)),
        (record(DECIMAL), record(DECIMAL)),
        (record({"type": "long", "logicalType": "timestamp-millis"}), record("long")),
        (LIST, LIST),
        ({**LIST, "fields": [*LIST["fields"], optional("int")]}, LIST),
    ],
)
def test_a_change_the_specification_allows_breaks_nothing(reader: Any, writer: Any) -> None:
    """Dropped fields, defaults, aliases, unions, promotions, symbols, recursion."""
    assert breaks(reader, writer) == ()


@pytest.mark.parametrize(
    ("reader", "writer", "path", "fix"),
    [
        (record("int"), record(), "a.R.x", "give it a default"),
        (record("int"), record("long"), "a.R.x", "keep long"),
        (record("int"), record(["null", "int"]), "a.R.x", "keep null"),
        (record(["null", "int"]), record("string"), "a.R.x", "keep string in the union"),
        (record(name="a.S"), record(), "a.S", "add the alias a.R"),
        (record(name="b.R"), record(), "b.R", "add the alias a.R"),
        (record(ENUM), record(MORE), "a.R.x", "keep them, or give the enum a default"),
        (record({**FIXED, "size": 8}), record(FIXED), "a.R.x", "keep the size"),
        (record({**DECIMAL, "scale": 3}), record(DECIMAL), "a.R.x", "keep precision and scale"),
        (record({"type": "array", "items": "int"}), record({"type": "array", "items": "long"}), "a.R.x.items", "keep long"),
        (record({"type": "map", "values": "int"}), record({"type": "map", "values": "long"}), "a.R.x.values", "keep long"),
        (record({"type": "map", "values": "int"}), record({"type": "array", "items": "int"}), "a.R.x", "keep array"),
        (record(record("int", name="a.I")), record(record(name="a.I")), "a.R.x.x", "give it a default"),
        ({**LIST, "fields": [*LIST["fields"], {"name": "y", "type": "int"}]}, LIST, "a.R.y", "give it a default"),
    ],
)  # fmt: skip
def test_a_break_names_the_path_and_the_fix(reader: Any, writer: Any, path: str, fix: str) -> None:
    """Whoever broke it can mend it from the message alone."""
    (found,) = breaks(reader, writer)
    assert (found.path, fix in found.fix) == (path, True), str(found)


@settings(deadline=None)
@given(evolutions())
def test_what_is_called_readable_fastavro_can_read(case: tuple[Any, Any, Any]) -> None:
    """No false promise: when nothing is said to break, the old record is read as the new schema."""
    writer, value, reader = parse(case[0]), case[1], parse(case[2])
    assume(breaks(reader, writer) == ())
    stream = io.BytesIO()
    schemaless_writer(stream, writer, value)
    try:
        read: Any = schemaless_reader(io.BytesIO(stream.getvalue()), writer, reader)
    except UnicodeDecodeError:
        return  # bytes read as a string: allowed by the specification, not by every value
    assert set(read) == {field["name"] for field in reader["fields"]}


V1 = record("int")
V2 = record("int", optional("int"))
ADDED = record("int", {"name": "z", "type": "int"})
DROPPED = record()


@pytest.mark.parametrize(
    ("mode", "new", "earlier", "allowed"),
    [
        (Mode.NONE, record("string"), [V1], True),
        (Mode.BACKWARD, V2, [V1], True),
        (Mode.BACKWARD, DROPPED, [V1], True),
        (Mode.BACKWARD, ADDED, [V1], False),
        (Mode.FORWARD, ADDED, [V1], True),
        (Mode.FORWARD, DROPPED, [V1], False),
        (Mode.FULL, V2, [V1], True),
        (Mode.FULL, DROPPED, [V1], False),
        (Mode.FULL, ADDED, [V1], False),
        (Mode.BACKWARD, record("int"), [record("string"), V1], True),
        (Mode.BACKWARD_TRANSITIVE, record("int"), [record("string"), V1], False),
        (Mode.FORWARD, record("int"), [record("string"), V1], True),
        (Mode.FORWARD_TRANSITIVE, record("int"), [record("string"), V1], False),
        (Mode.FULL, record("int"), [record("string"), V1], True),
        (Mode.FULL_TRANSITIVE, record("int"), [record("string"), V1], False),
        (Mode.FULL_TRANSITIVE, V2, [], True),
    ],
)  # fmt: skip
def test_each_mode_forbids_what_it_says(mode: Mode, new: Any, earlier: list[Any], allowed: bool) -> None:
    """Backward: the new reads the old; forward: the old reads the new; transitive: all the old."""
    assert (broken(new, earlier, mode) == ()) is allowed


def test_a_refusal_names_subject_mode_path_and_fix() -> None:
    """One sentence has it all."""
    with pytest.raises(Incompatible, match=r"BACKWARD compatibility of things: a\.R\.z: .*give it a default"):
        check("things", ADDED, [V1], Mode.BACKWARD)
