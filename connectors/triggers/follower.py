"""Follows the events of users and starts the pipelines that listen to them."""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from connectors.follower import Follower, FollowerSettings
from connectors.sdk.commands import CommandEncoder, EncodedCommand, command_headers
from connectors.sdk.errors import ConnectorError, InvalidSpec, Unavailable
from connectors.sdk.producer import IDEMPOTENT
from connectors.triggers.cloudevent import NoEvent, read_event, tenant_of
from connectors.triggers.listening import Listener, Listeners, ListeningReader
from schemas.clients import watched
from schemas.codec import Codec
from schemas.errors import FlexcoreSchemaError
from schemas.offsets import offsets_at
from schemas.topics import Topics

_log = logging.getLogger(__name__)
_BATCH = 200
_WAIT_S = 0.2
_IDLE_S = 0.5
_TIMEOUT_S = 15.0
_COMMAND_BYTES_MAX = 1 << 20

Asks = Callable[[str | None, Mapping[str, Any]], dict[str, Any] | None]
"""``asks(filter, event)``: the body of StartRun for an event that passes, or None. Raises ValueError when the filter fails."""


@dataclass(frozen=True, slots=True)
class TriggerSettings(FollowerSettings):
    """``make`` makes the topics of these names of events where they are not there yet; it blocks, and may raise."""

    asks: Asks
    make: Callable[[Sequence[str]], None]


