"""A log for tests of what reads it: topics under a prefix, and records as the platform's writer makes them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.catalogue import Catalogue
from schemas.chain import REDACTED, VALUE_HASH
from schemas.codec import Codec
from schemas.partitioning import partition_of
from schemas.registry import MemoryRegistry
from schemas.topics import Topics, key_of
from streams.aggregates import builtin
from streams.topics import aggregate_topics
from streams.translation import fullname, to_record

NAMESPACE = uuid.UUID("6b1f1c1e-0000-4000-8000-000000000000")
START_MS = 1_767_225_600_000  # 2026-01-01


class EventLog:
    """Writes events, outcomes and quarantined records; versions and sequences are counted as the writer counts."""

    def __init__(self, bootstrap: str, prefix: str, shards: int = 4) -> None:
        self.kafka: dict[str, Any] = {"bootstrap.servers": bootstrap}
        self.topics, self.shards, self.prefix = Topics(prefix), shards, prefix
        self.catalogue = Catalogue.load()
        self.codec = Codec(MemoryRegistry())
        self.sequences: dict[tuple[str, int], int] = {}
        self.versions: dict[tuple[str, str, str], int] = {}
        self.written: dict[tuple[str, str, int], tuple[bytes, dict[str, Any], int]] = {}
        self.clock = START_MS
        self.failures: list[str] = []
        # One request at a time. A new topic's leader may refuse the first batch while it takes the second: sent again, the
        # first would stand behind it, or, from an idempotent producer, pass for a duplicate and be lost without an error.
        self.producer = Producer({**self.kafka, "linger.ms": 5, "max.in.flight": 1})

    def create(self, *aggregates: str) -> None:
        """Create the topics of ``aggregates``, or of all."""
        names = aggregates or tuple(aggregate.name for aggregate in builtin())
        kinds = (self.topics.events, self.topics.outcomes, self.topics.quarantine)
        wanted = [kind(name) for name in names for kind in kinds]
        admin = AdminClient(self.kafka)
        known = admin.list_topics(timeout=10).topics
        new = [
            NewTopic(spec.name, spec.partitions, 1, config=spec.config)
            for name in names
            for spec in aggregate_topics(self.topics, name, self.shards)
            if spec.name in wanted and spec.name not in known
        ]
        for future in admin.create_topics(new).values():
            future.result(30)

    def topic(self, name: str, partitions: int) -> None:
        """Create one topic."""
        admin = AdminClient(self.kafka)
        for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            future.result(30)

    def emit(
        self,
        aggregate: str,
        aggregate_id: str,
        *events: Any,
        tenant: str = "default",
        correlation: str = "c-1",
        removed: Collection[int] = (),
    ) -> str:
        """Produce events of one aggregate, with ``at`` one millisecond after the other; returns the position.

        Versions that the cleaner has ``removed`` are not produced.
        """
        shard = partition_of(key_of(tenant, aggregate_id), self.shards)
        for event in events:
            sequence = self._next(aggregate, shard)
            version = self.versions[aggregate, tenant, aggregate_id] = (
                self.versions.get((aggregate, tenant, aggregate_id), 0) + 1
            )
            self.clock += 1
            event_id = str(uuid.uuid5(NAMESPACE, f"{aggregate}/{tenant}/{aggregate_id}/{version}"))
            envelope = {
                "event_id": event_id,
                "tenant": tenant,
                "aggregate": aggregate,
                "aggregate_id": aggregate_id,
                "version": version,
                "sequence": sequence,
                "command_id": str(uuid.uuid5(NAMESPACE, event_id)),
                "causation_id": "",
                "correlation_id": correlation,
                "actor": "tester",
                "source_offset": sequence,
                "writer": "test/node/a",
                "at": self.clock,
                "traceparent": None,
            }
            key = f"{tenant}/{aggregate_id}/{version:020d}/{event_id}".encode()
            self.written[aggregate, aggregate_id, version] = (key, envelope, shard)
            if version not in removed:
                value = self._encoded(aggregate, envelope, event)
                self.raw(self.topics.events(aggregate), value, key, shard)
        return f"{aggregate}:{shard}:{self.sequences[aggregate, shard]}"

    def redact(self, aggregate: str, aggregate_id: str, version: int, event: Any) -> None:
        """Produce ``event`` in the place of the one that the aggregate has at ``version``."""
        key, envelope, shard = self.written[aggregate, aggregate_id, version]
        value = self._encoded(aggregate, envelope, event)
        certificate = {REDACTED: b"ada: asked for", VALUE_HASH: bytes(32)}
        self.raw(self.topics.events(aggregate), value, key, shard, certificate)

    def _encoded(self, aggregate: str, envelope: Mapping[str, Any], event: Any) -> bytes:
        full = fullname(aggregate, type(event))
        encode = self.codec.encoder(f"{aggregate}.events-{full}", self.catalogue.schema(full))
        return encode({"envelope": envelope, **to_record(event)})

    def outcome(self, aggregate: str, aggregate_id: str, command_id: str, **fields: Any) -> None:
        """Produce the outcome of a command: accepted without an event, unless ``fields`` say otherwise."""
        tenant = fields.pop("tenant", "default")
        shard = partition_of(key_of(tenant, aggregate_id), self.shards)
        sequence = self._next(aggregate, shard)
        record = {
            "command_id": command_id,
            "command_type": "StartRun",
            "tenant": tenant,
            "aggregate": aggregate,
            "aggregate_id": aggregate_id,
            "status": "accepted",
            "reason": None,
            "detail": None,
            "first_version": 0,
            "last_version": 0,
            "shard": shard,
            "sequence": sequence,
            "position": sequence - 1,
            "body_hash": "h",
            "actor": "tester",
            "correlation_id": "c-1",
            "at": self.clock,
            "stored": True,
            "reply": None,
            **fields,
        }
        schema = self.catalogue.schema("flexcore.common.Outcome")
        encode = self.codec.encoder(f"{aggregate}.outcomes-flexcore.common.Outcome", schema)
        self.raw(self.topics.outcomes(aggregate), encode(record), command_id.encode(), shard)

    def raw(
        self,
        topic: str,
        value: bytes | None,
        key: bytes = b"",
        partition: int = 0,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Produce any record."""
        while True:
            try:
                self.producer.produce(
                    topic,
                    value,
                    key,
                    partition,
                    headers=list((headers or {}).items()),
                    on_delivery=self._reported,
                )
                return
            except BufferError:
                self.producer.poll(0.1)

    def flush(self) -> None:
        """Wait until everything is in the log; fail if something could not be written."""
        assert self.producer.flush(30) == 0
        assert not self.failures, self.failures

    def _reported(self, error: KafkaError | None, record: Message) -> None:
        if error is not None:
            self.failures.append(f"{record.topic()}/{record.partition()}: {error}")

    def _next(self, aggregate: str, shard: int) -> int:
        sequence = self.sequences[aggregate, shard] = self.sequences.get((aggregate, shard), 0) + 1
        return sequence
