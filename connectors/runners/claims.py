"""Claiming offers: the offer is consumed exactly when the run is told, in one Kafka transaction."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from connectors.runners.offer import Offer
from connectors.runners.settings import RunnerSettings
from connectors.sdk.commands import CommandEncoder, command_headers
from connectors.sdk.errors import ConnectorError
from schemas.codec import Codec
from schemas.topics import Topics

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_LOOK_S = 0.01
_PATIENCE_S = 1.0
_KAFKA_TIMEOUT_S = 10.0
_PAUSE_AFTER_ERROR_S = 1.0


@dataclass(slots=True)
class Claim:
    """An offer that is being claimed with ``token``, by the command ``command_id``."""

    offer: Offer
    token: str = field(default_factory=lambda: str(uuid.uuid4()))
    command_id: str = field(default_factory=lambda: str(uuid.uuid4()))


class ClaimWriter:
    """The transactional producer of a node's claims: ``transactional.id = <cluster>/runner/<node>``. Thread-safe."""

    def __init__(self, settings: RunnerSettings, codec: Codec) -> None:
        self._settings = settings
        self._encoder = CommandEncoder(codec, Topics(settings.prefix), settings.shards)
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def write(self, claims: Sequence[Claim], consumer: Consumer, offsets: list[TopicPartition]) -> None:
        """Commit one transaction {claims, offsets}. Raise KafkaException when it is not certain that it committed."""
        with self._lock:
            producer = self._producer or self._made()
            try:
                producer.begin_transaction()
                for claim in claims:
                    self._produce(producer, claim)
                producer.send_offsets_to_transaction(
                    offsets, consumer.consumer_group_metadata(), _KAFKA_TIMEOUT_S
                )
                producer.commit_transaction(_KAFKA_TIMEOUT_S)
            except BaseException:
                # The next producer of this id ends whatever this one left open.
                self._producer = None
                raise

    def settle(self) -> None:
        """End an open or undecided transaction of this id, here or left by an earlier process of this node."""
        with self._lock:
            self._producer = None
            self._made()

    def _made(self) -> Producer:
        producer = Producer(
            {
                **self._settings.kafka,
                "client.id": f"{self._settings.node}-claims",
                "transactional.id": f"{self._settings.cluster}/runner/{self._settings.node}",
                "transaction.timeout.ms": 10_000,
                "linger.ms": 0,
                "retry.backoff.ms": 1,
                "retry.backoff.max.ms": 10,
                "enable.sparse.connections": False,
            }
        )
        producer.init_transactions(_KAFKA_TIMEOUT_S)
        self._producer = producer
        return producer

    def _produce(self, producer: Producer, claim: Claim) -> None:
        offer = claim.offer
        body = {
            "step": offer.step,
            "attempt": offer.attempt,
            "token": claim.token,
            "runner": self._settings.node,
            "labels": ",".join(self._settings.labels),
        }
        headers = command_headers(claim.command_id, "ClaimStep", "runner", correlation_id=offer.run)
        command = self._encoder.encode("run", offer.run, "ClaimStep", body, offer.tenant, headers)
        producer.produce(
            command.topic, command.value, command.key, command.partition, headers=command.headers
        )


