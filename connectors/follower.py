"""What follows the log for a node: a thread that is one member of a consumer group of all nodes."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas.chain import redaction
from schemas.codec import Codec
from schemas.errors import Undecodable, UnknownSchema
from schemas.offsets import OFFSET_END, offsets

_log = logging.getLogger(__name__)
_TIMEOUT_S = 15.0
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class FollowerSettings:
    """Where the log is, and which node of which cluster follows it."""

    kafka: Mapping[str, str]
    cluster: str
    node: str
    prefix: str = field(default="", kw_only=True)
    shards: int = field(default=8, kw_only=True)


class Follower(ABC):
    """One thread; the followers of a ``name`` on all nodes share the work as one consumer group.

    ``problem`` says why it does not get on, beginning with ``fails``; ``counts`` are since its start. A node that dies is
    noticed after 6 s, and what it had not committed is done by another one.
    """

    name: ClassVar[str]
    fails: ClassVar[str]

    def __init__(self, settings: FollowerSettings) -> None:
        self.problem: str | None = None
        self.counts: dict[str, int] = {}
        self._client: dict[str, Any] = {
            **settings.kafka,
            "client.id": f"{settings.cluster}-{settings.node}-{self.name}",
            "log_level": 3,
        }
        self._member: dict[str, Any] = {
            **self._client,
            "group.id": f"{settings.cluster}.{self.name}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 1_500,
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is in hand; blocking, about 15 s at most."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # noqa: BLE001 - a thread that ends in silence is noticed by nobody
            self.problem = f"{self.fails}, until the node is started anew: {error!r}"
            _log.exception("%s", self.problem)

    @abstractmethod
    def _follow(self) -> None:
        """Follow until ``_stopping`` is set, and close what was opened."""

    @abstractmethod
    def _begins(
        self, consumer: Consumer, known: list[TopicPartition], new: list[TopicPartition]
    ) -> list[TopicPartition]:
        """Return where to begin: ``known`` is where the group has come to, ``new`` the end of what is new to it."""

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """For ``on_assign``: take the partitions up; as long as Kafka does not say where, wait."""
        while not self._stopping.is_set():
            try:
                consumer.assign(self._begins(consumer, *_committed(consumer, partitions)))
            except KafkaException as error:
                self._trouble(error)
            else:
                self.problem = None
                break

    def _trouble(self, error: Exception) -> None:
        """Say what is wrong, and wait a moment before the next try."""
        self.problem = f"{self.fails}: {error}"
        _log.warning("%s; trying again", self.problem)
        self._stopping.wait(_PAUSE_S)


def polled(consumer: Consumer, timeout_s: float) -> Message | None:
    """Return the next record, if one comes in time. Raises KafkaException for what came instead of one."""
    record = consumer.poll(timeout_s)
    if record is not None and (error := record.error()) is not None:
        raise KafkaException(error)
    return record


def event_of(codec: Codec, record: Message) -> tuple[str, dict[str, Any]] | None:
    """Return an event's name and body; None for a redaction of one that was told before, and, logged, for what is none."""
    pairs: Any = record.headers() or []
    if redaction(pairs):
        return None
    try:
        return codec.decode(record.value() or b"")
    except (Undecodable, UnknownSchema) as error:
        place = f"{record.topic()}/{record.partition()}/{record.offset()}"
        _log.warning("%s is no event: %s", place, error)
        return None


def _committed(
    consumer: Consumer, partitions: list[TopicPartition]
) -> tuple[list[TopicPartition], list[TopicPartition]]:
    if not partitions:
        return [], []
    found = consumer.committed(partitions, timeout=_TIMEOUT_S)
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)
    new = [(one.topic, one.partition) for one in found if one.offset < 0]
    ends = offsets(consumer, new, OFFSET_END, _TIMEOUT_S)
    return [one for one in found if one.offset >= 0], [TopicPartition(*place, ends[place]) for place in new]
