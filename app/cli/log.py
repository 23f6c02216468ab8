"""Reading the log itself, for proofs: a consumer of one's own, committed records only, no counter of the product."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from app.cli.failure import Failed
from app.errors import EXIT_TIMEOUT
from schemas.codec import Codec
from schemas.errors import FlexcoreSchemaError
from schemas.offsets import OFFSET_BEGINNING, OFFSET_END, offsets
from schemas.topics import Topics
from streams.proof.record import LogRecord

_TIMEOUT_S = 30.0
_BATCH = 1_000
Spot = tuple[str, int]


@dataclass(slots=True)
class Log:
    """The brokers as one reader sees them; ``next`` is where each partition is read on."""

    kafka: Mapping[str, str]
    codec: Codec
    next: dict[Spot, int] = field(default_factory=dict)
    # Kept: an admin client that is collected takes its unanswered futures with it.
    admin: AdminClient = field(init=False)
    asker: Consumer = field(init=False)
    # One for all that is read, partition after partition: to connect anew each time costs more than a short read.
    reader: Consumer = field(init=False)
    _heard_of: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.admin = AdminClient({**self.kafka, "log_level": 2})
        self.asker = Consumer(
            {
                **self.kafka,
                "log_level": 2,
                "group.id": "flexcore.verify",
                "isolation.level": "read_uncommitted",
            }
        )
        self.reader = Consumer(
            {
                **self.kafka,
                "group.id": "flexcore.verify",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,  # its end is what is waited for
            }
        )

    def topics(self) -> dict[str, int]:
        """Return every topic with its number of partitions. Raises :class:`Failed` when no broker answers."""
        try:
            found = self.admin.list_topics(timeout=10).topics
        except KafkaException as error:
            hosts = self.kafka.get("bootstrap.servers", "")
            message = f"Kafka at {hosts} does not answer: {error.args[0].str()}"
            raise Failed(message, hint="flexcore dev status, or set FLEXCORE_KAFKA_BOOTSTRAP") from None
        return {name: len(topic.partitions) for name, topic in found.items()}

    def topic_ids(self, names: Sequence[str]) -> dict[str, str]:
        """Return Kafka's id of each topic that exists."""
        ids = {}
        for name, future in self.admin.describe_topics(TopicCollection([*names])).items():
            try:
                ids[name] = str(future.result(_TIMEOUT_S).topic_id)
            except KafkaException:
                continue  # it does not exist: whoever asked sees that it is not in the answer
        return ids

    def starts(self, spots: Sequence[Spot]) -> dict[Spot, int]:
        """Return where partitions begin."""
        return offsets(self.asker, spots, OFFSET_BEGINNING, _TIMEOUT_S)

    def ends(self, spots: Sequence[Spot]) -> dict[Spot, int]:
        """Return where partitions end, open transactions included."""
        return offsets(self.asker, spots, OFFSET_END, _TIMEOUT_S)

    def committed(self, group: str, spots: Sequence[Spot]) -> dict[Spot, str]:
        """Return the metadata committed with a group's offsets, where there is any."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*spot) for spot in spots])
        found = self.admin.list_consumer_group_offsets([asked])[group].result(_TIMEOUT_S)
        return {(one.topic, one.partition): one.metadata for one in found.topic_partitions if one.metadata}

    def read(self, topics: Mapping[str, int], starts: Mapping[Spot, int] | None = None) -> Iterator[Message]:
        """Yield every committed record written until now, each once over all calls; from ``starts`` where given.

        Raises :class:`Failed` (exit code 5) when an undecided transaction keeps an end out of reach for 30 s.
        """
        spots = [(topic, partition) for topic, count in topics.items() for partition in range(count)]
        lows = self.starts([spot for spot in spots if spot not in self.next])
        for spot, low in lows.items():
            self.next[spot] = max(low, (starts or {}).get(spot, 0))
        ends = self.ends(spots)
        waiting = {spot: ends[spot] for spot in spots if ends[spot] > self.next[spot]}
        if waiting:
            yield from self._consume(waiting)

    def partition(self, topic: str, number: int) -> Iterator[LogRecord]:
        """Yield every committed record of one partition written until now."""
        spot = (topic, number)
        start, end = self.starts([spot])[spot], self.ends([spot])[spot]
        self.next[spot] = start
        if end > start:
            yield from map(self.decoded, self._consume({spot: end}))

    def aggregates(self, topics: Topics, known: Mapping[str, int]) -> dict[str, int]:
        """Return the aggregates that have a log, with the number of their shards. Raises :class:`Failed` for none."""
        found = {
            name.removeprefix(topics.prefix).removesuffix(".events"): count
            for name, count in known.items()
            if name.startswith(topics.prefix) and name.endswith(".events")
        }
        if not found:
            where = f"topics beginning with {topics.prefix!r}" if topics.prefix else "topics"
            hint = "flexcore dev up, or set FLEXCORE_TOPIC_PREFIX"
            raise Failed(f"there is no log among the {where}", hint=hint)
        return found

    def _consume(self, waiting: dict[Spot, int]) -> Iterator[Message]:
        consumer = self.reader
        if new := {topic for topic, _ in waiting} - self._heard_of:
            consumer.list_topics(timeout=_TIMEOUT_S)  # a topic it has never heard of would cost it a second
            self._heard_of |= new
        consumer.assign(
            [TopicPartition(topic, partition, self.next[topic, partition]) for topic, partition in waiting]
        )
        deadline = time.monotonic() + _TIMEOUT_S
        try:
            while waiting:
                first = consumer.poll(0.2)  # consume() alone would wait until there are so many
                for message in () if first is None else (first, *consumer.consume(_BATCH, 0)):
                    spot = (message.topic() or "", message.partition() or 0)
                    offset = message.offset() or 0
                    error = message.error()
                    if error is None:
                        deadline = time.monotonic() + _TIMEOUT_S
                        self.next[spot] = offset + 1
                        yield message
                    elif error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    elif offset >= waiting.get(spot, 0):
                        waiting.pop(spot, None)
                        self.next[spot] = max(offset, self.next[spot])
                if time.monotonic() > deadline:
                    raise _held_up(waiting)
        finally:
            consumer.unassign()

    def decoded(self, message: Message) -> LogRecord:
        """Return the record as the proof wants it; what cannot be decoded has an empty body and says why as name."""
        try:
            name, body = self.codec.decode(message.value() or b"")
        except FlexcoreSchemaError as error:
            name, body = str(error), {}
        raw: Any = message.headers() or []
        headers = {key: value or b"" for key, value in raw}
        return LogRecord(
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
            message.key() or b"",
            message.value() or b"",
            headers,
            name,
            body,
        )


def _held_up(waiting: Mapping[Spot, int]) -> Failed:
    topic, partition = min(waiting)
    return Failed(
        f"{topic}/{partition} cannot be read to its end: a transaction on it is undecided",
        hint="wait for transaction.timeout.ms; if it stays, kafka-transactions --find-hanging names it",
        exit_code=EXIT_TIMEOUT,
    )


def progress(show: bool, say: Callable[[str], None], every: int = 50_000) -> Callable[[int], None]:
    """Return a function that says how many records were read, now and then."""

    def tell(count: int) -> None:
        if show and count % every == 0:
            say(f"{count:,} records read")

    return tell
