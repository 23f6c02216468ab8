"""Everything the writer puts on a topic, as bytes: the one place that builds envelopes, outcomes and their headers."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import orjson

from schemas import envelope as envelopes
from schemas import topics as names
from schemas.catalogue import Catalogue
from schemas.codec import Codec, header
from schemas.numbers import zigzag
from schemas.outcome import Answer, outcome
from schemas.partitioning import partition_of
from schemas.topics import Topics, key_of
from streams.domain.aggregate import Aggregate, Message, Send, TaskOffer
from streams.translation import to_record
from streams.writer.identity import derived, uuid_bytes

Headers = list[tuple[str, bytes]]


# A record to be produced: topic, value, key, partition, headers. A plain tuple, because there are two per command.
Produced = tuple[str, bytes, bytes, int, Headers]


def body_hash(command_type: str, body: Any) -> str:
    """Return the hash of a command's decoded body: equal for Avro and JSON, whatever the order of fields."""
    canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(command_type.encode() + canonical, digest_size=8).hexdigest()


class Encoder:
    """Encodes for one aggregate. ``writer`` is the transactional id that signs every event."""

    def __init__(
        self,
        aggregate: Aggregate,
        catalogue: Catalogue,
        codec: Codec,
        topics: Topics,
        cluster: str,
        writer: str,
    ) -> None:
        name = aggregate.name
        self.events_topic = topics.events(name)
        self.outcomes_topic = topics.outcomes(name)
        self._name = name
        self._writer_text = envelopes.text(writer)
        self._writer_bytes = writer.encode()
        self._events = {
            kind: codec.event_encoder(
                f"{name}.events-flexcore.{name}.{kind.__name__}",
                catalogue.schema(f"flexcore.{name}.{kind.__name__}"),
            )
            for kind in aggregate.events
        }
        subject, schema = (
            f"{name}.outcomes-flexcore.common.Outcome",
            catalogue.schema("flexcore.common.Outcome"),
        )
        self._outcome_prefix = header(codec.registry.register(subject, schema))
        source = f"/{cluster}/{name}".encode()
        self._fixed: dict[type, Headers] = {
            kind: [
                ("ce_specversion", b"1.0"),
                ("ce_source", source),
                ("ce_type", kind.__name__.encode()),
                ("content-type", b"application/avro"),
                ("writer", self._writer_bytes),
            ]
            for kind in aggregate.events
        }
        self._time = (-1, b"", b"")

    def cause(
        self, message: Message, causation_id: str, source_offset: int, traceparent: str | None = None
    ) -> "Cause":
        """Return what all events of a command say about their origin, encoded once."""
        command_id = envelopes.text(message.command_id)
        correlation_id = envelopes.text(message.correlation_id)
        actor = envelopes.text(message.actor)
        rfc3339, at = self._clock(message.now)
        headers = [
            (names.COMMAND_ID, message.command_id.encode()),
            (names.CAUSATION_ID, causation_id.encode()),
            (names.CORRELATION_ID, message.correlation_id.encode()),
            (names.ACTOR, message.actor.encode()),
            ("source-offset", b"%d" % source_offset),
            ("ce_time", rfc3339),
        ]
        if traceparent:
            headers.append((names.TRACEPARENT, traceparent.encode()))
        causation = envelopes.text(causation_id)
        whence = envelopes.origin(
            command_id, causation, correlation_id, actor, source_offset, self._writer_text, at, traceparent
        )
        whose = envelopes.place(message.tenant, self._name, message.aggregate_id)
        return Cause(
            uuid_bytes(message.command_id),
            source_offset,
            traceparent,
            whose,
            whence,
            headers,
            command_id,
            actor + correlation_id + at,
        )

    def event(
        self, event: Any, key: bytes, shard: int, version: int, sequence: int, index: int, cause: "Cause"
    ) -> tuple[str, Produced]:
        """Return the event's id and record. The id is derived from the command's, so a retry repeats it."""
        event_id = derived(cause.command_uuid, str(index))
        event_id_bytes = event_id.encode()
        kind = type(event)
        envelope = envelopes.envelope(event_id_bytes, cause.whose, version, sequence, cause.whence)
        value = self._events[kind](envelope, to_record(event))
        headers = [
            *self._fixed[kind],
            *cause.headers,
            ("ce_id", event_id_bytes),
            ("ce_subject", key),
            ("sequence", b"%d" % sequence),
            ("version", b"%d" % version),
        ]
        name = b"%b/%020d/%b" % (key, version, event_id_bytes)
        return event_id, (self.events_topic, value, name, shard, headers)

    def outcome(
        self, cause: "Cause", command: "Answered", numbers: tuple[int, int, int, int, int], answer: Answer
    ) -> Produced:
        """Return the outcome's record; its key is the command id. ``numbers``: see :func:`schemas.outcome.outcome`."""
        value = self._outcome_prefix + outcome(
            cause.command_id,
            command.kind,
            cause.whose,
            answer,
            numbers,
            command.body_hash,
            cause.who_and_when,
        )
        return self.answer(cause.headers[0][1], value, numbers[2], cause.headers[4][1])

    def answer(
        self, command_id: bytes, value: bytes, shard: int, source_offset: bytes, replayed: bool = False
    ) -> Produced:
        """Return the record of outcome bytes that exist already. A replayed one takes no sequence of its own."""
        headers = [
            (names.COMMAND_ID, command_id),
            ("source-offset", source_offset),
            ("writer", self._writer_bytes),
        ]
        if replayed:
            headers.append(("replayed", b"1"))
        return (self.outcomes_topic, value, command_id, shard, headers)

    def _clock(self, ms: int) -> tuple[bytes, bytes]:
        """Return a time as RFC 3339 and as an Avro long."""
        if self._time[0] != ms:
            # The records of a batch share their append time, so one formatting serves them all.
            told = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
            self._time = (ms, told.replace("+00:00", "Z").encode(), zigzag(ms))
        return self._time[1], self._time[2]


