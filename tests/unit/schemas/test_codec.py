"""The codec: Confluent framing, the same bytes as fastavro's, and a clear failure for anything else."""

import io
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import compiled
from schemas.catalogue import Catalogue
from schemas.codec import Codec, header
from schemas.errors import Undecodable, Unencodable, UnknownSchema
from schemas.parsing import Schema, parse
from schemas.registry import MemoryRegistry
from tests.unit.schemas.avro_strategies import schemas_with_records

CLAIMED = Catalogue.load().schema("flexcore.run.StepClaimed")
COUNTED = parse(
    {
        "type": "record",
        "name": "flexcore.counter.Counted",
        "fields": [
            {"name": "by", "type": "long"},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "tags", "type": {"type": "map", "values": "long"}, "default": {}},
        ],
    }
)


def general(schema: Schema, record: Any) -> bytes:
    stream = io.BytesIO()
    schemaless_writer(stream, schema, record)
    return stream.getvalue()


class Counting(MemoryRegistry):
    """A registry that counts the questions."""

    asked = 0

    def schema(self, schema_id: int) -> Schema:
        self.asked += 1
        return super().schema(schema_id)


@settings(deadline=None)
@given(schemas_with_records())
def test_compiled_and_general_codec_agree_on_every_byte(case: tuple[Any, Any]) -> None:
    """Whatever the schema and the record: one encodes what the other decodes, and the bytes are equal."""
    schema, record = parse(case[0]), case[1]
    encode, decode = compiled.encoder(schema, header(7)), compiled.decoder(schema, 5)
    assert encode is not None
    assert decode is not None
    data = encode(record)
    assert data == header(7) + general(schema, record)
    assert decode(data) == record == schemaless_reader(io.BytesIO(data[5:]), schema, None)


@settings(deadline=None)
@given(schemas_with_records(), st.data())
def test_damaged_bytes_decode_to_a_record_or_are_undecodable(
    case: tuple[Any, Any], data: st.DataObject
) -> None:
    """Cut, flipped or prolonged bytes never raise anything else, and never hang."""
    registry = MemoryRegistry()
    codec = Codec(registry)
    good = codec.encoder("s", case[0])(case[1])
    body = bytearray(good[5:])
    for _ in range(data.draw(st.integers(1, 3))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    damaged = (
        good[:5] + bytes(body[: data.draw(st.integers(0, len(body)))]) + data.draw(st.binary(max_size=2))
    )
    try:
        _name, record = codec.decode(damaged)
    except Undecodable:
        return
    assert isinstance(record, dict)


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_random_bytes_never_pass_for_an_event(noise: bytes) -> None:
    """What no writer wrote is Undecodable or UnknownSchema, and nothing else."""
    codec = Codec(MemoryRegistry())
    codec.encoder("s", CLAIMED)
    for value in (noise, header(1) + noise):
        with pytest.raises((Undecodable, UnknownSchema)):
            codec.decode(value)


def test_bytes_begin_with_zero_and_the_id() -> None:
    """Confluent's framing, so that every client of a registry can read them."""
    codec = Codec(MemoryRegistry())
    codec.encoder("other", {"type": "record", "name": "O", "fields": []})
    data = codec.encoder("counter", COUNTED)({"by": 2, "note": None, "tags": {}})
    assert data == b"\x00\x00\x00\x00\x02" + b"\x04\x00\x00"
    assert header(0x01020304) == b"\x00\x01\x02\x03\x04"


def test_a_missing_field_takes_its_default() -> None:
    """A command may leave out what its schema has an answer for."""
    codec = Codec(MemoryRegistry())
    data = codec.encoder("counter", COUNTED)({"by": 2})
    assert codec.decode(data) == ("flexcore.counter.Counted", {"by": 2, "note": None, "tags": {}})


@pytest.mark.parametrize(
    "record",
    [
        {"note": None, "tags": {}},
        {"by": "two", "note": None, "tags": {}},
        {"by": 1.0, "note": None, "tags": {}},
        {"by": None, "note": None, "tags": {}},
        {"by": 1 << 63, "note": None, "tags": {}},
        {"by": 1, "note": 5, "tags": {}},
        {"by": 1, "note": None, "tags": None},
        {"by": 1, "note": None, "tags": {"a": "b"}},
        {"by": 1, "note": "\ud800", "tags": {}},
        None,
    ],
)
def test_a_record_that_does_not_fit_is_unencodable(record: Any) -> None:
    """Nothing of a wrong type gets onto a topic; the message names the record's type."""
    encode = Codec(MemoryRegistry()).encoder("counter", COUNTED)
    with pytest.raises(Unencodable, match=r"flexcore\.counter\.Counted"):
        encode(record)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01\x04\x00\x00", b'{"by": 2}',
        header(1), header(1) + b"\x04", header(1) + b"\x04\x00\x00\x00", header(1) + b"\x04\x04\x00",
        header(1) + b"\x04\x02\x05ab\x00", header(1) + b"\x04\x02\x02\xff\x00", header(1) + b"\xff" * 10 + b"\x01\x00\x00",
        header(1) + b"\x04\x02\xfe\xff\xff\xff\x0fx", header(1) + b"\x04\x00\xfe\xff\xff\xff\xff\xff\x03",
    ],
)  # fmt: skip
def test_bytes_that_are_no_record_are_undecodable(data: bytes) -> None:
    """No framing, cut off, left over, a branch too many, a negative or endless length, not UTF-8."""
    codec = Codec(MemoryRegistry())
    codec.encoder("counter", COUNTED)
    with pytest.raises(Undecodable):
        codec.decode(data)