class TriggerFollower(Follower):
    """Follows the topics that somebody listens to, and starts the pipelines whose filters hold.

    Each event starts a pipeline at most once, since the run's id follows from the event's source and id, and at least
    once: offsets are committed after Kafka has the commands on all in-sync replicas. Before events are looked at, all that
    pipelines had said by then is read, so an event that was sent after a file was applied finds its listener. A filter that
    fails, and a record that is no CloudEvent, is logged, counted and passed over.
    """

    name = "triggers"
    fails = "events start no runs"

    def __init__(self, settings: TriggerSettings, codec: Codec) -> None:
        super().__init__(settings)
        self.counts = {"events": 0, "started": 0, "failed_filters": 0, "unreadable": 0, "too_large": 0}
        self._settings = settings
        self._topics = Topics(settings.prefix)
        self._encoder = CommandEncoder(codec, self._topics, settings.shards)
        self._listeners = Listeners(codec)
        self._listening: ListeningReader
        self._consumer: Consumer | None = None
        self._producer: Producer
        self._subscribed: frozenset[str] = frozenset()
        self._batch: list[Message] = []

    # ---------------------------------------------------------------- the loop
    def _follow(self) -> None:
        topic = self._topics.events("pipeline")
        self._listening = ListeningReader(self._client, topic, self._settings.shards, self._listeners)
        try:
            while not self._stopping.is_set():
                try:
                    self._turn()
                    self.problem = None
                except (KafkaException, ConnectorError, FlexcoreSchemaError) as error:
                    self._trouble(error)
        finally:
            self._listening.close()
            if self._consumer is not None:
                self._consumer.close()

    def _turn(self) -> None:
        self._listening.read(0.0 if self._subscribed else _IDLE_S)
        if frozenset(self._listeners.by_name) != self._subscribed:
            self._listening.catch_up()
            self._subscribe(frozenset(self._listeners.by_name))
        if self._consumer is None:
            return
        self._producer.poll(0)
        if not self._subscribed:
            self._consumer.poll(0)
            return
        if not self._batch:
            self._fetch(self._consumer)
        if self._batch:
            self._handle(self._batch)
            done, self._batch = self._batch, []
            # Whoever has the partitions when this fails begins again: it starts nothing twice.
            self._consumer.commit(offsets=_after(done), asynchronous=False)

    def _fetch(self, consumer: Consumer) -> None:
        if (first := consumer.poll(_WAIT_S)) is None:
            return
        fetched = [first, *consumer.consume(_BATCH, 0)]
        self._batch = [record for record in fetched if record.error() is None]
        for error in (record.error() for record in fetched):
            # A topic that was just made may not be known everywhere yet.
            if error is not None and error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(error)

    def _subscribe(self, names: frozenset[str]) -> None:
        if self._consumer is None:
            self._consumer, self._producer = self._clients()
        self._settings.make(sorted(names - self._subscribed))
        if names:
            topics = [self._topics.user_events(name) for name in sorted(names)]
            self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked)
        else:
            self._consumer.unsubscribe()
        self._subscribed = names

    def _clients(self) -> tuple[Consumer, Producer]:
        sends = {**IDEMPOTENT, "linger.ms": 1, "message.max.bytes": 2 * _COMMAND_BYTES_MAX}
        return Consumer(watched(self._member)), Producer(watched({**self._client, **sends}))

    def _begins(
        self, consumer: Consumer, known: list[TopicPartition], new: list[TopicPartition]
    ) -> list[TopicPartition]:
        """Begin where the group has come to; on a topic that is new to it, when the first pipeline began to listen."""
        ends = {(one.topic, one.partition): one.offset for one in new}
        found = offsets_at(consumer, {place: self._since(place[0]) for place in ends}, _TIMEOUT_S)
        # Where there is none, what has come since the ends were asked for is behind them.
        begins = {place: offset if offset >= 0 else ends[place] for place, offset in found.items()}
        return [*known, *(TopicPartition(*place, offset) for place, offset in begins.items())]

    def _since(self, topic: str) -> int:
        listeners = self._listeners.by_name.get(self._name(topic), {})
        return min((listener.since for listener in listeners.values()), default=0)

    def _name(self, topic: str) -> str:
        return topic.removeprefix(self._topics.user_events(""))

    def _revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._batch = []

    # ---------------------------------------------------------------- events
    def _handle(self, records: Sequence[Message]) -> None:
        """Send what the events start, and wait until Kafka has it."""
        self._listening.catch_up()
        lost: list[KafkaError] = []

        def delivered(error: KafkaError | None, _record: Message) -> None:
            if error is not None:
                lost.append(error)

        started = 0
        for record in records:
            for command in self._commands(record):
                where = (command.topic, command.value, command.key, command.partition)
                self._producer.produce(*where, delivered, headers=command.headers)
                started += 1
        if self._producer.flush(_TIMEOUT_S):
            raise Unavailable("Kafka did not take the starts of runs within 15 s")
        if lost:
            raise KafkaException(lost[0])
        self.counts["events"] += len(records)
        self.counts["started"] += started

    def _commands(self, record: Message) -> list[EncodedCommand]:
        pairs: Any = record.headers() or []
        tenant, at = tenant_of(pairs), record.timestamp()[1]
        listeners = [
            one
            for one in self._listeners.by_name.get(self._name(record.topic() or ""), {}).values()
            if one.tenant == tenant and one.since <= at
        ]
        if not listeners:
            return []
        place = f"{record.topic()}/{record.partition()}/{record.offset()}"
        try:
            event = read_event(pairs, record.value())
        except NoEvent as error:
            self.counts["unreadable"] += 1
            _log.warning("%s is no CloudEvent, and starts nothing: %s", place, error)
            return []
        found = [(one, self._start(one, event, place)) for one in listeners]
        commands = [self._command(one, start, event) for one, start in found if start is not None]
        if any(len(command.value) > _COMMAND_BYTES_MAX for command in commands):
            self.counts["too_large"] += 1
            _log.warning("event %s has more than 1 MB, and starts nothing: send a reference", place)
            return []
        return commands

    def _start(self, listener: Listener, event: Mapping[str, Any], place: str) -> dict[str, Any] | None:
        try:
            return self._settings.asks(listener.filter, event)
        except ValueError as error:
            self.counts["failed_filters"] += 1
            _log.warning("the filter of pipeline %s fails for event %s: %s", listener.pipeline, place, error)
            return None

    def _command(self, listener: Listener, start: dict[str, Any], event: Mapping[str, Any]) -> EncodedCommand:
        name = f"{listener.tenant}/{listener.pipeline}/{start['key']}"
        command_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        headers = command_headers(
            command_id, "StartRun", "trigger", correlation_id=command_id, traceparent=event.get("traceparent")
        )
        try:
            return self._encoder.encode(
                "pipeline", listener.pipeline, "StartRun", start, listener.tenant, headers
            )
        except InvalidSpec as error:
            raise Unavailable(f"a start of {listener.pipeline} cannot be written: {error}") from error


def _after(records: Sequence[Message]) -> list[TopicPartition]:
    ends = {(record.topic() or "", record.partition() or 0): (record.offset() or 0) + 1 for record in records}
    return [TopicPartition(*place, end) for place, end in ends.items()]
