"""What is written byte by byte is what kio writes from Kafka's definitions."""

import io
from datetime import timedelta
from typing import Any

from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.fetch.v12.request import FetchPartition, FetchRequest, FetchTopic
from kio.schema.produce.v12.request import PartitionProduceData, ProduceRequest, TopicProduceData
from kio.schema.txn_offset_commit.v5.request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from kio.serial import entity_writer

from streams.protocol import requests
from streams.protocol.requests import Encoded

texts = st.text(max_size=300)
names = st.text("abc.-_ü", min_size=1, max_size=200)
partitions = st.tuples(names, st.integers(0, 2**31 - 1))
offsets = st.integers(0, 2**63 - 1)
numbers = st.integers(0, 2**31 - 1)
millis = st.integers(0, 2**31 - 1)


def by_topic(items: dict[tuple[str, int], Any]) -> dict[str, list[tuple[int, Any]]]:
    """Return the items of each topic, in their order."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for (topic, partition), item in items.items():
        found.setdefault(topic, []).append((partition, item))
    return found


def same(encoded: Encoded, message: Any) -> bool:
    """Tell whether kio writes the message as these bytes, for the same version of the same request."""
    out = io.BytesIO()
    entity_writer(type(message))(out, message)
    key, version = message.__api_key__, message.__version__
    return (encoded.api_key, encoded.api_version) == (key, version) and b"".join(
        encoded.parts
    ) == out.getvalue()


@given(texts, st.dictionaries(partitions, st.binary(max_size=300), max_size=5), millis)
def test_a_request_to_produce_is_as_kio_writes_it(
    transactional: str, batches: dict[tuple[str, int], bytes], wait_ms: int
) -> None:
    """Given any batches, then any other client would send these bytes."""
    topic: Any = TopicProduceData
    part: Any = PartitionProduceData
    message: Any = ProduceRequest
    expected = message(
        transactional_id=transactional,
        acks=-1,
        timeout=timedelta(milliseconds=wait_ms),
        topic_data=tuple(
            topic(name=name, partition_data=tuple(part(index=index, records=data) for index, data in found))
            for name, found in by_topic(batches).items()
        ),
    )
    assert same(requests.produce(transactional, batches, wait_ms / 1000)[0], expected)


@given(
    st.tuples(texts, offsets, st.integers(0, 2**15 - 1)),
    st.tuples(texts, numbers, texts, st.none() | texts),
    st.dictionaries(partitions, st.tuples(offsets, st.text("ab|09", min_size=1, max_size=300)), max_size=5),
)
def test_a_request_to_commit_offsets_is_as_kio_writes_it(
    who: tuple[str, int, int],
    group: tuple[str, int, str, str | None],
    where: dict[tuple[str, int], tuple[int, str]],
) -> None:
    """Given any offsets of any member, static or not, then any other client would send these bytes."""
    topic: Any = TxnOffsetCommitRequestTopic
    part: Any = TxnOffsetCommitRequestPartition
    message: Any = TxnOffsetCommitRequest
    expected = message(
        transactional_id=who[0],
        group_id=group[0],
        producer_id=who[1],
        producer_epoch=who[2],
        generation_id=group[1],
        member_id=group[2],
        group_instance_id=group[3],
        topics=tuple(
            topic(
                name=name,
                partitions=tuple(
                    part(partition_index=number, committed_offset=offset, committed_metadata=f"{said}\0")
                    for number, (offset, said) in found
                ),
            )
            for name, found in by_topic(where).items()
        ),
    )
    listed = [TopicPartition(*part, offset, said) for part, (offset, said) in where.items()]
    assert same(requests.txn_offset_commit(who, group, listed)[0], expected)


@given(st.dictionaries(partitions, offsets, max_size=5), millis, numbers, numbers, numbers)
def test_a_request_to_fetch_is_as_kio_writes_it(
    at: dict[tuple[str, int], int], wait_ms: int, least: int, most: int, each: int
) -> None:
    """Given any offsets and limits, then any other client would send these bytes."""
    topic: Any = FetchTopic
    part: Any = FetchPartition
    message: Any = FetchRequest
    expected = message(
        max_wait=timedelta(milliseconds=wait_ms),
        min_bytes=least,
        max_bytes=most,
        isolation_level=1,
        session_epoch=-1,
        topics=tuple(
            topic(
                topic=name,
                partitions=tuple(
                    part(partition=number, fetch_offset=offset, partition_max_bytes=each)
                    for number, offset in found
                ),
            )
            for name, found in by_topic(at).items()
        ),
        forgotten_topics_data=(),
    )
    assert same(requests.fetch(at, wait_ms / 1000, least, most, each)[0], expected)
