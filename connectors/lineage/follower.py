"""Follows the events of runs and tells an endpoint what they mean for lineage; the log itself is the buffer."""

import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from connectors.follower import Follower, FollowerSettings, event_of, polled
from connectors.lineage.delivery import Endpoint, HttpEndpoint, TopicEndpoint, topic_of
from connectors.lineage.naming import Names
from connectors.lineage.story import RunEvent, Story, identity
from connectors.sdk.errors import Refused, Unavailable
from schemas.clients import watched
from schemas.codec import Codec
from schemas.errors import RegistryUnavailable
from schemas.topics import Topics

_log = logging.getLogger(__name__)
_COMMIT_S = 1.0
_PAUSE_S = 0.5
_PAUSE_MAX_S = 10.0
_RECORD = "flexcore.run."


@dataclass(frozen=True, slots=True)
class LineageSettings(FollowerSettings):
    """``address`` is ``http(s)://…`` or ``topic:NAME``; ``token`` is sent as a bearer token over HTTP."""

    address: str
    token: str = ""
    replication: int = 1

    def endpoint(self) -> Endpoint:
        """Return what the address leads to."""
        topic = topic_of(self.address)
        if topic is None:
            return HttpEndpoint(self.address, self.token)
        name, client_id = Topics(self.prefix).named(topic), f"{self.cluster}-{self.node}-lineage"
        return TopicEndpoint(self.kafka, client_id, name, self.shards, self.replication)


@dataclass(slots=True)
class _Partition:
    """Events before ``told`` are told. ``open`` are the runs that go on, each with the offset it begins at.

    ``known``: all runs that go on are among them; until then what lies before ``told`` is being read again. ``before`` is
    the place before the record in hand, which counts as long as not all of it was sent.
    """

    told: int
    known: bool
    open: dict[tuple[str, str], tuple[int, Story]] = field(default_factory=dict)
    committed: tuple[int, int] | None = None
    before: tuple[int, int] = (0, 0)

    @property
    def place(self) -> tuple[int, int]:
        """Where the next one must begin to read, and from where on it must tell."""
        first = next(iter(self.open.values()), None)
        return (self.told if first is None else first[0]), self.told


