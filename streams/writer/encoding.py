"""Everything the writer puts on a topic, as bytes: the one place that builds envelopes, outcomes and their headers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from librt.strings import BytesWriter
from mypy_extensions import mypyc_attr

from schemas import envelope as envelopes
from schemas import topics as names
from schemas.catalogue import Catalogue
from schemas.chain import CHAIN, link
from schemas.codec import Codec
from schemas.codec import header as framing
from schemas.compiled import EncodeEvent
from schemas.envelope import sized
from schemas.numbers import put_sized, zigzag
from schemas.outcome import Answer, put_outcome
from schemas.partitioning import partition_of
from schemas.topics import Topics, key_of
from streams.domain.aggregate import Aggregate, Send, TaskOffer
from streams.protocol.record_batch import Headers, Produced, header, headers_of
from streams.shards.identity import derived, uuid_bytes
from streams.translation import fullname, to_record
from streams.writer.command import Command

# Headers' names as they stand before their values.
_COMMAND_ID: Final = header(names.COMMAND_ID)
_CAUSATION_ID: Final = header(names.CAUSATION_ID)
_CORRELATION_ID: Final = header(names.CORRELATION_ID)
_ACTOR: Final = header(names.ACTOR)
_TRACEPARENT: Final = header(names.TRACEPARENT)
_SOURCE_OFFSET: Final = header("source-offset")
_TIME: Final = header("ce_time")
_ID: Final = header("ce_id") + zigzag(36)  # a uuid as text
_SUBJECT: Final = header("ce_subject")
_SEQUENCE: Final = header("sequence")
_VERSION: Final = header("version")
_CHAIN: Final = header(CHAIN) + zigzag(32)  # SHA-256
# How many headers follow; an event that is traced has one more.
_EVENTS: Final = zigzag(16)
_TRACED: Final = zigzag(17)
_OUTCOMES: Final = zigzag(3)
# A version in the key of an event has twenty digits, so that keys sort as versions do.
_ZEROS: Final = tuple(b"0" * (20 - digits) for digits in range(21))


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
        self._namespace = name.encode() + b"/"
        self._name = envelopes.text(name)
        self._writer = writer.encode()
        self._writer_text = sized(self._writer)
        self._written_by = header("writer") + self._writer_text
        source = f"/{cluster}/{name}".encode()
        self._kinds: dict[type, tuple[bytes, EncodeEvent, bytes]] = {
            kind: (
                *codec.event_encoder(
                    f"{name}.events-{fullname(name, kind)}", catalogue.schema(fullname(name, kind))
                ),
                b"".join(
                    (
                        header("ce_specversion") + sized(b"1.0"),
                        header("ce_source") + sized(source),
                        header("ce_type") + sized(kind.__name__.encode()),
                        header("content-type") + sized(b"application/avro"),
                        self._written_by,
                    )
                ),
            )
            for kind in aggregate.events
        }
        subject = f"{name}.outcomes-flexcore.common.Outcome"
        schema = catalogue.schema("flexcore.common.Outcome")
        self._outcome_prefix = framing(codec.registry.register(subject, schema))
        self._command_types = {kind: envelopes.text(kind.__name__) for kind in aggregate.commands}
        self._now = -1
        self._time_told, self._time = b"", b""
        self._out = BytesWriter()  # one for all: what is put together in it is taken out at once

    def cause(self, command: Command, key: bytes, source_offset: int) -> "Cause":
        """Return what all records of a command say about their origin, encoded once."""
        message, traceparent = command.message, command.traceparent
        command_id, causation_id = command.command_id, command.causation_id
        correlation_id, actor = command.correlation_id, command.actor
        if message.now != self._now:
            self._clock(message.now)
        out, at, offset = self._out, self._time, b"%d" % source_offset
        tenant, _, aggregate_id = key.partition(b"/")
        out.truncate(0)
        envelopes.put_place(out, tenant, self._name, aggregate_id)
        whose = out.getvalue()
        out.truncate(0)
        ids = (command_id, causation_id, correlation_id)
        envelopes.put_origin(out, ids, actor, source_offset, self._writer_text, at, traceparent)
        whence = out.getvalue()
        out.truncate(0)
        _put_header(out, _COMMAND_ID, command_id)
        _put_header(out, _CAUSATION_ID, causation_id)
        _put_header(out, _CORRELATION_ID, correlation_id)
        _put_header(out, _ACTOR, actor)
        _put_header(out, _SOURCE_OFFSET, offset)
        out.write(self._time_told)
        if traceparent is not None:
            _put_header(out, _TRACEPARENT, traceparent)
        told = out.getvalue()
        out.truncate(0)
        out.write(_OUTCOMES)
        _put_header(out, _COMMAND_ID, command_id)
        _put_header(out, _SOURCE_OFFSET, offset)
        out.write(self._written_by)
        answered = out.getvalue()
        out.truncate(0)
        put_sized(out, actor)
        put_sized(out, correlation_id)
        out.write(at)
        count = _EVENTS if traceparent is None else _TRACED
        return Cause(uuid_bytes(command_id), whose, whence, (count, told), answered, out.getvalue())

    def event(
        self,
        event: Any,
        key: bytes,
        shard: int,
        numbers: tuple[int, int, int],
        cause: "Cause",
        previous: bytes,
    ) -> tuple[bytes, bytes, Produced]:
        """Return the event's id, chain and record. The id is derived from the command's, so a retry repeats it, and from
        whose event it is: a command id counts within its aggregate.

        ``numbers`` are version, sequence and index among the command's events; ``previous`` is the chain of the
        aggregate's event before it.
        """
        version, sequence, index = numbers
        out = self._out
        out.truncate(0)
        out.write(cause.command_uuid)
        out.write(self._namespace)
        out.write(key)
        out.write(b"/%d" % index)
        event_id = derived(out.getvalue())
        framed, encode, fixed = self._kinds[type(event)]
        out.truncate(0)
        out.write(framed)
        envelopes.put_envelope(out, event_id, cause.whose, version, sequence, cause.whence)
        encode(out, event)
        value = out.getvalue()
        digits = b"%d" % version
        out.truncate(0)
        out.write(key)
        out.write(b"/")
        out.write(_ZEROS[len(digits)])
        out.write(digits)
        out.write(b"/")
        out.write(event_id)
        record_key = out.getvalue()
        chain = link(previous, record_key, value)
        count, told = cause.told
        out.truncate(0)
        out.write(count)
        out.write(fixed)
        out.write(told)
        out.write(_ID)
        out.write(event_id)
        _put_header(out, _SUBJECT, key)
        _put_header(out, _SEQUENCE, b"%d" % sequence)
        _put_header(out, _VERSION, digits)
        out.write(_CHAIN)
        out.write(chain)
        return event_id, chain, (self._events_topic, value, record_key, shard, out.getvalue())

    def outcome(
        self, cause: "Cause", command: Command, numbers: tuple[int, int, int, int, int], answer: Answer
    ) -> tuple[bytes, Produced]:
        """Return the outcome's bytes and its record; its key is the command id. ``numbers``: see :func:`schemas.outcome.put_outcome`."""
        out = self._out
        out.truncate(0)
        out.write(self._outcome_prefix)
        put_outcome(
            out,
            command.command_id,
            self._command_types[type(command.message.body)],
            cause.whose,
            answer,
            numbers,
            command.body_hash,
            cause.who_and_when,
        )
        value = out.getvalue()
        return value, (self._outcomes_topic, value, command.command_id, numbers[2], cause.answered)

    def again(self, command: Command, value: bytes, shard: int, source_offset: int) -> Produced:
        """Return the record of an outcome that was given before. It takes no sequence of its own."""
        told = [
            (names.COMMAND_ID, command.command_id),
            ("source-offset", b"%d" % source_offset),
            ("writer", self._writer),
            ("replayed", b"1"),
        ]
        return (self._outcomes_topic, value, command.command_id, shard, headers_of(told))

    def _clock(self, ms: int) -> None:
        """Note a time as RFC 3339 and as an Avro long: records of a batch share their append time."""
        told = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
        self._now, self._time = ms, zigzag(ms)
        self._time_told = _TIME + sized(told.replace("+00:00", "Z").encode())


