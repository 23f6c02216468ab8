"""What the writer puts into a record batch is what a reader of Kafka's format finds there."""

import struct
from typing import Any

import lz4.frame
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from kio.records.readers import read_batch

from streams.protocol.record_batch import Batches, Produced, RecordBatch, headers_of

PAIRS = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300)), max_size=20)
RECORDS = st.lists(
    st.tuples(st.binary(max_size=100), st.none() | st.binary(max_size=20_000), PAIRS), min_size=1, max_size=30
)


def _read(data: bytes) -> Any:
    """Read a batch by kio, which does not know compression: as if it had not been compressed."""
    head, checksum, attributes, rest = data[:17], data[17:21], data[21:23], data[23:61]
    assert struct.unpack(">I", checksum)[0] == crc32c(data[21:])
    assert struct.unpack(">i", head[8:12])[0] == len(data) - 12
    assert struct.unpack(">h", attributes)[0] == 0b10011, "lz4, and part of a transaction"
    body = struct.pack(">h", 0b10000) + rest + lz4.frame.decompress(data[61:])
    plain = head[:8] + struct.pack(">i", len(body) + 9) + head[12:] + struct.pack(">I", crc32c(body)) + body
    batch, size = read_batch(plain, 0)
    assert size == len(plain)
    return batch


@given(RECORDS)
def test_a_reader_finds_what_was_written(
    records: list[tuple[bytes, bytes | None, list[tuple[str, bytes]]]],
) -> None:
    """Given any records, then keys, values, tombstones and headers come back, numbered from zero, with one time."""
    batch = RecordBatch()
    for key, value, pairs in records:
        batch.add(key, value, headers_of(pairs))
    found = _read(batch.encode(7, 3, 11, 1_700_000_000_000))
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (7, 3, 11)
    assert found.last_offset_delta == len(records) - 1 == batch.count - 1
    assert found.base_timestamp == found.max_timestamp == 1_700_000_000_000
    told = [
        (one.key, one.value, [(header.key.decode(), header.value) for header in one.headers])
        for one in found.records
    ]
    assert told == [(key, value, pairs) for key, value, pairs in records]
    assert [one.offset for one in found.records] == list(range(len(records)))


def test_blocks_of_a_frame_do_not_need_each_other() -> None:
    """Java refuses frames whose blocks do: records larger than a block of 64 KiB say so in the frame's second byte."""
    batch = RecordBatch()
    batch.add(b"k", bytes(1 << 20), headers_of([]))
    frame = batch.encode(0, 0, 0, 0)[61:]
    assert frame[:4] == bytes.fromhex("04224d18")
    assert frame[4] & 0b100000, "independent blocks"


def _produced(topic: str, partition: int, *sizes: int) -> list[Produced]:
    return [
        (topic, bytes(size), b"%d" % number, partition, headers_of([])) for number, size in enumerate(sizes)
    ]


def test_a_full_batch_is_followed_by_another() -> None:
    """Given more than fits, then a partition's batches come in order, one of it in each round; others ride in the first."""
    batches = Batches(1000)
    batches.add(_produced("a", 0, 600, 600, 600) + _produced("a", 1, 1))
    batches.add(_produced("a", 0, 5000, 1))
    assert 6800 < batches.size < 7000
    rounds = batches.take()
    assert [{where: batch.count for where, batch in one.items()} for one in rounds] == [
        {("a", 0): 1, ("a", 1): 1},
        {("a", 0): 1},
        {("a", 0): 1},
        {("a", 0): 1},
        {("a", 0): 1},
    ]
    assert batches.size == 0
    assert batches.take() == []


def test_the_list_of_records_is_emptied_in_order() -> None:
    """Records are freed as they are taken, and stand in the batch as they stood in the list."""
    batches, records = Batches(1 << 20), _produced("a", 0, 1, 2, 3)
    batches.add(records)
    assert records == []
    (only,) = batches.take()
    found = _read(only["a", 0].encode(0, 0, 0, 0))
    assert [(one.key, len(one.value)) for one in found.records] == [(b"0", 1), (b"1", 2), (b"2", 3)]