class Answered(Protocol):
    """A command as far as its outcome names it."""

    @property
    def kind(self) -> str:
        """The record's name."""

    @property
    def body_hash(self) -> str:
        """The hash of its body."""


class Cause(NamedTuple):
    """Why a command is decided, as the events say it: made by :meth:`Encoder.cause`."""

    command_uuid: bytes
    source_offset: int
    traceparent: str | None
    whose: bytes
    whence: bytes
    headers: Headers
    command_id: bytes
    who_and_when: bytes


class EffectEncoder:
    """Encodes follow-up commands and task offers, for all aggregates."""

    def __init__(
        self,
        aggregates: tuple[Aggregate, ...],
        catalogue: Catalogue,
        codec: Codec,
        topics: Topics,
        shards: int,
    ) -> None:
        self._topics = topics
        self._shards = shards
        self._commands: dict[tuple[str, type], Callable[[dict[str, Any]], bytes]] = {
            (aggregate.name, kind): _encoder(
                codec, catalogue, f"{aggregate.name}.commands", f"flexcore.{aggregate.name}.{kind.__name__}"
            )
            for aggregate in aggregates
            for kind in aggregate.commands
        }

    def command(
        self, send: Send, message: Message, event_id: str, index: int, traceparent: str | None
    ) -> Produced:
        """Return the follow-up command; its id is derived from the event that caused it."""
        key = key_of(message.tenant, send.aggregate_id)
        command_id = derived(uuid_bytes(event_id), f"{send.aggregate}/{index}")
        kind = type(send.body)
        headers = [
            (names.COMMAND_ID, command_id.encode()),
            (names.COMMAND_TYPE, kind.__name__.encode()),
            (names.CAUSATION_ID, event_id.encode()),
            (names.CORRELATION_ID, message.correlation_id.encode()),
            (names.ACTOR, message.actor.encode()),
        ]
        if traceparent:
            headers.append((names.TRACEPARENT, traceparent.encode()))
        value = self._commands[send.aggregate, kind](to_record(send.body))
        return (self._topics.commands(send.aggregate), value, key, partition_of(key, self._shards), headers)

    def offer(self, offer: TaskOffer, message: Message, event_id: str) -> Produced:
        """Return the task offer as JSON, on its queue's topic."""
        key = offer.key.encode()
        headers = [
            (names.CAUSATION_ID, event_id.encode()),
            (names.CORRELATION_ID, message.correlation_id.encode()),
            (names.ACTOR, message.actor.encode()),
        ]
        value = orjson.dumps(offer.task)
        return (self._topics.tasks(offer.queue), value, key, partition_of(key, self._shards), headers)


def _encoder(
    codec: Codec, catalogue: Catalogue, topic: str, fullname: str
) -> Callable[[dict[str, Any]], bytes]:
    return codec.encoder(f"{topic}-{fullname}", catalogue.schema(fullname))
