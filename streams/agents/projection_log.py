"""What the log looks like from outside: topic ids, partitions, and where each partition begins and ends."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from schemas.offsets import OFFSET_BEGINNING, OFFSET_END, offsets

T = TypeVar("T")
Spot = tuple[str, int]
TIMEOUT_S = 10.0

# librdkafka's own codes, which the client exposes under private names only.
PARTITION_EOF = -191
AUTO_OFFSET_RESET = -140


class TopicInfo(NamedTuple):
    """A topic's id (a new one when the topic is made anew under the same name) and its number of partitions."""

    id: str
    partitions: int


class Range(NamedTuple):
    """A partition's first offset, and the end of what is decided (the last stable offset)."""

    low: int
    end: int


class Log:
    """Blocking questions to the brokers; each raises ``KafkaException`` when they do not answer in time."""

    def __init__(self, kafka: Mapping[str, str]) -> None:
        self._kafka: dict[str, str | int | float | bool] = {**kafka, "enable.sparse.connections": "false"}
        self._admin = AdminClient(self._kafka)
        self._consumer = self._asker()

    def topics(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        """Return what is known of these topics; those that do not exist are missing."""
        found: dict[str, TopicInfo] = {}
        futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT_S)
        for name, future in futures.items():
            try:
                description: Any = self._answer(future)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                continue
            found[name] = TopicInfo(str(description.topic_id), len(description.partitions))
        return found

    def ranges(self, spots: Iterable[Spot]) -> dict[Spot, Range]:
        """Return where each partition begins and ends."""
        wanted = list(spots)
        try:
            lows = offsets(self._consumer, wanted, OFFSET_BEGINNING, TIMEOUT_S)
            ends = offsets(self._consumer, wanted, OFFSET_END, TIMEOUT_S)
        except KafkaException:
            self._consumer.close()  # it might never get an answer (schemas.clients)
            self._consumer = self._asker()
            raise
        return {spot: Range(lows[spot], ends[spot]) for spot in wanted}

    def _asker(self) -> Consumer:
        settings = {"group.id": "flexcore.projector.log", "isolation.level": "read_committed"}
        return Consumer({**self._kafka, **settings})

    def _answer(self, future: Future[T]) -> T:
        """Return what the brokers say; silence is an error of Kafka's like the others.

        After an error the client is made anew: librdkafka's goes on asking who led before, for minutes.
        """
        try:
            return future.result(TIMEOUT_S)
        except TimeoutError:
            self._admin = AdminClient(self._kafka)
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, f"no answer within {TIMEOUT_S:.0f} s")
            ) from None
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._admin = AdminClient(self._kafka)
            raise


def consumer_settings(kafka: Mapping[str, str], group: str) -> dict[str, Any]:
    """Return the settings of a consumer that keeps its positions elsewhere and sees only what is committed."""
    return {
        **kafka,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "topic.metadata.refresh.interval.ms": 5_000,
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 1_500,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16_384,
    }
