"""Record batches (magic 2) as brokers hand them out.

Source: Apache Kafka's protocol guide, "Record Batch" and "Control Batches"; for what was aborted, KIP-98.
"""

import struct
from typing import Final

from crc32c import crc32c

from schemas.numbers import unsigned
from streams.protocol.compression import decompress
from streams.protocol.record import Record

# Offset, length, epoch of the leader, magic, checksum, attributes, last offset, first and last time, producer, its epoch,
# first sequence, count.
_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
_HEAD_BYTES: Final = 61
_UNCOUNTED: Final = 12  # offset and length
_CHECKED: Final = 21  # the checksum is of everything after it
_MAGIC: Final = 2
_COMPRESSION: Final = 7
_LOG_TIME: Final = 1 << 3
_TRANSACTIONAL: Final = 1 << 4
_CONTROL: Final = 1 << 5
_ABORT: Final = b"\0\0\0\0"  # version and type of a marker


def read_batches(
    data: bytes, topic: str, partition: int, start: int, aborted: list[tuple[int, int]]
) -> tuple[list[Record], int]:
    """Return the records from the offset ``start`` on, and the offset after all that was looked at.

    Left out are markers, the records of transactions in ``aborted`` (producer id and first offset), and a last batch that is
    not whole. Raises ``ValueError`` for anything but record batches whose checksums are right.
    """
    found: list[Record] = []
    waiting = sorted(aborted, key=lambda one: one[1], reverse=True)
    dropped: set[int] = set()
    at, after = 0, start
    while at + _HEAD_BYTES <= len(data):
        head = _HEAD.unpack_from(data, at)
        base: int = head[0]
        end: int = at + _UNCOUNTED + head[1]
        if head[3] != _MAGIC:
            raise ValueError(f"a batch of magic {head[3]} at {base}")
        if end > len(data):
            break
        if crc32c(data[at + _CHECKED : end]) != head[4]:
            raise ValueError(f"the checksum of the batch at {base} is wrong")
        attributes: int = head[5]
        last: int = base + head[6]
        producer: int = head[9]
        while waiting and waiting[-1][1] <= last:
            dropped.add(waiting.pop()[0])
        after = max(after, last + 1)
        if attributes & _CONTROL:
            if _read(data[at + _HEAD_BYTES : end], head, topic, partition, base)[0].key == _ABORT:
                dropped.discard(producer)
        elif last >= start and not (attributes & _TRANSACTIONAL and producer in dropped):
            found += _read(
                decompress(attributes & _COMPRESSION, data[at + _HEAD_BYTES : end]),
                head,
                topic,
                partition,
                start,
            )
        at = end
    return found, after


def _read(data: bytes, head: tuple[int, ...], topic: str, partition: int, start: int) -> list[Record]:
    """Return the records of one batch from ``start`` on."""
    base, attributes, first_ms, last_ms, count = head[0], head[5], head[7], head[8], head[12]
    log_time = (attributes & _LOG_TIME) != 0
    found: list[Record] = []
    at = 0
    for _ in range(count):
        size, at = unsigned(data, at)
        end = at + (size >> 1)
        moved, at = unsigned(data, at + 1)  # a record's own attributes are not used
        delta, at = unsigned(data, at)
        offset = base + (delta >> 1)
        if offset < start:
            at = end
            continue
        time_ms = last_ms if log_time else first_ms + ((moved >> 1) ^ -(moved & 1))
        size, at = unsigned(data, at)
        key: bytes | None = None
        if not size & 1:  # odd: -1, null
            key = data[at : at + (size >> 1)]
            at += size >> 1
        size, at = unsigned(data, at)
        value: bytes | None = None
        if not size & 1:
            value = data[at : at + (size >> 1)]
            at += size >> 1
        if at >= end or end > len(data):
            raise ValueError(f"a record at {offset} is longer than it says")
        found.append(Record(topic, partition, offset, time_ms, key, value, data[at:end]))
        at = end
    return found
