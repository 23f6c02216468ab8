"""What is made from the events of runs, compared with them: snapshots (I12) and the rows of the read store (I16).

Each run is folded by today's rules up to the version that was written down, and must be the same there, but for leases
and progress, which are no events. Memory: the states of runs that are not there yet, and some 300 bytes for each snapshot
or row. A run with a redacted event, or with events that do not follow each other, is left out: others judge that.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.chain import CHAIN, REDACTED
from streams.domain.aggregate import Aggregate
from streams.domain.run.state import as_told
from streams.projections import run as view
from streams.projections.view import Row, meta_of
from streams.proof.record import LogRecord
from streams.recovery.snapshots import StateCodec, Unusable
from streams.translation import from_record, vocabulary

Name = tuple[str, str]
See = Callable[[tuple[str, str, int], str, bool, str, str], bool]
"""Who (tenant, run, version), the invariant, whether it holds, where, and a sentence for when it does not."""


@dataclass(slots=True)
class _Folding:
    """Runs on their way to the version at which each is compared; a negative one is not followed any more."""

    wanted: dict[Name, int] = field(default_factory=dict)
    known: dict[Name, tuple[int, Any]] = field(default_factory=dict)

    def step(self, record: LogRecord, fold: Callable[[Any], Any]) -> tuple[Name, Any] | None:
        """Fold an event; return the run and its state once it is at the version that is wanted."""
        envelope = record.body["envelope"]
        name = (envelope["tenant"], envelope["aggregate_id"])
        wanted = self.wanted.get(name, 0)
        if wanted <= 0:
            return None
        version, state = self.known.pop(name, (0, None))
        if REDACTED in record.headers or envelope["version"] != version + 1:
            self.leave(name)
            return None
        try:
            state = fold(state)
        except (KeyError, TypeError, ValueError):  # an event that nobody can follow: I17
            self.leave(name)
            return None
        if version + 1 < wanted:
            self.known[name] = (version + 1, state)
            return None
        self.leave(name)
        return name, state

    def leave(self, name: Name) -> None:
        """Follow a run no further."""
        self.wanted[name] = -self.wanted[name]


class Snapshots:
    """I12. Takes all of the snapshots topic, then the events of runs, then :meth:`finish`."""

    def __init__(self, aggregate: Aggregate, states: StateCodec, see: See) -> None:
        """``states`` reads what today's rules have written for this log; other snapshots are used by nobody."""
        self._aggregate, self._states, self._see = aggregate, states, see
        self._events = vocabulary(aggregate).events
        self._kept: dict[Name, tuple[bytes, str]] = {}
        self._folding = _Folding()

    def snapshot(self, key: bytes, value: bytes | None, place: str) -> None:
        """Take a record of the topic; the newest of a key counts."""
        tenant, slash, run_id = key.decode().partition("/")
        if not slash:
            return  # a mark, or a part of the index of commands
        name = (tenant, run_id)
        self._kept.pop(name, None)
        self._folding.wanted.pop(name, None)
        if value is None:
            return
        try:
            ours = self._states.read_state(value)
        except Unusable as error:
            self._see((*name, 0), "I12", False, place, str(error))
            return
        if ours is not None:
            self._kept[name] = (value, place)
            self._folding.wanted[name] = ours[0]

    def event(self, record: LogRecord) -> None:
        """Take an event of a run that could be decoded."""

        def fold(state: Any) -> Any:
            event = _event(self._events, record)
            return self._aggregate.evolve(self._aggregate.initial if state is None else state, event)

        if (found := self._folding.step(record, fold)) is None:
            return
        name, state = found
        value, place = self._kept.pop(name)
        version, kept, chain = self._states.read_state(value) or (0, state, b"")
        same = as_told(kept) == as_told(state) and chain == record.headers.get(CHAIN)
        said = f"its snapshot is not what its first {version} events make of it"
        self._see((*name, version), "I12", same, place, said)

    def finish(self) -> None:
        """Judge what only the end tells."""
        for name, (_, place) in self._kept.items():
            if (version := self._folding.wanted[name]) > 0:
                said = f"its snapshot is of version {version}, which is not in the log"
                self._see((*name, version), "I12", False, place, said)


class Rows:
    """I16. Takes all rows as they were at one moment, then the events of runs, then :meth:`finish`.

    ``below``: how far the view had read each shard at that moment. What stands behind that is not looked at.
    """

    def __init__(self, aggregate: Aggregate, below: Mapping[int, int], see: See) -> None:
        self._below, self._see = below, see
        self._events = vocabulary(aggregate).events
        self._kept: dict[Name, bytes] = {}
        self._folding = _Folding()

    def row(self, row: Row) -> None:
        """Take a row, with the columns of the view's table."""
        name = (row["tenant"], row["id"])
        self._kept[name] = _digest(row)
        self._folding.wanted[name] = row["version"]

    def event(self, record: LogRecord) -> None:
        """Take an event of a run that could be decoded."""
        if record.offset >= self._below.get(record.partition, 0):
            return
        envelope = record.body["envelope"]
        name, version = (envelope["tenant"], envelope["aggregate_id"]), envelope["version"]
        stands = abs(self._folding.wanted.get(name, 0))
        if version > stands:
            said = f"the view has read of its version {version}, and its row is of version {stands}"
            self._see((*name, version), "I16", False, record.place, said)
            return

        def fold(row: Row | None) -> Row | None:
            meta = meta_of(envelope, record.kind, (record.topic, record.partition, record.offset))
            return view.fold(row, _event(self._events, record), meta)

        if (found := self._folding.step(record, fold)) is not None:
            same = self._kept.pop(name) == _digest(found[1])
            said = f"its row is not what its first {version} events make of it"
            self._see((*name, version), "I16", same, record.place, said)

    def finish(self) -> None:
        """Judge what only the end tells."""
        for name in self._kept:
            if (version := self._folding.wanted[name]) > 0:
                said = f"its row is of version {version}, which is not in the log"
                self._see((*name, version), "I16", False, "the end of the log", said)


def _event(kinds: Mapping[str, type], record: LogRecord) -> Any:
    return from_record(
        kinds[record.kind], {name: value for name, value in record.body.items() if name != "envelope"}
    )


def _digest(row: Mapping[str, Any] | None) -> bytes:
    return hashlib.blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=16).digest()
