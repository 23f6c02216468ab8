"""Everything the writer puts on a topic, as bytes: the one place that builds envelopes, outcomes and their headers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from schemas import envelope as envelopes
from schemas import topics as names
from schemas.catalogue import Catalogue
from schemas.chain import CHAIN, link
from schemas.codec import Codec, header
from schemas.compiled import EncodeEvent
from schemas.envelope import sized
from schemas.numbers import zigzag
from schemas.outcome import Answer, outcome
from schemas.partitioning import partition_of
from schemas.topics import Topics, key_of
from streams.domain.aggregate import Aggregate, Send, TaskOffer
from streams.shards.identity import derived, uuid_bytes
from streams.translation import fullname, to_record
from streams.writer.command import Command

Headers = list[tuple[str, bytes]]
# Pairs that many records have are made once.
_NO_CAUSE: Final = (names.CAUSATION_ID, b"")


# A record to be produced: topic, value, key, partition, headers. A plain tuple, because there are two per command.
Produced = tuple[str, bytes, bytes, int, Headers]


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
        self._events_topic = topics.events(name)
        self._outcomes_topic = topics.outcomes(name)
        self._aggregate = name
        self._name = envelopes.text(name)
        self._writer = writer.encode()
        self._written_by = ("writer", self._writer)
        self._writer_text = envelopes.text(writer)
        source = f"/{cluster}/{name}".encode()
        self._kinds: dict[type, tuple[EncodeEvent, Headers]] = {
            kind: (
                codec.event_encoder(
                    f"{name}.events-{fullname(name, kind)}", catalogue.schema(fullname(name, kind))
                ),
                [
                    ("ce_specversion", b"1.0"),
                    ("ce_source", source),
                    ("ce_type", kind.__name__.encode()),
                    ("content-type", b"application/avro"),
                    self._written_by,
                ],
            )
            for kind in aggregate.events
        }
        subject = f"{name}.outcomes-flexcore.common.Outcome"
        schema = catalogue.schema("flexcore.common.Outcome")
        self._outcome_prefix = header(codec.registry.register(subject, schema))
        self._command_types = {kind: envelopes.text(kind.__name__) for kind in aggregate.commands}
        self._now = -1
        self._time_told, self._time = ("ce_time", b""), b""

    def cause(self, command: Command, key: bytes, source_offset: int) -> "Cause":
        """Return what all records of a command say about their origin, encoded once."""
        message, traceparent = command.message, command.traceparent
        command_id, causation_id = command.command_id, command.causation_id
        correlation_id, actor = command.correlation_id, command.actor
        if message.now != self._now:
            self._clock(message.now)
        headers = [
            (names.COMMAND_ID, command_id),
            (names.CAUSATION_ID, causation_id) if causation_id else _NO_CAUSE,
            (names.CORRELATION_ID, correlation_id),
            (names.ACTOR, actor),
            ("source-offset", b"%d" % source_offset),
            self._time_told,
        ]
        if traceparent:
            headers.append((names.TRACEPARENT, traceparent))
        at = self._time
        tenant, _, aggregate_id = key.partition(b"/")
        whose = envelopes.place(tenant, self._name, aggregate_id)
        id_text, actor_text = sized(command_id), sized(actor)
        correlation_text = id_text if correlation_id is command_id else sized(correlation_id)
        whence = envelopes.origin(
            id_text,
            causation_id,
            correlation_text,
            actor_text,
            source_offset,
            self._writer_text,
            at,
            traceparent,
        )
        return Cause(
            uuid_bytes(message.command_id),
            whose,
            whence,
            headers,
            id_text,
            actor_text + correlation_text + at,
        )

    def event(
        self,
        event: Any,
        key: bytes,
        shard: int,
        numbers: tuple[int, int, int],
        cause: "Cause",
        previous: bytes,
    ) -> tuple[str, bytes, Produced]:
        """Return the event's id, chain and record. The id is derived from the command's, so a retry repeats it, and from
        whose event it is: a command id counts within its aggregate.

        ``numbers`` are version, sequence and index among the command's events; ``previous`` is the chain of the
        aggregate's event before it.
        """
        version, sequence, index = numbers
        event_id = derived(cause.command_uuid, f"{self._aggregate}/{key.decode()}/{index}")
        raw_id = event_id.encode()
        encode, fixed = self._kinds[type(event)]
        value = encode(envelopes.envelope(raw_id, cause.whose, version, sequence, cause.whence), event)
        record_key = b"%b/%020d/%b" % (key, version, raw_id)
        chain = link(previous, record_key, value)
        headers = [
            *fixed,
            *cause.headers,
            ("ce_id", raw_id),
            ("ce_subject", key),
            ("sequence", b"%d" % sequence),
            ("version", b"%d" % version),
            (CHAIN, chain),
        ]
        return event_id, chain, (self._events_topic, value, record_key, shard, headers)

    def outcome(
        self, cause: "Cause", command: Command, numbers: tuple[int, int, int, int, int], answer: Answer
    ) -> Produced:
        """Return the outcome's record; its key is the command id. ``numbers``: see :func:`schemas.outcome.outcome`."""
        value = self._outcome_prefix + outcome(
            cause.command_id,
            self._command_types[type(command.message.body)],
            cause.whose,
            answer,
            numbers,
            command.body_hash,
            cause.who_and_when,
        )
        told = [cause.headers[0], cause.headers[4], self._written_by]
        return (self._outcomes_topic, value, command.command_id, numbers[2], told)

    def again(self, command: Command, value: bytes, shard: int, source_offset: int) -> Produced:
        """Return the record of an outcome that was given before. It takes no sequence of its own."""
        headers = [
            (names.COMMAND_ID, command.command_id),
            ("source-offset", b"%d" % source_offset),
            self._written_by,
            ("replayed", b"1"),
        ]
        return (self._outcomes_topic, value, command.command_id, shard, headers)

    def _clock(self, ms: int) -> None:
        """Note a time as RFC 3339 and as an Avro long: records of a batch share their append time."""
        told = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
        self._now, self._time = ms, zigzag(ms)
        self._time_told = ("ce_time", told.replace("+00:00", "Z").encode())


