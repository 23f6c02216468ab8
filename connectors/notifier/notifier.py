"""Follows the events of alerts and tells the channels they name; what became of it goes back as a command."""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from connectors.follower import Follower, FollowerSettings, event_of, polled
from connectors.notifier.channels import Notice, Undelivered, deliver
from connectors.sdk.commands import CommandEncoder, command_headers
from connectors.sdk.errors import ConnectorError, Unavailable
from connectors.sdk.producer import IDEMPOTENT
from schemas.clients import watched
from schemas.codec import Codec
from schemas.errors import RegistryUnavailable
from schemas.topics import Topics

_log = logging.getLogger(__name__)
_PAUSES_S = (1.0, 3.0, 9.0)
_TOLD = {"flexcore.alert.IncidentOpened": "opened", "flexcore.alert.IncidentResolved": "resolved"}


@dataclass(frozen=True, slots=True)
class NotifierSettings(FollowerSettings):
    """``channels`` maps the names that pipelines use after ``notify:`` to URLs (see :mod:`.channels`)."""

    channels: Mapping[str, str]


class Notifier(Follower):
    """Tells at least once: a notice is told before its offset is committed, and carries the event's id.

    In order for each pipeline; a channel that does not answer is tried four times within about 15 s, then the failure is
    recorded and the next notice comes. Who is added later is not told of the past.
    """

    name = "notifier"
    fails = "alerts are not told"

    def __init__(
        self,
        settings: NotifierSettings,
        codec: Codec,
        send: Callable[[str, Notice], None] = deliver,
        pauses_s: tuple[float, ...] = _PAUSES_S,
    ) -> None:
        super().__init__(settings)
        self._settings = settings
        self._codec = codec
        self._send = send
        self._pauses_s = pauses_s
        self._topics = Topics(settings.prefix)
        self._encoder = CommandEncoder(codec, self._topics, settings.shards)
        self._record: Message | None = None

    def _follow(self) -> None:
        consumer = Consumer(watched(self._member))
        producer = Producer(watched({**self._client, **IDEMPOTENT, "linger.ms": 0}))
        consumer.subscribe([self._topics.events("alert")], on_assign=self._assigned)
        try:
            while not self._stopping.is_set():
                self._turn(consumer, producer)
                producer.poll(0)
        finally:
            consumer.close()

    def _begins(
        self, consumer: Consumer, known: list[TopicPartition], new: list[TopicPartition]
    ) -> list[TopicPartition]:
        """A position is kept from the beginning: who takes over before the first notice must not pass over it."""
        if new:
            consumer.commit(offsets=new, asynchronous=False)
        return [*known, *new]

    def _turn(self, consumer: Consumer, producer: Producer) -> None:
        """Tell of one event. What cannot be told is tried again in the next turn.

        What was told is put away before its offset is kept: a group that has gone on without this member takes it back only
        when it polls. Whoever has the partition by then tells it again.
        """
        try:
            if self._record is None:
                self._record = polled(consumer, 0.5)
            if (record := self._record) is not None:
                self._handle(record, producer)
                self._record = None
                consumer.commit(message=record, asynchronous=False)
            self.problem = None
        except (KafkaException, ConnectorError, RegistryUnavailable) as error:
            self._trouble(error)

    def _handle(self, record: Message, producer: Producer) -> None:
        found = event_of(self._codec, record)
        if found is None:
            return
        name, event = found
        if (about := _TOLD.get(name)) is None or not event["notify"]:
            return
        attempts, failure = self._tell(event["notify"], notice(about, event))
        if self._stopping.is_set() and failure is not None:
            raise Unavailable("the node stops; whoever is next tells it")
        self._note(producer, about, event, attempts, failure)

    def _tell(self, channel: str, told: Notice) -> tuple[int, str | None]:
        """Return how often it was tried, and why it failed if it did."""
        url = self._settings.channels.get(channel)
        if url is None:
            return 0, f"the channel is not set: FLEXCORE_NOTIFY_{channel.upper().replace('-', '_')}"
        attempt = 0
        while True:
            attempt += 1
            try:
                self._send(url, told)
            except Undelivered as error:
                _log.warning("%s: notice %s: %s (attempt %d)", channel, told.id, error, attempt)
                over = error.final or attempt > len(self._pauses_s)
                if over or self._stopping.wait(self._pauses_s[attempt - 1]):
                    return attempt, str(error)
            else:
                return attempt, None

    def _note(
        self, producer: Producer, about: str, event: Mapping[str, Any], attempts: int, failure: str | None
    ) -> None:
        envelope = event["envelope"]
        body = {
            "incident": event["incident"],
            "about": about,
            "channel": event["notify"],
            "attempts": attempts,
            "error": failure,
        }
        command_id = str(uuid.uuid5(uuid.UUID(envelope["event_id"]), event["notify"]))
        headers = command_headers(
            command_id,
            "NoteNotified",
            actor="notifier",
            correlation_id=envelope["correlation_id"],
            causation_id=envelope["event_id"],
        )
        command = self._encoder.encode(
            "alert", envelope["aggregate_id"], "NoteNotified", body, envelope["tenant"], headers
        )
        producer.produce(
            command.topic, command.value, command.key, command.partition, headers=command.headers
        )
        if producer.flush(15.0):
            raise Unavailable("Kafka did not take what became of a notice within 15 s")


def notice(about: str, event: Mapping[str, Any]) -> Notice:
    """Return what is told about an incident that was opened or resolved."""
    envelope = event["envelope"]
    pipeline = envelope["aggregate_id"]
    kind = event.get("on") or event["incident"].partition("-")[0]
    what = event["detail"] if about == "opened" else f"resolved: {event['reason']}"
    hint = f"\nflexcore alert acknowledge {pipeline} {event['incident']}" if about == "opened" else ""
    fields = {
        "about": about,
        "tenant": envelope["tenant"],
        "pipeline": pipeline,
        "incident": event["incident"],
        "on": kind,
        "run_id": event.get("run_id"),
        "at": event["at"],
    }
    subject = f"{pipeline}: {kind}" if about == "opened" else f"{pipeline}: {kind}, resolved"
    return Notice(envelope["event_id"], subject, f"{pipeline}: {what}{hint}", fields)
