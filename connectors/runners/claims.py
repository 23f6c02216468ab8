"""Claiming offers: the offer is consumed exactly when the run is told, in one Kafka transaction."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from connectors.runners.lanes import Held, Lanes
from connectors.runners.offer import Offer
from connectors.runners.settings import RunnerSettings
from connectors.sdk.commands import CommandEncoder, command_headers
from connectors.sdk.errors import ConnectorError
from schemas.clients import watched
from schemas.codec import Codec
from schemas.topics import LANES, Topics

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_LOOK_S = 0.01
_DEPTH_MIN = 64
_KAFKA_TIMEOUT_S = 10.0
_PAUSE_AFTER_ERROR_S = 1.0
_TROUBLE = (KafkaException, ConnectorError, TimeoutError)


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

    It reads ahead, so that it knows whose turn it is (``Lanes``); a lane that holds enough is paused, the others are not.
    While no slot is free it keeps polling, so a long step costs no rebalance.
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
        self._topics = Topics(settings.prefix)
        self._writer = writer
        self._take, self._give_back = take, give_back
        self._expect, self._written = expect, written
        self._stopping = threading.Event()
        self._lanes = Lanes()
        self._depth = max(_DEPTH_MIN, 2 * settings.concurrency)
        self._paused: set[str] = set()
        self._rebalances = 0
        self._lost = False
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
            except _TROUBLE as error:
                self.problem = f"claiming steps: {error}"
                _log.warning("%s", self.problem)
                if self._lost and consumer is not None:
                    consumer.close()
                    consumer = None
                self._stopping.wait(_PAUSE_AFTER_ERROR_S)
        if consumer is not None:
            consumer.close()

    def _joined(self) -> Consumer:
        self._writer.settle()
        consumer = Consumer(
            watched(
                {
                    **self._settings.kafka,
                    "client.id": f"{self._settings.node}-offers",
                    "group.id": f"{self._settings.cluster}.runner",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "earliest",
                    "isolation.level": "read_committed",
                    "session.timeout.ms": 6_000,
                    "heartbeat.interval.ms": 1_500,
                    "fetch.wait.max.ms": 100,
                    "fetch.queue.backoff.ms": 10,  # stock, a lane that was paused would begin again after a second
                    "enable.sparse.connections": False,
                }
            )
        )
        pattern = self._topics.tasks_for(self._settings.labels)
        consumer.subscribe(
            [pattern], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        self._lost = False
        return consumer

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget()
        consumer.assign(partitions)
        consumer.resume(partitions)

    def _revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._forget()

    def _forget(self) -> None:
        """What was read and not claimed is read again by whoever is given the partition."""
        self._rebalances += 1
        self._lanes.drop()
        self._paused.clear()

    def _round(self, consumer: Consumer) -> None:
        slots = self._slots()
        try:
            self._read(consumer, 0.0 if self._lanes else _POLL_S)
        except BaseException:
            self._give_back(slots)
            raise
        turn = self._lanes.take(slots)
        claims = [Claim(held.offer) for held in turn if held.offer is not None]
        self._give_back(slots - len(claims))
        if turn:
            self._claim(consumer, turn, claims)
        self._throttle(consumer)

    def _slots(self) -> int:
        """Return the slots taken; waits a moment for one while there is something to claim."""
        deadline = time.monotonic() + _POLL_S
        while True:
            slots = self._take(self._settings.concurrency)
            if slots or not self._lanes or self._stopping.is_set() or time.monotonic() >= deadline:
                return slots
            self._stopping.wait(_LOOK_S)

    def _read(self, consumer: Consumer, wait_s: float) -> None:
        """Read what is there; wait for the first if there is nothing."""
        first = consumer.poll(wait_s)
        if first is None:
            return
        rebalances = self._rebalances
        rest = consumer.consume(self._depth, 0)
        # Partitions that have moved in between are read again from what is committed: the first may be one of theirs.
        for message in (first, *rest) if rebalances == self._rebalances else rest:
            if message.error() is None:
                topic = message.topic() or ""
                offer = Offer.parse(message.value())
                held = Held(topic, message.partition() or 0, message.offset() or 0, offer)
                self._lanes.put(self._topics.lane_of(topic), held)

    def _throttle(self, consumer: Consumer) -> None:
        """Pause lanes that hold enough, and go on with those that run short: what waits in one must not hide another."""
        for lane in LANES:
            depth, paused = self._lanes.depth(lane), lane in self._paused
            if (paused and depth > self._depth // 2) or (not paused and depth < self._depth):
                continue
            parts = [part for part in consumer.assignment() if self._topics.lane_of(part.topic) == lane]
            (consumer.resume if paused else consumer.pause)(parts)
            self._paused ^= {lane}

    def _claim(self, consumer: Consumer, turn: Sequence[Held], claims: list[Claim]) -> None:
        following = {(held.topic, held.partition): held.offset + 1 for held in turn}
        offsets = [TopicPartition(*place, offset) for place, offset in following.items()]
        committed = False
        try:
            self._expect(claims)
            self._writer.write(claims, consumer, offsets)
            committed = True
        except _TROUBLE:
            # If it cannot be known where to go on from, the group is joined anew, and that asks.
            self._lost = True
            self._lanes.drop(following)
            committed = self._look_up(consumer, offsets)
            self._lost = False
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