@mypyc_attr(acyclic=True)
class Cause:
    """Why a command is decided, as its records say it: made by :meth:`Encoder.cause`. Read only, as ``Command`` is.

    ``told`` is how many headers an event has, and those that all events of the command share; ``answered`` are those of its
    outcome.
    """

    __slots__ = ("answered", "command_uuid", "told", "whence", "who_and_when", "whose")

    def __init__(
        self,
        command_uuid: bytes,
        whose: bytes,
        whence: bytes,
        told: tuple[bytes, bytes],
        answered: bytes,
        who_and_when: bytes,
    ) -> None:
        self.command_uuid = command_uuid
        self.whose = whose
        self.whence = whence
        self.told = told
        self.answered = answered
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

    def command(self, send: Send, command: Command, event_id: bytes, index: int) -> Produced:
        """Return the follow-up command; its id is derived from the event that caused it."""
        key = key_of(command.message.tenant, send.aggregate_id)
        command_id = derived(uuid_bytes(event_id) + f"{send.aggregate}/{index}".encode())
        kind = type(send.body)
        told: Headers = [
            (names.COMMAND_ID, command_id),
            (names.COMMAND_TYPE, kind.__name__.encode()),
            (names.CAUSATION_ID, event_id),
            (names.CORRELATION_ID, command.correlation_id),
            (names.ACTOR, command.actor),
        ]
        if command.traceparent:
            told.append((names.TRACEPARENT, command.traceparent))
        value = self._commands[send.aggregate, kind](to_record(send.body))
        return (
            self._topics.commands(send.aggregate),
            value,
            key,
            partition_of(key, self.shards),
            headers_of(told),
        )

    def offer(self, offer: TaskOffer, command: Command, event_id: bytes) -> Produced:
        """Return the task offer as JSON, on its queue's topic."""
        key = offer.key.encode()
        told = [
            (names.CAUSATION_ID, event_id),
            (names.CORRELATION_ID, command.correlation_id),
            (names.ACTOR, command.actor),
        ]
        value, topic = orjson.dumps(offer.task), self._topics.tasks(offer.queue, offer.priority)
        self.task_topics.add(topic)
        return (topic, value, key, partition_of(key, self.shards), headers_of(told))


def _put_header(out: BytesWriter, name: bytes, value: bytes) -> None:
    out.write(name)
    put_sized(out, value)


def _encoder(codec: Codec, catalogue: Catalogue, topic: str, full: str) -> Callable[[dict[str, Any]], bytes]:
    return codec.encoder(f"{topic}-{full}", catalogue.schema(full))