class Cause:
    """Why a command is decided, as its records say it: made by :meth:`Encoder.cause`. Read only, as ``Command`` is."""

    __slots__ = ("command_id", "command_uuid", "headers", "whence", "who_and_when", "whose")

    def __init__(
        self,
        command_uuid: bytes,
        whose: bytes,
        whence: bytes,
        headers: Headers,
        command_id: bytes,
        who_and_when: bytes,
    ) -> None:
        self.command_uuid = command_uuid
        self.whose = whose
        self.whence = whence
        self.headers = headers
        self.command_id = command_id
        self.who_and_when = who_and_when


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
        self.task_topics: set[str] = set()
        """Where offers went so far."""
        self.shards = shards
        self._topics = topics
        self._commands: dict[tuple[str, type], Callable[[dict[str, Any]], bytes]] = {
            (aggregate.name, kind): _encoder(
                codec, catalogue, f"{aggregate.name}.commands", fullname(aggregate.name, kind)
            )
            for aggregate in aggregates
            for kind in aggregate.commands
        }

    def command(self, send: Send, command: Command, event_id: str, index: int) -> Produced:
        """Return the follow-up command; its id is derived from the event that caused it."""
        key = key_of(command.message.tenant, send.aggregate_id)
        command_id = derived(uuid_bytes(event_id), f"{send.aggregate}/{index}")
        kind = type(send.body)
        headers = [
            (names.COMMAND_ID, command_id.encode()),
            (names.COMMAND_TYPE, kind.__name__.encode()),
            (names.CAUSATION_ID, event_id.encode()),
            (names.CORRELATION_ID, command.correlation_id),
            (names.ACTOR, command.actor),
        ]
        if command.traceparent:
            headers.append((names.TRACEPARENT, command.traceparent))
        value = self._commands[send.aggregate, kind](to_record(send.body))
        return (self._topics.commands(send.aggregate), value, key, partition_of(key, self.shards), headers)

    def offer(self, offer: TaskOffer, command: Command, event_id: str) -> Produced:
        """Return the task offer as JSON, on its queue's topic."""
        key = offer.key.encode()
        headers = [
            (names.CAUSATION_ID, event_id.encode()),
            (names.CORRELATION_ID, command.correlation_id),
            (names.ACTOR, command.actor),
        ]
        value, topic = orjson.dumps(offer.task), self._topics.tasks(offer.queue, offer.priority)
        self.task_topics.add(topic)
        return (topic, value, key, partition_of(key, self.shards), headers)


def _encoder(codec: Codec, catalogue: Catalogue, topic: str, full: str) -> Callable[[dict[str, Any]], bytes]:
    return codec.encoder(f"{topic}-{full}", catalogue.schema(full))
