"""Record batches as brokers hand them out: what counts comes back, what is aborted or damaged does not."""

import gzip
import struct

import cramjam
import lz4.frame
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from schemas.numbers import zigzag
from streams.protocol.batch_reader import read_batches
from streams.protocol.record_batch import NO_HEADERS, RecordBatch, headers_of

PAIRS = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300)), max_size=5)
RECORDS = st.lists(
    st.tuples(st.binary(max_size=100), st.none() | st.binary(max_size=2_000), PAIRS), max_size=20
)
NONE: list[tuple[int, int]] = []


def _batch(base: int, *values: bytes, producer: int = 7) -> bytes:
    """Return a batch of a transaction at an offset of the log."""
    batch = RecordBatch()
    for value in values:
        batch.add(b"key", value, NO_HEADERS)
    return struct.pack(">q", base) + batch.encode(producer, 0, 0, 1_700_000_000_000)[8:]


def _plain(base: int, attributes: int, body: bytes, count: int, last: int, producer: int = 7) -> bytes:
    """Return a batch from the bytes of its records."""
    checked = struct.pack(">hiqqqhii", attributes, last, 1_000, 2_000, producer, 0, -1, count) + body
    return struct.pack(">qiibI", base, len(checked) + 9, 0, 2, crc32c(checked)) + checked


def _marker(base: int, producer: int, *, commit: bool) -> bytes:
    key = struct.pack(">hh", 0, int(commit))
    body = b"\0\0\0" + zigzag(len(key)) + key + zigzag(6) + bytes(6) + b"\0"
    return _plain(base, 0b110000, zigzag(len(body)) + body, 1, 0, producer)


def _values(
    data: bytes, start: int = 0, aborted: list[tuple[int, int]] = NONE
) -> tuple[list[bytes | None], int]:
    found, after = read_batches(data, "t", 3, start, aborted)
    return [one.value for one in found], after


@given(RECORDS, st.integers(0, 25))
def test_what_was_written_is_read_from_an_offset_on(
    records: list[tuple[bytes, bytes | None, list[tuple[str, bytes]]]], start: int
) -> None:
    """Given any records, when they are read from an offset on, then those from there come back as they were."""
    batch = RecordBatch()
    for key, value, pairs in records:
        batch.add(key, value, headers_of(pairs))
    found, after = read_batches(batch.encode(7, 0, 0, 1_700_000_000_000), "t", 3, start, NONE)
    told = [(one.offset, one.key, one.value, one.header_list()) for one in found]
    assert told == [(number, *one) for number, one in enumerate(records)][start:]
    assert after == max(start, len(records))
    assert {(one.topic, one.partition, one.time_ms) for one in found} <= {("t", 3, 1_700_000_000_000)}


def test_what_was_aborted_is_left_out_until_its_marker() -> None:
    """Given one producer's transaction is aborted between others', then only its records of before the marker are missing."""
    log = b"".join(
        (
            _batch(0, b"kept"),
            _batch(1, b"aborted", producer=8),
            _batch(2, b"kept too"),
            _batch(3, b"aborted too", producer=8),
            _marker(4, 8, commit=False),
            _batch(5, b"its next one", producer=8),
            _marker(6, 7, commit=True),
            _marker(7, 8, commit=True),
        )
    )
    assert _values(log, aborted=[(8, 1)]) == ([b"kept", b"kept too", b"its next one"], 8)


def test_an_aborted_transaction_of_later_does_not_hide_what_is_committed_before() -> None:
    """Given a producer commits and then aborts, then what it had committed is there."""
    log = (
        _batch(0, b"kept") + _marker(1, 7, commit=True) + _batch(2, b"aborted") + _marker(3, 7, commit=False)
    )
    assert _values(log, aborted=[(7, 2)]) == ([b"kept"], 4)


def test_a_batch_that_is_cut_off_is_left_for_the_next_answer() -> None:
    """Given an answer ends within a batch, then what is whole is read, and the offset is that of the rest."""
    log = _batch(0, b"a", b"b") + _batch(2, b"c")
    assert _values(log[:-1]) == ([b"a", b"b"], 2)
    assert _values(log[:30]) == ([], 0)


def test_a_hole_of_compaction_is_passed_over() -> None:
    """Given a batch keeps its last offset without that record, then reading goes on behind it."""
    kept = _plain(10, 0, b"", 0, 4)
    assert _values(kept, 10) == ([], 15)


@pytest.mark.parametrize("place", [17, 60, -1])
def test_damage_is_told(place: int) -> None:
    """Given a byte is changed, then nothing of the batch is taken for a record."""
    data = bytearray(_batch(0, b"value"))
    data[place] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        read_batches(bytes(data), "t", 3, 0, NONE)


def test_a_batch_of_an_old_format_is_refused() -> None:
    """Given magic 1, then it says so."""
    data = bytearray(_batch(0, b"value"))
    data[16] = 1
    with pytest.raises(ValueError, match="magic 1"):
        read_batches(bytes(data), "t", 3, 0, NONE)


def _xerial(data: bytes) -> bytes:
    """Compress as Java's snappy does: a head, then blocks with their sizes."""
    blocks = (bytes(cramjam.snappy.compress_raw(data[at : at + 50])) for at in range(0, len(data), 50))
    head = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    return head + b"".join(struct.pack(">i", len(one)) + one for one in blocks)


@pytest.mark.parametrize(
    ("kind", "compress"),
    [
        (0, bytes),
        (1, gzip.compress),
        (2, lambda data: bytes(cramjam.snappy.compress_raw(data))),
        (2, _xerial),
        (3, lz4.frame.compress),
        (4, lambda data: bytes(cramjam.zstd.compress(data))),
    ],
)
def test_every_compression_is_read(kind: int, compress: object) -> None:
    """Given any of Kafka's compressions, then the record comes back, at the time the broker gave it if it says so."""
    assert callable(compress)
    value = b"value" * 40
    record = b"\0" + zigzag(-5) + zigzag(0) + b"\1" + zigzag(len(value)) + value + b"\0"
    body = compress(zigzag(len(record)) + record)
    (one,), _ = read_batches(_plain(0, kind, body, 1, 0), "t", 3, 0, NONE)
    assert (one.key, one.value, one.time_ms) == (None, value, 995)
    (one,), _ = read_batches(_plain(0, kind | 0b1000, body, 1, 0), "t", 3, 0, NONE)
    assert one.time_ms == 2_000


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
def test_what_cannot_be_decompressed_is_told(kind: int) -> None:
    """Given bytes that are not what the batch says, or a compression that nobody knows, then it is a plain error."""
    with pytest.raises(ValueError, match=r"decompress|nobody knows"):
        read_batches(_plain(0, kind, b"\xff" * 40, 1, 0), "t", 3, 0, NONE)


def test_a_record_that_is_longer_than_it_says_is_told() -> None:
    """Given a record's size does not fit what is in it, then it is a plain error."""
    record = b"\0\0\0\1" + zigzag(100) + b"short" + b"\0"
    with pytest.raises(ValueError, match="longer than it says"):
        read_batches(_plain(0, 0, zigzag(len(record)) + record, 1, 0), "t", 3, 0, NONE)