class OfferConsumer:
    """Consumes every queue that the runner has the labels for, on a thread of its own, in the group ``<cluster>.runner``.

    Members of the group differ in their labels: each queue is shared out among those that have what it asks for.

    - ``take(wanted)`` grants as many slots as are free, at most ``wanted``; ``give_back(n)`` returns unused ones.
    - ``expect(claims)`` is called before the claims are written and must return when their outcomes cannot be missed.
    - ``written(claims, ok)`` is called after; with ``ok`` False they are certainly not in the log.

    While no slot is free the partitions are paused and the consumer keeps polling, so a long step costs no rebalance.
    """

    def __init__(
        self,
        settings: RunnerSettings,
        writer: ClaimWriter,
        take: Callable[[int], int],
        give_back: Callable[[int], None],
        expect: Callable[[Sequence[Claim]], None],
        written: Callable[[Sequence[Claim], bool], None],
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings.prefix).tasks_for(settings.labels)
        self._group = f"{settings.cluster}.runner"
        self._writer = writer
        self._take, self._give_back = take, give_back
        self._expect, self._written = expect, written
        self._stopping = threading.Event()
        self._paused = False
        self._thread = threading.Thread(target=self._serve, name="offers", daemon=True)
        self.problem: str | None = None

    def start(self) -> None:
        """Join the group."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the group; no claim is written after this returns. Blocks for a few seconds at most."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _serve(self) -> None:
        consumer: Consumer | None = None
        while not self._stopping.is_set():
            try:
                if consumer is None:
                    consumer = self._joined()
                self._round(consumer)
                self.problem = None
            except (KafkaException, ConnectorError) as error:
                self.problem = f"claiming steps: {error}"
                _log.warning("%s", self.problem)
                self._stopping.wait(_PAUSE_AFTER_ERROR_S)
        if consumer is not None:
            consumer.close()

    def _joined(self) -> Consumer:
        self._writer.settle()
        consumer = Consumer(
            {
                **self._settings.kafka,
                "client.id": f"{self._settings.node}-offers",
                "group.id": self._group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 1_500,
                "fetch.wait.max.ms": 100,
                "enable.sparse.connections": False,
            }
        )
        consumer.subscribe([self._topics], on_assign=self._assigned)
        return consumer

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        if self._paused:
            consumer.pause(partitions)

    def _round(self, consumer: Consumer) -> None:
        slots = self._slots()
        self._pause(consumer, slots == 0)
        messages: list[Message] = []
        try:
            first = consumer.poll(_POLL_S)
            if first is not None and slots:
                messages = [first, *(consumer.consume(slots - 1, 0) if slots > 1 else ())]
        except BaseException:
            self._give_back(slots)
            raise
        offered = [message for message in messages if message.error() is None]
        claims = [
            Claim(offer)
            for offer in (Offer.parse(message.value()) for message in offered)
            if offer is not None
        ]
        self._give_back(slots - len(claims))
        if offered:
            self._claim(consumer, offered, claims)

    def _slots(self) -> int:
        """Return the slots taken; waits a moment for one, unless the partitions are paused already.

        After a resume librdkafka may take a second to fetch again: short steps must not pay that after every few.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            slots = self._take(self._settings.concurrency)
            if slots or self._paused or self._stopping.is_set() or time.monotonic() >= deadline:
                return slots
            self._stopping.wait(_LOOK_S)

    def _pause(self, consumer: Consumer, pause: bool) -> None:
        if pause != self._paused:
            self._paused = pause
            (consumer.pause if pause else consumer.resume)(consumer.assignment())

    def _claim(self, consumer: Consumer, messages: list[Message], claims: list[Claim]) -> None:
        following: dict[tuple[str, int], int] = {}
        for message in messages:
            following[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        offsets = [TopicPartition(*place, offset) for place, offset in following.items()]
        committed = False
        try:
            self._expect(claims)
            self._writer.write(claims, consumer, offsets)
            committed = True
        except (KafkaException, ConnectorError):
            committed = self._look_up(consumer, offsets)
            raise
        finally:
            self._written(claims, committed)

    def _look_up(self, consumer: Consumer, offsets: list[TopicPartition]) -> bool:
        """After an unclear transaction: settle it, ask what is committed, and read on from there."""
        self._writer.settle()
        partitions = [TopicPartition(part.topic, part.partition) for part in offsets]
        committed = consumer.committed(partitions, timeout=_KAFKA_TIMEOUT_S)
        found = {(part.topic, part.partition): part.offset for part in committed}
        assigned = {(part.topic, part.partition) for part in consumer.assignment()}
        for part in offsets:
            if (part.topic, part.partition) in assigned:
                # No offset yet: -1001 is librdkafka's "beginning" minus one, so it is said in words.
                at = found[part.topic, part.partition]
                low = consumer.get_watermark_offsets(part, timeout=_KAFKA_TIMEOUT_S)[0] if at < 0 else at
                consumer.seek(TopicPartition(part.topic, part.partition, low))
        return all(found[part.topic, part.partition] >= part.offset for part in offsets)