def test_a_flood_of_unknown_ids_asks_the_registry_once() -> None:
    """Poison must not turn into load on the registry."""
    registry = Counting()
    codec = Codec(registry)
    for _ in range(50):
        with pytest.raises(UnknownSchema, match="99"):
            codec.decode(header(99) + b"abc")
    assert registry.asked == 1


def test_a_known_id_is_asked_for_once() -> None:
    """Ids never change their schema: one question for the life of the process."""
    registry = Counting()
    data = Codec(registry).encoder("counter", COUNTED)({"by": 2})
    reader = Codec(registry)
    for _ in range(50):
        reader.decode(data)
    assert registry.asked == 1


def test_an_encoder_registers_its_schema_once() -> None:
    """Asking for the same encoder again is a lookup."""
    codec = Codec(MemoryRegistry())
    assert codec.encoder("counter", COUNTED) is codec.encoder("counter", COUNTED)


def changed(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "flexcore.counter.Counted", "fields": list(fields)}


def test_an_old_record_is_read_as_the_readers_schema() -> None:
    """A field added since takes its default; one that is gone is dropped."""
    registry = MemoryRegistry()
    data = Codec(registry).encoder("counter", COUNTED)({"by": 2, "note": "x"})
    today = changed({"name": "by", "type": "long"}, {"name": "unit", "type": "string", "default": "piece"})
    assert Codec(registry).decode(data, parse(today))[1] == {"by": 2, "unit": "piece"}
    codec = Codec(registry)
    for _ in range(2):
        assert codec.decode(data, today)[1] == {"by": 2, "unit": "piece"}


def test_with_a_catalogue_every_record_is_read_as_todays_schema() -> None:
    """One path for all readers: versions end at the codec. A name the catalogue lacks is read as written."""
    registry = MemoryRegistry()
    today = changed({"name": "by", "type": "long"}, {"name": "unit", "type": "string", "default": "piece"})
    catalogue = Catalogue({"flexcore.counter.Counted": today}, {})
    writer = Codec(registry)
    codec = Codec(registry, catalogue)
    assert codec.decode(writer.encoder("counter", COUNTED)({"by": 2}))[1] == {"by": 2, "unit": "piece"}
    stranger = {
        "type": "record",
        "name": "flexcore.counter.Stranger",
        "fields": [{"name": "x", "type": "int"}],
    }
    assert codec.decode(writer.encoder("s", stranger)({"x": 1})) == ("flexcore.counter.Stranger", {"x": 1})


