"""What an export takes of a partition, and that a line gives back its record or is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.proof.export import RawRecord, Schemas, Unreadable, chosen, line_of, read_manifest, record_of
from streams.proof.record import LogRecord
from tests.unit.streams.proof.whole import whole_log

WHOLE = whole_log()
RECORDS = [*WHOLE.events, *WHOLE.outcomes, *WHOLE.audit]


def raw(record: LogRecord) -> RawRecord:
    return RawRecord(record.key, record.value, list(record.headers.items()))


def sequence(record: LogRecord) -> int:
    return int(record.body["envelope"]["sequence"])


@pytest.mark.parametrize("at", [0, -1, len(WHOLE.events), len(RECORDS) - 2])
def test_a_line_gives_back_its_record(at: int) -> None:
    """Byte for byte; and what anybody can read of it is CloudEvents."""
    record = raw(RECORDS[at])
    line = line_of(record, WHOLE.codec)
    assert record_of(line, WHOLE.codec) == record
    told = json.loads(line)
    assert {"specversion", "id", "source", "type", "data"} <= told.keys()
    assert all(name.isalnum() and name.islower() for name in told)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(RECORDS) - 1), st.integers(0, 1 << 16))
def test_no_bit_of_a_line_can_be_flipped_and_the_line_be_taken(at: int, bit: int) -> None:
    """It is refused, or it holds another record, which the proof knows."""
    record = raw(RECORDS[at])
    line = bytearray(line_of(record, WHOLE.codec))
    line[bit // 8 % len(line)] ^= 1 << bit % 8
    try:
        found = record_of(bytes(line), WHOLE.codec)
    except Unreadable:
        return
    assert found != record


def test_an_export_is_the_same_before_and_after_the_cleaner() -> None:
    """Copies and first bodies are left out; order is that of the numbers."""
    again = WHOLE.again(WHOLE.events[3], offset=900)
    redacted = WHOLE.redacted(WHOLE.events[5], 1000)
    before = chosen([*WHOLE.events, again, redacted], sequence)
    after = chosen([*WHOLE.events[:3], *WHOLE.events[4:5], *WHOLE.events[6:], again, redacted], sequence)
    assert [raw(record) for record in before] == [raw(record) for record in after]
    assert list(map(sequence, before)) == list(map(sequence, WHOLE.events))


def test_two_records_that_differ_under_one_key_are_both_exported() -> None:
    """An export hides nothing that the proof would find."""
    other = WHOLE.again(WHOLE.events[3], offset=900, value=WHOLE.events[4].value)
    assert len(chosen([*WHOLE.events, other], sequence)) == len(WHOLE.events) + 1


def test_schemas_come_back_by_id() -> None:
    """Whoever reads the export needs no registry."""
    schemas = Schemas()
    for record in RECORDS:
        schemas.note(record.value, WHOLE.codec)
    again = Schemas.read(list(schemas.lines()))
    assert list(again.lines()) == list(schemas.lines())
    assert again.found.keys() == {record.value[4] for record in RECORDS}


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"format": 2, "cluster": "", "shards": {}, "positions": {}, "files": {}}']
)
def test_another_file_is_no_manifest(text: bytes) -> None:
    """And the message says so."""
    with pytest.raises(Unreadable, match=r"manifest\.json"):
        read_manifest(text)
