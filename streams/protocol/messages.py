"""Requests of Kafka's protocol, in the versions that transactions version 2 needs, and what their answers say.

The messages are those of ``kio``, which generates them from Kafka's definitions. Numbers are plain here: kio's types for
them are checked when they are written.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from confluent_kafka import TopicPartition
from kio.schema.api_versions.v3.request import ApiVersionsRequest
from kio.schema.api_versions.v3.response import ApiVersionsResponse
from kio.schema.end_txn.v5.request import EndTxnRequest
from kio.schema.end_txn.v5.response import EndTxnResponse
from kio.schema.fetch.v12.request import FetchPartition, FetchRequest, FetchTopic
from kio.schema.fetch.v12.response import FetchResponse
from kio.schema.find_coordinator.v4.request import FindCoordinatorRequest
from kio.schema.find_coordinator.v4.response import FindCoordinatorResponse
from kio.schema.init_producer_id.v5.request import InitProducerIdRequest
from kio.schema.init_producer_id.v5.response import InitProducerIdResponse
from kio.schema.list_offsets.v7.request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from kio.schema.list_offsets.v7.response import ListOffsetsResponse
from kio.schema.metadata.v12.request import MetadataRequest, MetadataRequestTopic
from kio.schema.metadata.v12.response import MetadataResponse
from kio.schema.produce.v12.request import PartitionProduceData, ProduceRequest, TopicProduceData
from kio.schema.produce.v12.response import ProduceResponse
from kio.schema.sasl_authenticate.v2.request import SaslAuthenticateRequest
from kio.schema.sasl_authenticate.v2.response import SaslAuthenticateResponse
from kio.schema.sasl_handshake.v1.request import SaslHandshakeRequest
from kio.schema.sasl_handshake.v1.response import SaslHandshakeResponse
from kio.schema.txn_offset_commit.v5.request import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from kio.schema.txn_offset_commit.v5.response import TxnOffsetCommitResponse

Answer = TypeVar("Answer")
Partition = tuple[str, int]
Producer = tuple[str, int, int]
"""A transactional id, its producer id and epoch."""

NEEDED = {
    one.__api_key__: one.__version__
    for one in (
        ProduceRequest, TxnOffsetCommitRequest, EndTxnRequest, InitProducerIdRequest, MetadataRequest, FetchRequest,
        ListOffsetsRequest,
    )
}  # fmt: skip
"""The version of each API that a broker must know."""

_EARLIEST = -2
_COMMITTED_ONLY = 1
GROUP, TRANSACTION = 0, 1
"""Kinds of coordinators."""


def api_versions(version: str) -> tuple[Any, type[ApiVersionsResponse]]:
    """Ask what the broker speaks."""
    return ApiVersionsRequest(
        client_software_name="flexcore", client_software_version=version
    ), ApiVersionsResponse


def sasl_handshake(mechanism: str) -> tuple[Any, type[SaslHandshakeResponse]]:
    """Begin to authenticate."""
    return SaslHandshakeRequest(mechanism=mechanism), SaslHandshakeResponse


def sasl_authenticate(data: bytes) -> tuple[Any, type[SaslAuthenticateResponse]]:
    """Go on with it."""
    return SaslAuthenticateRequest(auth_bytes=data), SaslAuthenticateResponse


def metadata(topics: Iterable[str]) -> tuple[Any, type[MetadataResponse]]:
    """Ask who leads the partitions of topics."""
    return MetadataRequest(
        topics=tuple(MetadataRequestTopic(topic_id=None, name=name) for name in topics),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    ), MetadataResponse


def find_coordinator(kind: int, key: str) -> tuple[Any, type[FindCoordinatorResponse]]:
    """Ask which broker coordinates a group or a transactional id."""
    return FindCoordinatorRequest(key_type=kind, coordinator_keys=(key,)), FindCoordinatorResponse


def init_producer_id(transactional: str, timeout_ms: int) -> tuple[Any, type[InitProducerIdResponse]]:
    """Fence every earlier producer of the id, and end its transaction."""
    timeout = timedelta(milliseconds=timeout_ms)
    return InitProducerIdRequest(
        transactional_id=transactional, transaction_timeout=timeout
    ), InitProducerIdResponse


def produce(
    transactional: str, batches: Mapping[Partition, bytes], timeout_s: float
) -> tuple[Any, type[ProduceResponse]]:
    """Write one batch to each of the partitions, and enrol them in the transaction."""
    topics: dict[str, list[Any]] = {}
    for (topic, partition), batch in batches.items():
        topics.setdefault(topic, []).append(PartitionProduceData(index=partition, records=batch))
    return ProduceRequest(
        transactional_id=transactional,
        acks=-1,
        timeout=timedelta(milliseconds=int(timeout_s * 1000)),
        topic_data=tuple(
            TopicProduceData(name=name, partition_data=tuple(found)) for name, found in topics.items()
        ),
    ), ProduceResponse


def txn_offset_commit(
    who: Producer, group: tuple[str, int, str, str | None], offsets: Iterable[TopicPartition]
) -> tuple[Any, type[TxnOffsetCommitResponse]]:
    """Put a group's offsets into the transaction. ``group``: its id, generation, the member's id and instance id."""
    topics: dict[str, list[Any]] = {}
    for one in offsets:
        topics.setdefault(one.topic, []).append(
            TxnOffsetCommitRequestPartition(
                partition_index=one.partition,
                committed_offset=one.offset,
                # confluent-kafka ends it with a zero, and without one reads more than was written.
                committed_metadata=f"{one.metadata}\0",
            )
        )
    (transactional, producer_id, epoch), (group_id, generation, member, instance) = who, group
    return TxnOffsetCommitRequest(
        transactional_id=transactional,
        group_id=group_id,
        producer_id=producer_id,
        producer_epoch=epoch,
        generation_id=generation,
        member_id=member,
        group_instance_id=instance,
        topics=tuple(
            TxnOffsetCommitRequestTopic(name=name, partitions=tuple(found)) for name, found in topics.items()
        ),
    ), TxnOffsetCommitResponse


def end_txn(who: Producer, committed: bool) -> tuple[Any, type[EndTxnResponse]]:
    """Commit or abort; the answer brings the epoch of the next transaction."""
    transactional, producer_id, epoch = who
    return EndTxnRequest(
        transactional_id=transactional, producer_id=producer_id, producer_epoch=epoch, committed=committed
    ), EndTxnResponse


def fetch(
    at: Mapping[Partition, int], wait_s: float, bytes_min: int, bytes_max: int, partition_bytes_max: int
) -> tuple[Any, type[FetchResponse]]:
    """Read what is committed from these offsets on. The answer comes once there are ``bytes_min``, or ``wait_s`` are over; of the
    first partition that has anything it holds a whole batch, whatever its size.
    """
    topics: dict[str, list[Any]] = {}
    for (topic, partition), offset in at.items():
        topics.setdefault(topic, []).append(
            FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=partition_bytes_max)
        )
    return FetchRequest(
        max_wait=timedelta(seconds=wait_s),
        min_bytes=bytes_min,
        max_bytes=bytes_max,
        isolation_level=_COMMITTED_ONLY,
        session_epoch=-1,  # no session: the request names every partition
        topics=tuple(FetchTopic(topic=name, partitions=tuple(found)) for name, found in topics.items()),
        forgotten_topics_data=(),
    ), FetchResponse


def earliest(topic: str, partition: int) -> tuple[Any, type[ListOffsetsResponse]]:
    """Ask for the first offset that is left of a partition."""
    asked = ListOffsetsPartition(partition_index=partition, timestamp=_EARLIEST)
    return ListOffsetsRequest(
        replica_id=-1, isolation_level=0, topics=(ListOffsetsTopic(name=topic, partitions=(asked,)),)
    ), ListOffsetsResponse