def test_other_words_in_a_schema_cost_no_resolution() -> None:
    """A documentation change is a new version for the registry and the same bytes for the codec."""
    registry = MemoryRegistry()
    worded: Any = {
        **changed({"name": "by", "type": "long", "doc": "pieces"}),
        "doc": "Something was counted.",
    }
    data = Codec(registry).encoder("counter", worded)({"by": 2})
    codec = Codec(
        registry, Catalogue({"flexcore.counter.Counted": changed({"name": "by", "type": "long"})}, {})
    )
    assert codec.decode(data)[1] == {"by": 2}
    assert codec._decoders[data[:5]][1].__code__.co_filename == "<avro>"


def test_a_schema_that_the_reader_cannot_resolve_is_undecodable() -> None:
    """Somebody registered another record under our name: poison, not a crash."""
    registry = MemoryRegistry()
    data = Codec(registry).encoder("counter", changed({"name": "by", "type": "string"}))({"by": "two"})
    with pytest.raises(Undecodable):
        Codec(registry).decode(data, COUNTED)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (["null", "N"], "contains itself"),
        ({"type": "array", "items": "null"}, "no bytes"),
        ({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}, "no bytes"),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, "no bytes"),
    ],
)
def test_data_without_a_bound_is_refused(field: Any, reason: str) -> None:
    """A few bytes could nest or repeat for ever and take the node with them."""
    registry = MemoryRegistry()
    registry.register("s", {"type": "record", "name": "N", "fields": [{"name": "x", "type": field}]})
    codec = Codec(registry)
    for _ in range(2):
        with pytest.raises(Undecodable, match=reason):
            codec.decode(header(1) + b"\xfe\xff\xff\xff\xff\xff\x03")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (["null", "long", "string"], "x"),
        (["string", "null"], None),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B"),
        ({"type": "fixed", "name": "F", "size": 2}, b"ab"),
        ({"type": "array", "items": {"type": "enum", "name": "E", "symbols": ["A", "B"]}}, ["A"]),
        ("null", None),
    ],
)
def test_schemas_that_are_not_compiled_go_the_general_way(kind: Any, value: Any) -> None:
    """Any Avro schema works, some are slower."""
    codec = Codec(MemoryRegistry())
    schema = {"type": "record", "name": "G", "fields": [{"name": "x", "type": kind}]}
    assert compiled.encoder(parse(schema), header(1)) is None
    data = codec.encoder("s", schema)({"x": value})
    assert codec.decode(data) == ("G", {"x": value})
    with pytest.raises(Undecodable):
        codec.decode(data + b"\x00")
    with pytest.raises(Unencodable):
        codec.encoder("s", schema)({"x": object()})


def test_a_type_mentioned_twice_is_compiled() -> None:
    """A mention is as good as its definition."""
    part = {"type": "record", "name": "P", "fields": [{"name": "n", "type": "int"}]}
    schema = parse(
        {
            "type": "record",
            "name": "W",
            "fields": [{"name": "a", "type": part}, {"name": "b", "type": ["null", "P"]}],
        }
    )
    encode, decode = compiled.encoder(schema, b""), compiled.decoder(schema, 0)
    assert encode is not None
    assert decode is not None
    record = {"a": {"n": 1}, "b": {"n": -1}}
    assert encode(record) == general(schema, record) == b"\x02\x02\x01"
    assert decode(b"\x02\x02\x01") == record


def test_blocks_with_sizes_are_read() -> None:
    """Other languages may write arrays in blocks that announce their size in bytes."""
    schema = parse(
        {"type": "record", "name": "A", "fields": [{"name": "x", "type": {"type": "array", "items": "long"}}]}
    )
    decode = compiled.decoder(schema, 0)
    assert decode is not None
    assert decode(b"\x03\x04\x02\x04\x02\x06\x00") == {"x": [1, 2, 3]}
