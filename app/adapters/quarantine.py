"""Redriving on Kafka: the record as it was set aside goes to its commands topic again, under a new command id."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from app.adapters.system_clock import now_text
from app.errors import not_found, problem
from app.ports import Row
from schemas import topics as names
from schemas.partitioning import partition_of
from schemas.topics import Topics

_TIMEOUT_S = 10.0
_NO_ID = uuid.uuid5(uuid.NAMESPACE_URL, "flexcore")


class KafkaRedriver:
    """A :class:`app.ports.Redriver`. Reads one partition of the quarantine topic: rare, and as exact as the log."""

    def __init__(
        self, kafka: Mapping[str, str], topics: Topics, shards: int, aggregates: frozenset[str]
    ) -> None:
        self._kafka = dict(kafka)
        self._topics = topics
        self._shards = shards
        self._by_commands = {topics.commands(aggregate): aggregate for aggregate in aggregates}

    async def redrive(self, source: tuple[str, int, int], tenant: str, actor: str) -> Row:
        """Send the record again, then mark it. Raises as the port says, and ``unavailable`` when Kafka is away."""
        return await asyncio.to_thread(self._redrive, source, tenant, actor)

    def _redrive(self, source: tuple[str, int, int], tenant: str, actor: str) -> Row:
        topic, partition, offset = source
        place = f"{topic}/{partition}/{offset}"
        aggregate = self._by_commands.get(topic)
        if aggregate is None or not 0 <= partition < self._shards:
            raise not_found("quarantined record", place)
        try:
            record, times = self._find(aggregate, partition, place.encode())
        except KafkaException as error:
            raise problem("unavailable", f"The quarantine cannot be read: {error.args[0].str()}.") from error
        if record is None or not _may_see(record, tenant):
            raise not_found("quarantined record", place)
        headers = _headers(record)
        stated = dict(headers)
        key = stated.get("original-key", b"")
        if not key:
            raise problem("invalid", "The record has no key, so there is no aggregate it could be sent to.")
        old = stated.get("command-id", b"").decode() or str(uuid.uuid5(_NO_ID, place))
        fresh = str(uuid.uuid5(_as_uuid(old), str(times + 1)))
        self._send(
            aggregate, partition, place, record.value() or b"", key, _again(headers, old, fresh, actor), actor
        )
        aggregate_id = key.decode("utf-8", "replace").partition("/")[2]
        return {
            "command_id": fresh,
            "causation_id": old,
            "aggregate": aggregate,
            "aggregate_id": aggregate_id,
        }

    def _find(self, aggregate: str, partition: int, key: bytes) -> tuple[Message | None, int]:
        """Return the record that was set aside under ``key``, and how often it was sent again already."""
        consumer = Consumer(
            {
                **self._kafka,
                "group.id": "flexcore.redrive",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
        found, times = None, 0
        consumer.assign([TopicPartition(self._topics.quarantine(aggregate), partition, OFFSET_BEGINNING)])
        try:
            while (record := consumer.poll(_TIMEOUT_S)) is not None:
                error = record.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return found, times
                if error is not None:
                    raise KafkaException(error)
                if record.key() == key and any(name == "redriven-by" for name, _ in _headers(record)):
                    times += 1
                elif record.key() == key:
                    found = record
        finally:
            consumer.close()
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer in time"))

    def _send(
        self,
        aggregate: str,
        partition: int,
        place: str,
        value: bytes,
        key: bytes,
        headers: list[tuple[str, bytes]],
        actor: str,
    ) -> None:
        producer = Producer({**self._kafka, "acks": "all", "enable.idempotence": True, "linger.ms": 0,
                             "message.max.bytes": 5 << 20, "delivery.timeout.ms": 10_000})  # fmt: skip
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _record: Any) -> None:
            if error is not None:
                failed.append(error)

        target = partition_of(key, self._shards)
        # The command first: a marker without its command would hide the record, a command without marker does not.
        producer.produce(self._topics.commands(aggregate), value, key, target, delivered, headers=[*headers])
        if producer.flush(_TIMEOUT_S) or failed:
            raise problem("unavailable", "Kafka did not take the record back; it stays in quarantine.")
        at = now_text()
        fresh = dict(headers)[names.COMMAND_ID]
        marker = [("redriven-by", actor.encode()), ("redrive-command-id", fresh), ("at", at.encode())]
        producer.produce(
            self._topics.quarantine(aggregate), b"", place.encode(), partition, delivered, headers=[*marker]
        )
        if producer.flush(_TIMEOUT_S) or failed:
            raise problem(
                "unavailable", "The record was sent, but not marked; sending it again repeats its command."
            )


def _again(headers: list[tuple[str, bytes]], old: str, fresh: str, actor: str) -> list[tuple[str, bytes]]:
    """Return the original headers with a new id, caused by the old one. Where it was forwarded to no longer counts."""
    replaced = {names.COMMAND_ID, names.CAUSATION_ID, names.ACTOR, "forwarded"}
    original = [
        (name.removeprefix("original-"), value)
        for name, value in headers
        if name.startswith("original-") and name != "original-key"
    ]
    kept = [(name, value) for name, value in original if name not in replaced]
    return [
        (names.COMMAND_ID, fresh.encode()),
        (names.CAUSATION_ID, old.encode()),
        (names.ACTOR, actor.encode()),
        *kept,
    ]


def _headers(record: Message) -> list[tuple[str, bytes]]:
    raw = record.headers()
    return [(name, value) for name, value in raw if isinstance(value, bytes)] if isinstance(raw, list) else []


def _may_see(record: Message, tenant: str) -> bool:
    """Return whether the record is the tenant's; one whose key names no tenant is everybody's."""
    owner = dict(_headers(record)).get("original-key", b"").decode("utf-8", "replace")
    return "/" not in owner or owner.partition("/")[0] == tenant


def _as_uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_URL, text)
