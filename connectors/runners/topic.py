"""The Kafka topics of datasets: made when first written, told apart by their ids."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from connectors.sdk.errors import Unavailable
from schemas.offsets import OFFSET_BEGINNING, OFFSET_END, offsets

_T = TypeVar("_T")
PARTITIONS = 4
RETENTION_MS = 7 * 86_400_000
_RECORD_BYTES_MAX = 4 << 20
_TIMEOUT_S = 20.0
_MOMENTARY = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
)


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as Kafka knows it. ``topic_id`` is new when a topic is deleted and made again under its old name."""

    name: str
    topic_id: str
    partitions: tuple[int, ...]


class DatasetTopics:
    """Looks at and makes dataset topics. Every method blocks and raises Unavailable when Kafka does not answer."""

    def __init__(self, kafka: Mapping[str, str], client_id: str, replication: int = -1) -> None:
        settings: dict[str, str | int | float | bool] = {**kafka, "enable.sparse.connections": False}
        self._admin = AdminClient({**settings, "client.id": f"{client_id}-admin"})
        self._consumer = Consumer(
            {
                **settings,
                "client.id": f"{client_id}-offsets",
                "group.id": "flexcore.datasets",
                "isolation.level": "read_uncommitted",
            }
        )
        self._replication = replication

    def describe(self, topic: str) -> TopicFacts | None:
        """Return the topic, or None when there is none of that name."""
        future = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_S)[topic]
        try:
            found = _answer(future)
        except KafkaException as error:
            if error.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                return None
            raise Unavailable(f"Kafka does not describe {topic}: {error.args[0].str()}") from error
        return TopicFacts(topic, str(found.topic_id), tuple(sorted(part.id for part in found.partitions)))

    def ensure(self, topic: str) -> TopicFacts:
        """Return the topic, made with 4 partitions that keep records for 7 days if there was none."""
        found = self.describe(topic)
        if found is not None:
            return found
        config = {
            "cleanup.policy": "delete",
            "retention.ms": str(RETENTION_MS),
            "max.message.bytes": str(_RECORD_BYTES_MAX),
            "compression.type": "producer",
        }
        new = NewTopic(topic, PARTITIONS, self._replication, config=config)
        try:
            _answer(self._admin.create_topics([new], request_timeout=_TIMEOUT_S)[topic])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Unavailable(f"Kafka does not create {topic}: {error.args[0].str()}") from error
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            # A new topic takes a moment until every broker knows it.
            if (found := self.describe(topic)) is not None and len(found.partitions) == PARTITIONS:
                return found
            time.sleep(0.05)
        raise Unavailable(f"the topic {topic} was created but Kafka does not know it yet")

    def ends(self, facts: TopicFacts) -> dict[int, int]:
        """Return the end offset of every partition."""
        return self._offsets(facts, OFFSET_END)

    def lows(self, facts: TopicFacts) -> dict[int, int]:
        """Return the offset of the oldest record that is still kept, by partition."""
        return self._offsets(facts, OFFSET_BEGINNING)

    def _offsets(self, facts: TopicFacts, which: int) -> dict[int, int]:
        spots = [(facts.name, partition) for partition in facts.partitions]
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                found = offsets(self._consumer, spots, which, _TIMEOUT_S)
                return {partition: offset for (_topic, partition), offset in found.items()}
            except KafkaException as error:
                # A topic that was made a moment ago may be without leaders for another moment.
                if error.args[0].code() not in _MOMENTARY or time.monotonic() > deadline:
                    told = f"Kafka does not tell the offsets of {facts.name}: {error.args[0].str()}"
                    raise Unavailable(told) from error
                time.sleep(0.05)


def _answer(future: Future[_T]) -> _T:
    """Return what Kafka says; silence is an error of Kafka's like the others."""
    try:
        return future.result(_TIMEOUT_S)
    except TimeoutError:
        silence = f"no answer within {_TIMEOUT_S:.0f} s"
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, silence)) from None
