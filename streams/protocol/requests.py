"""The requests that every transaction and every read makes, written byte by byte: from Kafka's definitions ``kio`` takes 33
to 49 µs for each, where these take a few.

Their formats: https://kafka.apache.org/protocol. All are flexible (KIP-482): a length is an unsigned varint of one more,
zero is null, and every structure ends with the number of its tagged fields, which is zero.
"""

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Final, NamedTuple, TypeVar

from confluent_kafka import TopicPartition
from kio.schema.fetch.v12.request import FetchRequest
from kio.schema.fetch.v12.response import FetchResponse
from kio.schema.produce.v12.request import ProduceRequest
from kio.schema.produce.v12.response import ProduceResponse
from kio.schema.txn_offset_commit.v5.request import TxnOffsetCommitRequest
from kio.schema.txn_offset_commit.v5.response import TxnOffsetCommitResponse

from streams.protocol.messages import Partition, Producer

_T = TypeVar("_T")
_COMMITTED_ONLY: Final = 1
_NO_SESSION: Final = (0, -1)  # the request names every partition
_UNKNOWN: Final = -1
_END: Final = b"\0"  # no tagged fields
_EMPTY: Final = b"\1"

_INT32: Final = Struct(">i").pack
_PRODUCE: Final = Struct(">hi").pack  # acks, timeout
_MEMBER: Final = Struct(">qhi").pack  # producer, epoch, generation
_OFFSET: Final = Struct(">iqi").pack  # partition, offset, leader epoch
_FETCH: Final = Struct(
    ">iiiibii"
).pack  # replica, wait, bytes at least and at most, isolation, session and its epoch
_FETCH_PARTITION: Final = Struct(
    ">iiqiqi"
).pack  # partition, leader epoch, offset, last epoch, start of the log, bytes


class Encoded(NamedTuple):
    """A request in pieces, without its header."""

    api_key: int
    api_version: int
    parts: list[bytes]


def produce(
    transactional: str, batches: Mapping[Partition, bytes], timeout_s: float
) -> tuple[Encoded, type[ProduceResponse]]:
    """Write one batch to each of the partitions, and enrol them in the transaction."""
    topics = _by_topic(batches.items())
    parts = [_string(transactional), _PRODUCE(-1, round(timeout_s * 1000)), _length(len(topics))]
    for name, found in topics.items():
        parts += (_string(name), _length(len(found)))
        for partition, batch in found:
            parts += (_INT32(partition), _length(len(batch)), batch, _END)
        parts.append(_END)
    parts.append(_END)
    return Encoded(ProduceRequest.__api_key__, ProduceRequest.__version__, parts), ProduceResponse


def txn_offset_commit(
    who: Producer, group: tuple[str, int, str, str | None], offsets: Iterable[TopicPartition]
) -> tuple[Encoded, type[TxnOffsetCommitResponse]]:
    """Put a group's offsets into the transaction. ``group``: its id, generation, the member's id and instance id."""
    topics = _by_topic(((one.topic, one.partition), one) for one in offsets)
    (transactional, producer_id, epoch), (group_id, generation, member, instance) = who, group
    parts = [
        _string(transactional),
        _string(group_id),
        _MEMBER(producer_id, epoch, generation),
        _string(member),
        _END if instance is None else _string(instance),
        _length(len(topics)),
    ]
    for name, found in topics.items():
        parts += (_string(name), _length(len(found)))
        for partition, one in found:
            # confluent-kafka ends it with a zero, and without one reads more than was written.
            parts += (_OFFSET(partition, one.offset, _UNKNOWN), _string(f"{one.metadata}\0"), _END)
        parts.append(_END)
    parts.append(_END)
    encoded = Encoded(TxnOffsetCommitRequest.__api_key__, TxnOffsetCommitRequest.__version__, parts)
    return encoded, TxnOffsetCommitResponse


def fetch(
    at: Mapping[Partition, int], wait_s: float, bytes_min: int, bytes_max: int, partition_bytes_max: int
) -> tuple[Encoded, type[FetchResponse]]:
    """Read what is committed from these offsets on. The answer comes once there are ``bytes_min``, or ``wait_s`` are over; of the
    first partition that has anything it holds a whole batch, whatever its size.
    """
    topics = _by_topic(at.items())
    head = _FETCH(_UNKNOWN, round(wait_s * 1000), bytes_min, bytes_max, _COMMITTED_ONLY, *_NO_SESSION)
    parts = [head, _length(len(topics))]
    for name, found in topics.items():
        parts += (_string(name), _length(len(found)))
        for partition, offset in found:
            one = _FETCH_PARTITION(partition, _UNKNOWN, offset, _UNKNOWN, _UNKNOWN, partition_bytes_max)
            parts += (one, _END)
        parts.append(_END)
    parts += (_EMPTY, _EMPTY, _END)  # no partitions to forget, and no rack
    return Encoded(FetchRequest.__api_key__, FetchRequest.__version__, parts), FetchResponse


def _by_topic(items: Iterable[tuple[Partition, _T]]) -> dict[str, list[tuple[int, _T]]]:
    topics: dict[str, list[tuple[int, _T]]] = {}
    for (topic, partition), item in items:
        topics.setdefault(topic, []).append((partition, item))
    return topics


def _string(text: str) -> bytes:
    data = text.encode()
    return _length(len(data)) + data


def _length(count: int) -> bytes:
    """Return the length of a text, of bytes or of an array as it is written: one more, seven bits a byte."""
    rest = count + 1
    if rest < 0x80:
        return bytes((rest,))
    found = bytearray()
    while rest >= 0x80:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)
