"""Aggregates that wait because one of their commands is in quarantine, and the commands that wait with them.

What waits stands in the quarantine topic, not in memory. Every record that changes who waits says in headers how it is
afterwards, so the last one of an aggregate tells a new owner everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas import topics as names
from streams.protocol.record import Record
from streams.protocol.record_batch import NO_HEADERS, headers_of
from streams.shards.identity import derived, uuid_bytes

ROLE = "parked"  # what the record is: FIRST, BEHIND or RELEASED
FIRST, BEHIND, RELEASED = b"first", b"behind", b"released"
_FIRST_NOW, _WAITING_NOW, _BY, _AT = "parked-first", "parked-waiting", "parked-by", "parked-at"
_STREAM_NAMESPACE = uuid_bytes(b"flexcore")

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Parked:
    """One aggregate that is parked.

    ``first`` is the place (topic/partition/offset) of the record that holds it up, empty once that one is through or
    dropped: then the ``waiting`` ones are decided, in the name of ``by``, who released them. All of them stand in the
    quarantine partition at or after the offset ``at``.
    """

    first: bytes
    waiting: int = 0
    by: bytes = b""
    at: int = 0

    @property
    def over(self) -> bool:
        """Tell whether nothing is left to wait for."""
        return not (self.first or self.waiting)

    def headers(self, role: bytes) -> Headers:
        """Return what a record of this role says of the aggregate."""
        return [
            (ROLE, role),
            (_FIRST_NOW, self.first),
            (_WAITING_NOW, b"%d" % self.waiting),
            (_BY, self.by),
            (_AT, b"%d" % self.at),
        ]


def fold(parked: dict[bytes, Parked], record: Record) -> None:
    """Take a record of the quarantine topic into the parked aggregates of its slice."""
    told = record.headers()
    if ROLE not in told:
        return
    key, before = told.get(names.ORIGINAL_KEY) or b"", parked.pop(told.get(names.ORIGINAL_KEY) or b"", None)
    now = Parked(
        told.get(_FIRST_NOW) or b"",
        int(told.get(_WAITING_NOW) or 0),
        told.get(_BY) or b"",
        # What is decided of those that waited is before this, so a chunk of them is never read in vain.
        max(int(told.get(_AT) or 0), record.offset if before is None else before.at),
    )
    if not now.over:
        parked[key] = now


class Waiting(Record):
    """A command that waited, as a record to be decided now: under a new id that follows from its old one.

    ``offset`` is that of the command decided last: deciding this one leaves the slice's offset where it is; ``time_ms`` is
    when it was let go: time does not go back within an aggregate. It stands in quarantine at ``log_offset``, under the key
    ``place``. ``dropped``: it is only to be passed over. ``gone``: Kafka keeps none of those any more that should still wait.
    ``last``: what comes after it, if anything, has to be read first.
    """

    def __init__(
        self,
        record: Record,
        place: bytes = b"",
        log_offset: int = -1,
        dropped: bool = False,
        gone: bool = False,
    ) -> None:
        super().__init__(
            record.topic,
            record.partition,
            record.offset,
            record.time_ms,
            record.key,
            record.value,
            record.told,
        )
        self.place = place
        self.log_offset = log_offset
        self.dropped = dropped
        self.gone = self.last = gone


@dataclass(slots=True)
class Queue:
    """Picks those that wait of one aggregate out of its quarantine partition, read from ``parked.at`` to the end."""

    key: bytes
    parked: Parked
    records_max: int
    bytes_max: int
    _found: dict[bytes, Record] = field(default_factory=dict)
    _dropped: set[bytes] = field(default_factory=set)
    _bytes: int = 0
    _now: int = 0

    def take(self, records: Sequence[Record]) -> None:
        """Take records, in order."""
        for record in records:
            told, place = record.headers(), record.key or b""
            role = told.get(ROLE)
            if role is not None and told.get(names.ORIGINAL_KEY) == self.key:
                self._now = max(self._now, record.time_ms)
                if role != BEHIND:
                    self._found.pop(place, None)  # decided meanwhile
                elif len(self._found) < self.records_max and self._bytes < self.bytes_max:
                    self._found[place] = record
                    self._bytes += len(record)
            elif "dropped-by" in told and place in self._found:
                self._dropped.add(place)

    def waiting(self, topic: str, partition: int, offset: int) -> list[Waiting]:
        """Return what is to be decided next, in order: never nothing."""
        if not self._found:
            none = Record(topic, partition, offset, self._now, self.key, b"", NO_HEADERS)
            return [Waiting(none, gone=True)]
        found = []
        for place, record in self._found.items():
            told = headers_of(_again(place, record.header_list(), self.parked.by))
            again = Record(topic, partition, offset, self._now, self.key, record.value or b"", told)
            found.append(Waiting(again, place, record.offset, place in self._dropped))
        found[-1].last = True
        return found


def _again(
    place: bytes, headers: Sequence[tuple[str, bytes | None]], by: bytes
) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a command that waited: those it came with, a new id, and the old one as its cause."""
    told = dict(headers)
    old = told.get(names.COMMAND_ID) or derived(_STREAM_NAMESPACE + place)
    stated = {
        names.COMMAND_ID: derived(uuid_bytes(old) + b"1"),
        names.CAUSATION_ID: old,
        names.ACTOR: by or b"anonymous",
    }
    original = [(name, value or b"") for name, value in names.original(headers)]
    if names.CORRELATION_ID not in dict(original):
        stated[names.CORRELATION_ID] = old
    kept = [(name, value) for name, value in original if name not in stated and name != "forwarded"]
    return (*stated.items(), *kept)
