"""Kafka's record batch (magic 2), as the writer fills it: all records of a batch have one time, and no null headers.

Source: Apache Kafka's protocol guide, "Record Batch". Its numbers are Avro's zigzag ones, so what the encoder has as Avro
strings already goes into headers as it is.
"""

import struct
from collections.abc import Iterable
from threading import Lock
from typing import Final

import lz4.frame
from crc32c import crc32c
from librt.strings import BytesWriter

from schemas.envelope import sized
from schemas.numbers import put_long, zigzag

Headers = list[tuple[str, bytes]]

_LZ4_TRANSACTIONAL: Final = 3 | 1 << 4
_MAGIC: Final = 2
_BATCH_BYTES: Final = 1_000_000  # what every topic takes unless told otherwise
# Offset, length, epoch of the leader, magic and checksum; then, under the checksum, attributes, last offset, first and last
# time, producer, its epoch, first sequence, count.
_HEAD: Final = struct.Struct(">qiibI")
_BODY: Final = struct.Struct(">hiqqqhii")
_HEAD_BYTES: Final = 9  # what the length counts of the head
_NULL: Final = 1
_VARINT_BITS: Final = 7
NO_HEADERS: Final = b"\0"


def header(name: str) -> bytes:
    """Return a header's name as it stands before its value, which is :func:`schemas.envelope.sized`."""
    return sized(name.encode())


def headers_of(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a record's headers: their number, then each name and value."""
    out = [header(name) + sized(value) for name, value in pairs]
    return zigzag(len(out)) + b"".join(out)


class RecordBatch:
    """Records for one partition, in order; ``size`` is what they take before they are compressed, in bytes."""

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self._records = BytesWriter()

    def add(self, key: bytes, value: bytes | None, told: bytes) -> None:
        """Append a record; ``told`` is from :func:`headers_of`, no value is a tombstone."""
        out, number = self._records, self.count
        size = 2 + _width(number) + _width(len(key)) + len(key) + len(told)
        put_long(out, size + (1 if value is None else _width(len(value)) + len(value)))
        out.append(0)  # its attributes, and its time after the batch's
        out.append(0)
        put_long(out, number)
        put_long(out, len(key))
        out.write(key)
        if value is None:
            out.append(_NULL)
        else:
            put_long(out, len(value))
            out.write(value)
        out.write(told)
        self.count = number + 1
        self.size = len(out)

    def encode(self, producer_id: int, epoch: int, sequence: int, now_ms: int) -> bytes:
        """Return the batch, compressed, with its checksum. ``sequence`` is that of its first record."""
        # Java reads only frames whose blocks do not need each other.
        records: bytes = lz4.frame.compress(self._records.getvalue(), block_linked=False, store_size=False)
        numbers = (producer_id, epoch, sequence, self.count)
        body = _BODY.pack(_LZ4_TRANSACTIONAL, self.count - 1, now_ms, now_ms, *numbers) + records
        return _HEAD.pack(0, len(body) + _HEAD_BYTES, 0, _MAGIC, crc32c(body)) + body


def _width(number: int) -> int:
    """Return how many bytes a number takes."""
    rest, width = number << 1, 1
    while rest >= 1 << _VARINT_BITS:
        rest >>= _VARINT_BITS
        width += 1
    return width


Produced = tuple[str, bytes | None, bytes, int, bytes]
"""A record to be produced: topic, value, key, partition, headers. A plain tuple, because there are two per command."""


class Batches:
    """What a transaction is still to write, in batches; one thread may add while another takes."""

    def __init__(self, batch_bytes: int = _BATCH_BYTES) -> None:
        """A batch is full from ``batch_bytes`` on, before compression; a record larger than that has one to itself."""
        self.size = 0
        self._batch_bytes = batch_bytes
        self._lock = Lock()
        self._filling: dict[tuple[str, int], RecordBatch] = {}
        self._full: list[dict[tuple[str, int], RecordBatch]] = []

    def add(self, records: list[Produced]) -> None:
        """Append the records, and empty the list."""
        records.reverse()
        with self._lock:
            filling = self._filling
            while records:  # each is freed while the processor still has it at hand
                topic, value, key, partition, told = records.pop()
                where = (topic, partition)
                batch = filling.get(where)
                if batch is None or batch.size + len(key) + len(value or b"") > self._batch_bytes:
                    if batch is not None:
                        self._put_away(where, batch)
                    batch = filling[where] = RecordBatch()
                before = batch.size
                batch.add(key, value, told)
                self.size += batch.size - before

    def take(self) -> list[dict[tuple[str, int], RecordBatch]]:
        """Take all of it, in the order in which it must be written: each mapping has one batch of a partition at most."""
        with self._lock:
            rounds, self._full = self._full, []
            for where, batch in self._filling.items():
                _first_without(rounds, where)[where] = batch
            self._filling = {}
            self.size = 0
            return rounds

    def _put_away(self, where: tuple[str, int], batch: RecordBatch) -> None:
        _first_without(self._full, where)[where] = batch


def _first_without(
    rounds: list[dict[tuple[str, int], RecordBatch]], where: tuple[str, int]
) -> dict[tuple[str, int], RecordBatch]:
    for one in rounds:
        if where not in one:
            return one
    rounds.append({})
    return rounds[-1]
