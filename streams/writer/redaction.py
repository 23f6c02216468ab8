"""Deciding about a redaction: the record that takes an event's place, the event that says so, the state without the values."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from schemas.catalogue import Catalogue
from schemas.chain import REDACTED, VALUE_HASH
from schemas.codec import Codec
from schemas.topics import Topics
from streams.domain.aggregate import Aggregate, Message, Rejected
from streams.domain.redaction import EventRedacted, RedactEvent
from streams.protocol.record_batch import Produced, headers_of
from streams.recovery.history import History, refold


@dataclass(frozen=True, slots=True)
class Redaction:
    """What a redaction writes: ``record`` under the old event's key, ``event`` as the next one; ``state`` is folded anew.

    Without a record there is nothing to be done, or it was only asked what would be. ``reply`` is told in any case.
    """

    record: Produced | None
    event: EventRedacted | None
    state: Any
    reply: str


class Redactor:
    """Redacts events of one aggregate. Pure but for the codec, which may ask the registry for an old schema."""

    def __init__(self, aggregate: Aggregate, catalogue: Catalogue, codec: Codec, topics: Topics) -> None:
        self._aggregate = aggregate
        self._catalogue = catalogue
        self._codec = codec
        self._topic = topics.events(aggregate.name)

    def decide(
        self, message: Message, version: int, state: Any, history: History, shard: int
    ) -> Redaction | Rejected:
        """Return what is to be done; ``history`` is the aggregate's, up to ``version``."""
        command: RedactEvent = message.body
        name, aggregate_id = self._aggregate.name, message.aggregate_id
        wanted = b"%d" % command.sequence
        found = next((one for one in history.values() if one.headers()["sequence"] == wanted), None)
        if found is None:
            return Rejected(
                "not_found", f"{name} {aggregate_id} has no event with sequence {command.sequence}"
            )
        full, body = self._codec.decode(found.value or b"")
        if (wrong := self._wrong(command, full)) is not None:
            return wrong
        if not self._aggregate.settled(state):
            detail = f"{name} {aggregate_id} still needs what its events say: wait for its end, or cancel it"
            return Rejected("not_ended", detail)
        marks = self._catalogue.redactable(full)
        values = {
            field: marks[field] for field in command.fields if body[field] and body[field] != marks[field]
        }
        envelope = body["envelope"]
        kind = full.rpartition(".")[2]
        place = {one: envelope[one] for one in ("event_id", "version", "sequence")}
        reply = orjson.dumps({**place, "type": kind, "fields": values}).decode()
        if command.dry_run or not values:
            return Redaction(None, None, state, reply)
        value = self._codec.changed(found.value or b"", values)
        event = EventRedacted(
            envelope["sequence"], envelope["version"], envelope["event_id"], kind,
            tuple(values), command.reason, sha256(value).hexdigest(), message.now,
        )  # fmt: skip
        headers = found.headers()
        headers.setdefault(VALUE_HASH, sha256(found.value or b"").digest())
        headers[REDACTED] = f"{message.actor}: {command.reason}".encode()
        told = [(header, raw or b"") for header, raw in headers.items()]
        record = (self._topic, value, found.key or b"", shard, headers_of(told))
        bodies = {number: one.value or b"" for number, one in history.items()} | {event.version: value}
        return Redaction(record, event, refold(self._aggregate, self._codec, bodies, version), reply)

    def _wrong(self, command: RedactEvent, full: str) -> Rejected | None:
        marks, kind = self._catalogue.redactable(full), full.rpartition(".")[2]
        may = f"of {kind} these may: {', '.join(marks)}" if marks else f"no field of {kind} may"
        if strangers := [field for field in command.fields if field not in marks]:
            return Rejected("invalid", f"field {', '.join(strangers)} cannot be redacted; {may}")
        if not command.fields:
            return Rejected("invalid", f"fields names nothing to redact; {may}")
        if not command.reason.strip():
            return Rejected("invalid", "reason is empty: say why; it is kept, so name nobody in it")
        return None
