"""Reading a dataset from where this step stopped to the end named by the step before it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from connectors.runners.bookmark import Place
from connectors.runners.topic import DatasetTopics
from connectors.sdk.errors import InvalidSpec, RangeExpired, Unavailable
from connectors.sdk.record import Batch, DatasetRecord, StreamSchema

_MESSAGES_MAX = 5_000
_SILENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """The dataset a step reads, as the output of the step before it names it."""

    topic: str
    topic_id: str
    generation: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    streams: Mapping[str, StreamSchema]

    @staticmethod
    def of(outputs: Mapping[str, Mapping[str, Any]], step: str) -> "Upstream":
        """Return the one dataset among the outputs of the steps before. Raise InvalidSpec when it is not one."""
        datasets = {name: output for name, output in outputs.items() if output.get("topic")}
        if len(datasets) != 1:
            named = ", ".join(datasets) or "none"
            raise InvalidSpec(
                f"step {step} must come after exactly one step that makes records; it has {named}"
            )
        output = next(iter(datasets.values()))
        return Upstream(
            topic=output["topic"],
            topic_id=output["topic_id"],
            generation=output["generation"],
            starts={int(partition): offset for partition, offset in output["starts"].items()},
            ends={int(partition): offset for partition, offset in output["ends"].items()},
            streams={
                name: StreamSchema(name, stream["schema"], tuple(stream["key_properties"]))
                for name, stream in output["streams"].items()
            },
        )


class DatasetReader:
    """Reads one generation of a dataset, committed records only, up to the ends named by ``upstream``.

    Raises RangeExpired when records between the position and the end are gone (retention, or the topic was made
    anew), Unavailable when Kafka is silent for a minute. ``headers``: records come with theirs.
    """

    def __init__(
        self, place: Place, upstream: Upstream, positions: Mapping[int, int], *, headers: bool = False
    ) -> None:
        self._place = place
        self._upstream = upstream
        self._record = _with_headers if headers else _record
        self.positions = {
            partition: max(positions.get(partition, 0), upstream.starts.get(partition, 0))
            for partition in upstream.ends
        }

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the records in batches cut at offsets that are multiples of ``size``: always at the same places."""
        left = {part: at for part, at in self.positions.items() if at < self._upstream.ends[part]}
        if not left:
            return
        self._check(left)
        consumer = Consumer(
            {
                **self._place.kafka,
                "client.id": f"{self._place.client_id}-reader",
                "group.id": f"{self._place.client_id}-reader",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "enable.sparse.connections": False,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 16_384,
            }
        )
        try:
            consumer.assign([TopicPartition(self._upstream.topic, part, at) for part, at in left.items()])
            yield from self._read(consumer, left, size)
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, left: dict[int, int], size: int) -> Iterator[Batch]:
        ends = self._upstream.ends
        batches = {part: Batch(part, at, min(ends[part], _cut(at, size))) for part, at in left.items()}
        heard = time.monotonic()
        while batches:
            messages = consumer.consume(_MESSAGES_MAX, 0) or _one(consumer.poll(0.5))
            if not messages and time.monotonic() - heard > _SILENCE_S:
                raise Unavailable(f"Kafka gives no records of {self._upstream.topic} for {_SILENCE_S:.0f} s")
            for message in messages:
                heard = time.monotonic()
                partition = message.partition()
                if partition is None or partition not in batches:
                    continue
                # The message says that all before its offset has been seen: markers and holes included.
                at = self._reached(message)
                while (batch := batches.get(partition)) is not None and at >= batch.end:
                    yield batch
                    if batch.end >= ends[partition]:
                        del batches[partition]
                    else:
                        batches[partition] = Batch(
                            partition, batch.end, min(ends[partition], _cut(batch.end, size))
                        )
                if batch is not None and message.error() is None:
                    batch.records.append(self._record(message))

    def _reached(self, message: Message) -> int:
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return message.offset() or 0
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise self._expired()
        raise Unavailable(f"Kafka cannot give records of {self._upstream.topic}: {error.str()}")

    def _check(self, left: Mapping[int, int]) -> None:
        topics = DatasetTopics(self._place.kafka, self._place.client_id)
        facts = topics.describe(self._upstream.topic)
        if facts is None or facts.topic_id != self._upstream.topic_id:
            raise self._expired()
        lows = topics.lows(facts)
        if any(lows[partition] > at for partition, at in left.items()):
            raise self._expired()

    def _expired(self) -> RangeExpired:
        return RangeExpired(
            f"range_expired: records that {self._place.step} has not read yet are no longer in {self._upstream.topic}; "
            "start the pipeline with --full-refresh"
        )


def _cut(offset: int, size: int) -> int:
    return (offset // size + 1) * size


def _one(message: Message | None) -> list[Message]:
    return [] if message is None else [message]


def _record(message: Message) -> DatasetRecord:
    stream = next((value for name, value in list(message.headers() or ()) if name == "stream"), b"")
    name = stream.decode() if isinstance(stream, bytes) else str(stream)
    return DatasetRecord(message.offset() or 0, name, message.key() or b"", message.value() or b"")


def _with_headers(message: Message) -> DatasetRecord:
    offset, stream, key, value, _ = _record(message)
    pairs: Any = message.headers() or ()
    return DatasetRecord(offset, stream, key, value, {name: text.decode() for name, text in pairs})
