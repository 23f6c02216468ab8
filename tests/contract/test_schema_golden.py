"""Bytes on topics never change their meaning: what each released schema wrote, byte for byte."""

from types import SimpleNamespace
from typing import Any

import pytest
from librt.strings import BytesWriter

from schemas.codec import Codec
from schemas.parsing import parse
from schemas.registry import MemoryRegistry
from tests.contract.schema_releases import Release, catalogue, released, sample


@pytest.mark.parametrize("release", released(), ids=lambda release: release.name)
def test_the_bytes_of_a_released_record_stay_as_they_are(release: Release) -> None:
    """The same record gives the same bytes, and they are read as today's schema says."""
    registry = MemoryRegistry()
    encode = Codec(registry).encoder("released", release.schema)
    assert encode(release.record).hex() == release.data.hex()
    name, record = Codec(registry, catalogue()).decode(release.data)
    assert name == release.name
    for field, value in release.record.items():
        assert record.get(field, value) == value


def test_an_outcome_is_these_bytes() -> None:
    """Spelt out once, for people who write a client: 0, id 1, then the fields in order, lengths and longs zigzag."""
    schema = catalogue().schema("flexcore.common.Outcome")
    record: dict[str, Any] = {
        "command_id": "c", "command_type": "StartRun", "tenant": "default", "aggregate": "pipeline",
        "aggregate_id": "p", "status": "accepted", "reason": None, "detail": None, "first_version": 1,
        "last_version": 2, "shard": 3, "sequence": 64, "position": 1042, "body_hash": "h", "actor": "a",
        "correlation_id": "r", "at": 1790000000000, "stored": True, "reply": '{"run":1}',
    }  # fmt: skip
    expected = (
        "0000000001" "0263" "10537461727452756e" "0e64656661756c74" "10706970656c696e65" "0270"
        "106163636570746564" "00" "00" "02" "04" "06" "8001" "a410" "0268" "0261" "0272" "80b083c59868" "01"
        "0212" "7b2272756e223a317d"
    )  # fmt: skip
    assert (
        Codec(MemoryRegistry()).encoder("run.outcomes-flexcore.common.Outcome", schema)(record).hex()
        == expected
    )


def test_the_sample_of_a_record_fills_every_field() -> None:
    """The golden records are worth their place: no field is left to its default."""
    for name in catalogue().names():
        schema = parse(catalogue().schema(name))
        record = sample(schema, "")
        assert [
            field for field in schema["fields"] if record[field["name"]] == field.get("default", ...)
        ] == []


def test_an_event_encoded_by_parts_is_the_same_bytes() -> None:
    """The writer encodes the envelope once for all events of a command: nobody can tell from the bytes."""
    events = [release for release in released() if "envelope" in release.record]
    assert len(events) > 30
    for release in events:
        registry = MemoryRegistry()
        envelope = Codec(registry).encoder("envelope", release.schema["fields"][0]["type"])(
            release.record["envelope"]
        )[5:]
        framed, encode = Codec(MemoryRegistry()).event_encoder("released", release.schema)
        body = {name: value for name, value in release.record.items() if name != "envelope"}
        out = BytesWriter()
        encode(out, SimpleNamespace(**body))
        assert (framed + envelope + out.getvalue()).hex() == release.data.hex(), release.name