class LineageFollower(Follower):
    """Tells at least once, in the order of each run; an event that comes twice is the same to the byte.

    An endpoint that is away is tried for ever, with growing pauses of up to 10 s; what it refuses by itself is logged and
    left out. Committed is the beginning of the oldest run that goes on, and beside it how far was told: so a follower that
    starts anew knows the runs it goes on with. Who is added later is not told of the past.
    """

    name = "lineage"
    fails = "lineage cannot be told"

    def __init__(self, settings: LineageSettings, codec: Codec, endpoint: Endpoint | None = None) -> None:
        super().__init__(settings)
        self.problem = "it has not joined the others yet"
        self.counts = {"sent": 0, "refused": 0, "failed_tries": 0}
        self._codec = codec
        self._topic = Topics(settings.prefix).events("run")
        self._names = Names(settings.cluster, settings.kafka.get("bootstrap.servers", ""), settings.prefix)
        self._endpoint = endpoint or settings.endpoint()
        self._partitions: dict[int, _Partition] = {}
        self._records: deque[Message] = deque()
        self._unsent: deque[tuple[int, RunEvent]] = deque()
        self._failures = 0
        self._commit_at = 0.0

    def _follow(self) -> None:
        consumer = Consumer(watched(self._member))
        consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        try:
            while not self._stopping.is_set():
                self._turn(consumer)
            self._commit(consumer)
        finally:
            consumer.close()
            self._endpoint.close()

    def _turn(self, consumer: Consumer) -> None:
        try:
            if self._unsent:
                self._send()
            elif (record := self._next(consumer)) is not None:
                self._take(record)
                self._records.popleft()
            self._failures = 0
            if self._partitions:
                self.problem = None
        except Unavailable as error:
            self._failures += 1
            self.counts["failed_tries"] += 1
            pause_s = min(_PAUSE_MAX_S, _PAUSE_S * 2 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1)
            _log.warning("lineage is not taken: %s; trying again in %.1f s", error, pause_s)
            self._rest(consumer, pause_s)
        except (KafkaException, RegistryUnavailable) as error:
            self._trouble(error)
        if time.monotonic() >= self._commit_at:
            self._commit(consumer)

    def _next(self, consumer: Consumer) -> Message | None:
        """Return the record to be looked at; it stays until it is done with."""
        if not self._records and (record := polled(consumer, 0.5)) is not None:
            self._records.append(record)
        return self._records[0] if self._records else None

    def _rest(self, consumer: Consumer, pause_s: float) -> None:
        """Wait, as a member of the group that fetches nothing."""
        until = time.monotonic() + pause_s
        while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
            if (held := consumer.assignment()) and self._failures:
                consumer.pause(held)
            record = consumer.poll(min(left, 0.5))
            if record is not None and record.error() is None:
                self._records.append(record)
        if held := consumer.assignment():
            consumer.resume(held)

    # ---------------------------------------------------------------- events
    def _take(self, record: Message) -> None:
        number, offset = record.partition() or 0, record.offset() or 0
        partition = self._partitions.get(number)
        if partition is None:
            return
        partition.before = partition.place
        for event in self._told(partition, record, offset):
            if offset >= partition.told:
                self._unsent.append((number, event))
        if offset >= partition.told:
            partition.told, partition.known = offset + 1, True

    def _told(self, partition: _Partition, record: Message, offset: int) -> Sequence[RunEvent]:
        if (found := event_of(self._codec, record)) is None:
            return ()
        name, body = found
        envelope = body.get("envelope")
        if not name.startswith(_RECORD) or envelope is None:
            return ()
        kind, run = name.removeprefix(_RECORD), (envelope["tenant"], envelope["aggregate_id"])
        if kind == "RunCreated":
            partition.open[run] = (offset, Story(self._names, *run))
        if (begun := partition.open.get(run)) is None:
            return ()
        _, story = begun
        events = story.take(kind, body)
        if story.over:
            del partition.open[run]
        return events

    def _send(self) -> None:
        while self._unsent and not self._stopping.is_set():
            _, event = self._unsent[0]
            try:
                self._endpoint.send(event)
                self.counts["sent"] += 1
            except Refused as error:
                self.counts["refused"] += 1
                _log.error("lineage of run %s (%s) is refused: %s", *identity(event), error)
            self._unsent.popleft()

    # ---------------------------------------------------------------- positions
    def _commit(self, consumer: Consumer) -> None:
        """Say how far was told. What cannot be said now is said the next time."""
        self._commit_at = time.monotonic() + _COMMIT_S
        unsent = {number for number, _ in self._unsent}
        places = {
            number: partition.before if number in unsent else partition.place
            for number, partition in self._partitions.items()
            if partition.known
        }
        now = {
            number: place for number, place in places.items() if place != self._partitions[number].committed
        }
        if not now:
            return
        try:
            consumer.commit(
                offsets=[
                    TopicPartition(self._topic, number, first, str(told))
                    for number, (first, told) in now.items()
                ],
                asynchronous=False,
            )
        except KafkaException as error:
            _log.info("the position of lineage is not kept: %s", error)
            return
        for number, place in now.items():
            self._partitions[number].committed = place

    def _begins(
        self, _consumer: Consumer, known: list[TopicPartition], new: list[TopicPartition]
    ) -> list[TopicPartition]:
        """Return where each partition is read from; whose position is not known begins at its end."""
        for one in new:
            self._partitions[one.partition] = _Partition(one.offset, known=True)
        for one in known:
            first, told = one.offset, int(one.metadata or one.offset)
            self._partitions[one.partition] = _Partition(told, first == told, committed=(first, told))
        return [*known, *new]

    def _revoked(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._commit(consumer)
        self._forget()

    def _lost(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._forget()

    def _forget(self) -> None:
        """Drop everything: the group takes all partitions away before it gives some back."""
        self._partitions.clear()
        self._records.clear()
        self._unsent.clear()
