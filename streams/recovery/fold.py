"""From records to one slice: snapshots first, then the tail of events and outcomes; checked while at it."""

import logging
from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from typing import Any

from schemas.chain import CHAIN, REDACTED, START
from schemas.codec import Codec
from schemas.topics import Topics
from streams.domain.aggregate import Aggregate
from streams.domain.redaction import EventRedacted
from streams.failures import BrokenLog
from streams.protocol.record import Record
from streams.recovery.answers import remember
from streams.recovery.history import Histories, refold
from streams.recovery.offsets import Committed, sequence_in
from streams.recovery.snapshots import MARK_KEY, StateCodec, Unusable, chunk_number
from streams.shards.command_ids import CommandIds, Spill
from streams.shards.entry import Entry
from streams.shards.parked import fold as fold_parked
from streams.shards.saved import ANSWERS_KEPT, Chunk, Mark, Named, Saved
from streams.shards.shard import Slice
from streams.shards.trail import Tail, Vouched
from streams.translation import from_record, fullname

_log = logging.getLogger(__name__)
Partition = tuple[str, int]
_UNCHAINED_MAX = 20_000  # records that are held for their headers, some 30 MB


def _chunk(states: StateCodec | None, number: int, value: bytes) -> Named:
    """Return a chunk of the index. One of another fold is kept as long out of date: the next sweep removes it."""
    found = None if states is None else states.read_chunk(number, value)
    return found or Named(Chunk(number, 0, 0, 0, 0))


