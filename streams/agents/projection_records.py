"""From a record of an events, outcomes or quarantine topic to what a fold takes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from confluent_kafka import Message as Record

from schemas.chain import redaction
from schemas.codec import Codec
from schemas.errors import RegistryUnavailable, UnknownSchema
from schemas.topics import Topics
from streams.domain.aggregate import Aggregate
from streams.projections.quarantine import Entry
from streams.projections.view import Meta, Source, meta_of
from streams.translation import from_record, vocabulary

_SCHEMA_PATIENCE_S = 10.0


class Item(NamedTuple):
    """A decoded record. ``event`` is what typed folds take (None: its type is not known here), ``record`` the others.

    ``cause`` says why the record could not be decoded; then nothing else is there. ``sequence`` is 0 where a record
    has none. ``redacted`` is by whom and why, "" for a record as it was written.
    """

    topic: str
    partition: int
    offset: int
    source: Source
    aggregate: str
    sequence: int = 0
    event: Any = None
    record: Any = None
    meta: Meta | None = None
    cause: str = ""
    redacted: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a topic holds."""

    source: Source
    aggregate: str
    events: Mapping[str, type]


def origins(topics: Topics, aggregates: Sequence[Aggregate]) -> dict[str, Origin]:
    """Return the topics that views are folded from, by name."""
    found: dict[str, Origin] = {}
    for aggregate in aggregates:
        name, events = aggregate.name, vocabulary(aggregate).events
        found[topics.events(name)] = Origin("events", name, events)
        found[topics.outcomes(name)] = Origin("outcomes", name, {})
        found[topics.quarantine(name)] = Origin("quarantine", name, {})
    return found


class Decoder:
    """Decodes records of the topics it was given; a record that cannot be decoded is returned with its cause."""

    def __init__(self, codec: Codec, by_topic: Mapping[str, Origin]) -> None:
        self._codec = codec
        self._origins = by_topic
        self._unknown_since: dict[bytes, float] = {}

    def decode(self, record: Record) -> Item | None:
        """Return the item, or None for a tombstone: an erased event leaves its row to the erasure that wrote it.

        Raises ``RegistryUnavailable``, and for some seconds ``UnknownSchema`` (a registry may be a little behind its
        writer): the record is not at fault and must be read again.
        """
        topic, partition, offset = record.topic() or "", record.partition() or 0, record.offset() or 0
        origin = self._origins[topic]
        value = record.value()
        try:
            if origin.source == "quarantine":
                return _quarantined(record, origin, topic, partition, offset)
            if value is None:
                return None
            if origin.source == "outcomes":
                outcome = self._codec.decode(value)[1]
                sequence = int(outcome["sequence"])
                return Item(topic, partition, offset, "outcomes", origin.aggregate, sequence, record=outcome)
            return self._event(value, origin, topic, partition, offset, redaction(_headers(record)))
        except RegistryUnavailable:
            raise
        except Exception as error:
            if isinstance(error, UnknownSchema) and self._may_appear(value):
                raise
            cause = f"{type(error).__name__}: {error}"
            return Item(topic, partition, offset, origin.source, origin.aggregate, cause=cause)

    def _may_appear(self, value: Any) -> bool:
        now = time.monotonic()
        return now - self._unknown_since.setdefault(bytes(value[1:5]), now) < _SCHEMA_PATIENCE_S

    def _event(
        self, value: bytes, origin: Origin, topic: str, partition: int, offset: int, redacted: str
    ) -> Item:
        fullname, record = self._codec.decode(value)
        envelope = record.pop("envelope")
        name = fullname.rpartition(".")[2]
        meta = meta_of(envelope, name, (topic, partition, offset), redacted or None)
        kind = origin.events.get(name)
        event = from_record(kind, record) if kind is not None else None
        return Item(
            topic, partition, offset, "events", origin.aggregate, meta.sequence, event, record, meta,
            redacted=redacted,
        )  # fmt: skip


def _quarantined(record: Record, origin: Origin, topic: str, partition: int, offset: int) -> Item:
    headers = {name: _text(raw) for name, raw in _headers(record)}
    entry = Entry(
        origin.aggregate,
        _text(record.key()),
        record.value() or b"",
        headers,
        partition,
        offset,
    )
    return Item(topic, partition, offset, "quarantine", origin.aggregate, record=entry)


def _headers(record: Record) -> list[tuple[str, Any]]:
    pairs: Any = record.headers() or []
    return list(pairs)


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw or ""
