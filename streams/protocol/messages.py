"""Requests of Kafka's protocol, in the versions that transactions version 2 needs, and what their answers say; those that come
with every transaction or read are in :mod:`streams.protocol.requests`.

The messages are those of ``kio``, which generates them from Kafka's definitions. Numbers are plain here: kio's types for
them are checked when they are written.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

from kio.schema.api_versions.v3.request import ApiVersionsRequest
from kio.schema.api_versions.v3.response import ApiVersionsResponse
from kio.schema.end_txn.v5.request import EndTxnRequest
from kio.schema.end_txn.v5.response import EndTxnResponse
from kio.schema.fetch.v12.request import FetchRequest
from kio.schema.find_coordinator.v4.request import FindCoordinatorRequest
from kio.schema.find_coordinator.v4.response import FindCoordinatorResponse
from kio.schema.init_producer_id.v5.request import InitProducerIdRequest
from kio.schema.init_producer_id.v5.response import InitProducerIdResponse
from kio.schema.list_offsets.v7.request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from kio.schema.list_offsets.v7.response import ListOffsetsResponse
from kio.schema.metadata.v12.request import MetadataRequest, MetadataRequestTopic
from kio.schema.metadata.v12.response import MetadataResponse
from kio.schema.produce.v12.request import ProduceRequest
from kio.schema.sasl_authenticate.v2.request import SaslAuthenticateRequest
from kio.schema.sasl_authenticate.v2.response import SaslAuthenticateResponse
from kio.schema.sasl_handshake.v1.request import SaslHandshakeRequest
from kio.schema.sasl_handshake.v1.response import SaslHandshakeResponse
from kio.schema.txn_offset_commit.v5.request import TxnOffsetCommitRequest

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


def end_txn(who: Producer, committed: bool) -> tuple[Any, type[EndTxnResponse]]:
    """Commit or abort; the answer brings the epoch of the next transaction."""
    transactional, producer_id, epoch = who
    return EndTxnRequest(
        transactional_id=transactional, producer_id=producer_id, producer_epoch=epoch, committed=committed
    ), EndTxnResponse


def earliest(topic: str, partition: int) -> tuple[Any, type[ListOffsetsResponse]]:
    """Ask for the first offset that is left of a partition."""
    asked = ListOffsetsPartition(partition_index=partition, timestamp=_EARLIEST)
    return ListOffsetsRequest(
        replica_id=-1, isolation_level=0, topics=(ListOffsetsTopic(name=topic, partitions=(asked,)),)
    ), ListOffsetsResponse