class Fold:
    """Rebuilds one slice. Call :meth:`snapshots`, then :meth:`open`, then :meth:`events` and :meth:`outcomes` (and
    :meth:`snapshots` again, to follow a log that somebody is writing), then :meth:`finish`.

    ``slice`` may be read meanwhile: what is there is true, but not the newest. ``stale`` are aggregates that were redacted and
    whose states were folded from what their events said before: :meth:`refold` comes before :meth:`finish` then.
    """

    def __init__(
        self,
        aggregate: Aggregate,
        shard: int,
        codec: Codec,
        topics: Topics,
        states: StateCodec | None,
        spill: Spill | None = None,
    ) -> None:
        self._spill = spill
        self.slice = self._empty(aggregate, shard)
        self.events_at = (topics.events(aggregate.name), shard)
        self.outcomes_at = (topics.outcomes(aggregate.name), shard)
        self.snapshots_at = (topics.snapshots(aggregate.name), shard)
        self.quarantine_at = (topics.quarantine(aggregate.name), shard)
        self.mark = Mark()
        self._kinds = {fullname(aggregate.name, kind): kind for kind in aggregate.events}
        self._codec = codec
        self._states = states
        self._latest: dict[bytes, bytes] = {}
        self.opened = False
        self._covered: dict[bytes, int] = {}  # what was taken from a snapshot: its events are passed over
        self._snapshotted: dict[bytes, int] = {}
        self.tail = Tail()
        self._ahead: dict[bytes, dict[int, tuple[Any, bytes]]] = {}
        self._unchained: dict[bytes, tuple[Entry, Record]] = {}
        self._written = self._passed_over = 0
        self._redacted: set[bytes] = set()  # folded from a first body, or from a snapshot
        self.stale: set[bytes] = set()
        self._event_sequence = 0
        self._outcome_sequence = 0
        self._source_offset = -1

    def _empty(self, aggregate: Aggregate, shard: int) -> Slice:
        return Slice(aggregate, shard, saved=Saved(older=CommandIds(self._spill)))

    def take(self, topic: str, records: Sequence[Record]) -> None:
        """Take records of a topic, if it is one of this fold's, and hold none of them: who follows a log does so for long."""
        if topic == self.events_at[0]:
            self.events(records)
            self._chain()
        elif topic == self.outcomes_at[0]:
            self.outcomes(records)
        elif topic == self.snapshots_at[0]:
            self.snapshots(records)
        elif topic == self.quarantine_at[0]:
            self.quarantine(records)

    @property
    def parts(self) -> list[Partition]:
        """The partitions to be read. Of quarantine only who is parked is taken."""
        found = [self.events_at, self.outcomes_at, self.snapshots_at]
        return [*found, self.quarantine_at] if self.slice.aggregate.parks else found

    # ---------------------------------------------------------------- 1. what was snapshotted
    def snapshots(self, records: Sequence[Record]) -> None:
        """Take records of the snapshots topic."""
        latest = self._latest
        for record in records:
            key, value = record.key or b"", record.value
            if self.opened:
                self._note(key, value)
            elif value is None:
                latest.pop(key, None)
            else:
                latest[key] = value

    def open(self, ends: Mapping[Partition, int]) -> dict[Partition, int]:
        """Return the offsets from which events and outcomes must be read.

        Snapshots that this fold cannot use are counted, and everything is folded from the first event.
        """
        found, self._latest, self.opened = self._latest, {}, True
        raw_mark = found.pop(MARK_KEY, None)
        mark = None if self._states is None else self._states.read_mark(raw_mark)
        if mark is not None and (
            mark.events > ends[self.events_at] or mark.outcomes > ends[self.outcomes_at]
        ):
            _log.warning("%s/%d: the mark is beyond the end of the log", *self.snapshots_at)
            mark = None
        try:
            self._use(mark, found)
        except Unusable as error:
            _log.warning("%s/%d: %s", *self.snapshots_at, error)
            self.slice = self._empty(self.slice.aggregate, self.slice.shard)
            self.mark, self._covered = Mark(), {}
        self._snapshotted = dict(self._covered)
        if found and self.slice.saved.mark is None:
            _log.info("%s/%d cannot be used: folding from the first event", *self.snapshots_at)
        begin = {self.events_at: self.mark.events, self.outcomes_at: self.mark.outcomes}
        return begin | ({self.quarantine_at: 0} if self.slice.aggregate.parks else {})

    def _use(self, mark: Mark | None, found: Mapping[bytes, bytes]) -> None:
        """Take over what this fold has written. Leftovers of others are there until they are overwritten."""
        piece, chunks = self.slice, dict[int, bytes]()
        states = None if mark is None else self._states
        for key, value in found.items():
            if b"/" in key:
                if states is not None and (entry := states.entry(value)) is not None:
                    piece.states[key] = entry
                    self._covered[key] = entry.version
            elif (number := chunk_number(key)) is not None:
                chunks[number] = value
        for number, value in sorted(chunks.items()):
            piece.saved.remember(_chunk(states, number, value))
        if mark is not None:
            self.mark = piece.saved.mark = mark
            self.tail.forget(mark.sequence)

    def _note(self, key: bytes, value: bytes | None) -> None:
        """Note what the owner has snapshotted since."""
        saved, states = self.slice.saved, self._states
        if states is None:
            return
        if key == MARK_KEY:
            saved.mark = states.read_mark(value)
            if saved.mark is not None:
                self.tail.forget(saved.mark.sequence)
            else:
                self._snapshotted.clear()  # an owner with another fold: its snapshots replace ours
        elif b"/" in key:
            self._snapshotted[key] = states.read_version(value or b"")
        elif (number := chunk_number(key)) is not None:
            if number in saved.chunks:
                saved.forget(number)
            if value is not None:
                saved.remember(_chunk(states, number, value))
                self._release_answers()

    def _release_answers(self) -> None:
        """Let go of old answers that are in chunks, oldest first."""
        index, last = self.slice.index, self.slice.saved.last()
        surplus = list(islice(index.items(), max(len(index) - ANSWERS_KEPT, 0)))
        for key, answer in surplus:
            if answer.sequence > last:
                break
            del index[key]

    # ---------------------------------------------------------------- 2. the tail
    def events(self, records: Sequence[Record]) -> None:
        """Fold events. Raises :class:`BrokenLog` on a repeat.

        The record of a redacted event stands behind its successors: they wait for it.
        """
        decode, kinds, states, vouched = self._codec.decode, self._kinds, self.slice.states, self.tail.after
        evolve, initial, since = self.slice.aggregate.evolve, self.slice.aggregate.initial, self.mark.sequence
        for record in records:
            name, body = decode(record.value or b"")
            kind, envelope = kinds.get(name), body.pop("envelope")
            sequence = envelope["sequence"]
            key = (record.key or b"").rsplit(b"/", 2)[0]
            entry = states.get(key)
            version = 1 if entry is None else entry.version + 1
            usual = version == envelope["version"] and self._event_sequence < sequence
            if kind is None or not usual or not since < sequence <= vouched:
                self._fold_by_header(record, name, body, envelope)
                continue
            # Nearly all of a long log: a checkpoint vouches for it, so of an aggregate only the last chain is looked at.
            state = evolve(initial if entry is None else entry.state, from_record(kind, body))
            entry = states[key] = Entry(version, state, START)
            self._unchained[key] = (entry, record)
            self._event_sequence = sequence
            self._written += 1
            self._source_offset = max(self._source_offset, envelope["source_offset"])
            self._folded(kind, key)
        if len(self._unchained) > _UNCHAINED_MAX:
            self._chain()
        # What is read meanwhile says how old it is.
        self.slice.position = max(self.mark.position, self._event_sequence)

    def _fold_by_header(
        self, record: Record, name: str, body: dict[str, Any], envelope: dict[str, Any]
    ) -> None:
        """Fold one event that is new since the last checkpoint, snapshotted, redacted, early, or a mistake."""
        states, since, tail, last = self.slice.states, self.mark.sequence, self.tail, self._event_sequence
        kind, version, sequence = self._kinds.get(name), envelope["version"], envelope["sequence"]
        key = (record.key or b"").rsplit(b"/", 2)[0]
        headers = record.headers()
        redacted = REDACTED in headers
        entry = states.get(key)
        known = 0 if entry is None else entry.version
        if kind is None or (sequence <= last and not redacted):
            raise self._broken(record, name, version, sequence, known)
        chain = headers.get(CHAIN) or START
        if redacted and version <= known:
            # What it was is folded already. It may be the only record left of it.
            self._redacted.add(key)
            self._passed_over += sequence > since
            tail.again(sequence, chain)
            return
        if version == known + 1:
            before = self.slice.aggregate.initial if entry is None else entry.state
            states[key] = Entry(version, self.slice.aggregate.evolve(before, from_record(kind, body)), chain)
            self._folded(kind, key)
        elif version > known:
            waiting = self._ahead.setdefault(key, {})
            repeated = version in waiting  # its first body, or an earlier redaction of it, is there still
            waiting[version] = (from_record(kind, body), chain)
            if repeated:
                self._passed_over += sequence > since
                return
        elif version > self._covered.get(key, 0):
            raise self._broken(record, name, version, sequence, known)
        self._event_sequence = max(last, sequence)
        if sequence > since:
            self._written += 1
            if sequence > tail.after:
                tail.chains.append((sequence, chain))
        self._source_offset = max(self._source_offset, envelope["source_offset"])

    def _folded(self, kind: type, key: bytes) -> None:
        if kind is EventRedacted:
            self._note_redacted(key)
        if self._ahead:
            self._catch_up(key)

    def _chain(self) -> None:
        """Note the chains of the aggregates whose last event's headers have not been read yet."""
        for entry, record in self._unchained.values():
            entry.chain = record.headers().get(CHAIN) or START
        self._unchained = {}

    def _catch_up(self, key: bytes) -> None:
        """Fold the events that waited for the one just folded."""
        waiting, states = self._ahead.pop(key, {}), self.slice.states
        entry = states[key]
        while (found := waiting.pop(entry.version + 1, None)) is not None:
            event, chain = found
            state = self.slice.aggregate.evolve(entry.state, event)
            entry = states[key] = Entry(entry.version + 1, state, chain)
            if isinstance(event, EventRedacted):
                self._note_redacted(key)
        if waiting:
            self._ahead[key] = waiting

    def _note_redacted(self, key: bytes) -> None:
        """Note that a state without the redacted values is known from now on; what was folded may still have them."""
        if key in self._redacted:
            self.stale.add(key)

    def refold(self, found: Histories) -> None:
        """Fold the aggregates anew that are ``stale``. Raises :class:`BrokenLog` when an event is missing."""
        self._chain()
        for key in self.stale:
            entry = self.slice.states[key]
            values = {version: record.value or b"" for version, record in found.found[key].items()}
            try:
                state = refold(self.slice.aggregate, self._codec, values, entry.version)
            except KeyError as error:
                raise BrokenLog(
                    f"{self.events_at[0]}/{self.events_at[1]}: {key.decode()} has no version {error}"
                ) from error
            self.slice.states[key] = Entry(entry.version, state, entry.chain)
        self.stale = set()

    def outcomes(self, records: Sequence[Record]) -> None:
        """Remember answers. One that was given again is the same answer, and takes no sequence."""
        decode, index, since, tail = self._codec.decode, self.slice.index, self.mark.sequence, self.tail
        for record in records:
            value = record.value or b""
            body = decode(value)[1]
            sequence = body["sequence"]
            if sequence <= self._outcome_sequence:
                if "replayed" in record.headers():
                    continue
                raise BrokenLog(f"{record.where}: {sequence} repeats")
            self._outcome_sequence = sequence
            if sequence > since:
                self._written += 1
                if sequence > tail.after:
                    tail.outcomes.append((sequence, value))
            remember(index, body, value)
        told = records[-1].headers() if records else {}  # offsets only rise
        self._source_offset = max(self._source_offset, int(told.get("source-offset") or -1))

    def quarantine(self, records: Sequence[Record]) -> None:
        """Note who is parked."""
        for record in records:
            fold_parked(self.slice.parked, record)
            self.slice.quarantined = record.offset + 1

    def _broken(self, record: Record, name: str, version: int, sequence: int, known: int) -> BrokenLog:
        return BrokenLog(
            f"{record.where}: {name} has version {version} and sequence"
            f" {sequence} after version {known} and sequence {self._event_sequence}; `flexcore event verify` names the"
            " first bad record"
        )

    # ---------------------------------------------------------------- 3. is it whole?
    def finish(
        self, committed: Committed, vouched: Vouched, first_outcome: int, first_command: int, now_ms: int
    ) -> Slice:
        """Return the slice at its committed offset, or after the last source offset in the log when there is none.

        ``vouched`` is its last checkpoint. ``first_outcome`` and ``first_command`` are the first offsets that are left of
        these topics. Raises :class:`BrokenLog` when records are missing.
        """
        self._chain()
        piece, mark, done = self.slice, self.mark, self._snapshotted
        saved = piece.saved
        saved.dirty = {key for key, entry in piece.states.items() if done.get(key) != entry.version}
        last = saved.last()
        saved.chunked = sum(
            1 for _ in takewhile(lambda answer: answer.sequence <= last, piece.index.values())
        )
        piece.sequence = max(mark.sequence, self._event_sequence, self._outcome_sequence)
        piece.position = max(mark.position, self._event_sequence)
        piece.metadata = committed.metadata
        after = max(self._source_offset + 1, mark.next, first_command)
        piece.next = committed.offset if committed.offset >= 0 else after
        piece.trail = self.tail.trail(vouched, now_ms)
        if self._ahead:
            key, waiting = min(self._ahead.items())
            raise BrokenLog(
                f"{self.events_at[0]}/{self.events_at[1]}: {key.decode()} has version {min(waiting)}, and none before it;"
                " `flexcore event verify` names the first bad record"
            )
        promised = sequence_in(committed.metadata)
        complete = first_outcome <= mark.outcomes
        lacking = piece.sequence - mark.sequence - self._written
        if promised > piece.sequence or (complete and not 0 <= lacking <= self._passed_over):
            raise BrokenLog(
                f"{self.events_at[0]}/{self.events_at[1]}: the last writer had written up to sequence {promised}, the log"
                f" holds {self._written} records after {mark.sequence} up to {piece.sequence}: records are missing"
            )
        return piece
