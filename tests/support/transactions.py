"""A topic, a transactional producer, and a reader of another make, to see what the one has done to the other."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.protocol.producer import TransactionalProducer
from streams.protocol.record_batch import NO_HEADERS, Batches
from streams.protocol.security import Security


@dataclass
class Stage:
    """A topic of three partitions, and a producer of its own."""

    bootstrap: str
    topic: str
    id: str
    producer: TransactionalProducer

    batches: Batches = field(default_factory=Batches)

    def begin(self) -> None:
        self.batches = Batches()
        self.producer.begin_transaction(self.batches)

    def write(self, *values: bytes, partition: int = 0) -> None:
        self.batches.add([(self.topic, value, b"key", partition, NO_HEADERS) for value in values])

    def committed(self, count: int) -> list[bytes]:
        """Return the first values that a read_committed reader finds, and what comes within a second after them."""
        return [value or b"" for _, value, _ in self.records(count)]

    def records(self, count: int) -> list[tuple[bytes | None, bytes | None, object]]:
        reader = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
            }
        )
        reader.assign([TopicPartition(self.topic, number, 0) for number in range(3)])
        found: list[tuple[bytes | None, bytes | None, object]] = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for record in reader.consume(1000, 0.2):
                assert not record.error(), record.error()
                found.append((record.key(), record.value(), record.headers()))
            if len(found) >= count:
                deadline = min(deadline, time.monotonic() + 1)
        reader.close()
        return found


def stage_of(bootstrap: str, new: Callable[[str], NewTopic]) -> Stage:
    """Make the topic that ``new`` describes, and the producer."""
    topic = f"t-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([new(topic)])[topic].result(30)
    producer = TransactionalProducer(bootstrap, Security(), f"id-{topic}", 10_000)
    producer.init_transactions(30)
    return Stage(bootstrap, topic, f"id-{topic}", producer)
