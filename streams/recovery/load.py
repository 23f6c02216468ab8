"""Taking over a shard: from the log to a slice that may decide. The order of the steps is the safety argument.

1. The worker's own ``init_transactions`` has ended what this node had open (the caller's duty).
2. *Stable* committed offsets: no undecided transaction can still move them.
3. High watermarks of the topics to fold, taken after step 2; wait until all below them is decided.
4. Fold snapshots, then what came after them, to the *consumer's* position, so that markers and holes of compaction
   cannot stall it.
5. Verify versions and sequence.
The caller then claims the shard with a transaction of its own, seeks and resumes.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException

from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.topics import AUDIT, Topics
from streams.domain.aggregate import Aggregate
from streams.failures import BrokenLog
from streams.protocol.record import Record
from streams.recovery.answers import Recall
from streams.recovery.fold import Fold, Partition
from streams.recovery.history import Histories, History
from streams.recovery.offsets import Broker, Committed, vouched_in
from streams.recovery.snapshots import StateCodec, fold_hash
from streams.recovery.standby import Followed
from streams.shards.command_ids import Spill
from streams.shards.parked import Queue, Waiting
from streams.shards.saved import Remembered
from streams.shards.shard import Slice
from streams.shards.trail import Vouched

_log = logging.getLogger(__name__)
_POLL_S = 0.05  # how soon it is heard that a load is not wanted any more
_WAIT_S = 0.01
_SILENCE_MAX_S = 10.0
_RELEASED_RECORDS = 2_000  # of those that waited, at one go
_RELEASED_BYTES = 8 << 20
# What a fold does not look at: decoding the rest is most of its work.
UNREAD = {
    "flexcore.common.Envelope": frozenset(
        [
            "event_id",
            "tenant",
            "aggregate",
            "aggregate_id",
            "command_id",
            "causation_id",
            "correlation_id",
            "actor",
            "writer",
            "at",
            "traceparent",
        ]
    ),
    "flexcore.common.Outcome": frozenset(
        [
            "command_type",
            "aggregate",
            "status",
            "reason",
            "detail",
            "first_version",
            "last_version",
            "shard",
            "position",
            "actor",
            "correlation_id",
            "at",
            "reply",
        ]
    ),
}
Sink = Callable[[Sequence[Record]], None]


@dataclass(slots=True)
class Loading:
    """A load under way: what can already be read (true, but not the newest), and how far it is."""

    slices: dict[str, Slice] = field(default_factory=dict)
    records: int = 0
    left: int = 0

    @property
    def progress(self) -> float:
        """The part that is read, from 0 to 1."""
        return self.records / (self.records + self.left) if self.left else 1.0


class Loader:
    """Loads shards from the log; blocking, one shard a call, several calls side by side in threads."""

    def __init__(
        self,
        broker: Broker,
        aggregates: Sequence[Aggregate],
        catalogue: Catalogue,
        codec: Codec,
        topics: Topics,
        spill: Spill | None = None,
    ) -> None:
        """``spill`` takes the command ids that are many."""
        self._broker = broker
        self._spill = spill
        self._aggregates = {aggregate.name: aggregate for aggregate in aggregates}
        self._catalogue = catalogue
        self._codec = codec
        self._topics = topics
        self._states: dict[str, StateCodec | None] = {}
        self.take_followed: Callable[[int], Followed | None] = lambda _shard: None

    def states(self) -> Mapping[str, StateCodec | None]:
        """Return how each aggregate's snapshots are encoded; None: not at all, its states cannot be read back."""
        if not self._states:
            self._states = {
                name: self._state_codec(aggregate) for name, aggregate in self._aggregates.items()
            }
        return self._states

    def _state_codec(self, aggregate: Aggregate) -> StateCodec | None:
        log = self._broker.identity(
            [self._topics.events(aggregate.name), self._topics.outcomes(aggregate.name)]
        )
        try:
            return StateCodec(aggregate, fold_hash(aggregate, self._catalogue, log))
        except TypeError as error:
            _log.warning(
                "%s takes no snapshots, its log is read from the first event: %s", aggregate.name, error
            )
            return None

    def load(
        self, shard: int, known: dict[str, Slice], wanted: Callable[[], bool], loading: Loading
    ) -> tuple[dict[str, Slice], int] | None:
        """Return the shard's slices and how many of them were kept from ``known``; None once it is no longer wanted.

        A known slice is kept if the broker's offset *and* metadata are still the ones it has: then nobody wrote since.
        ``loading`` is filled meanwhile. Raises ``Hanging``, :class:`BrokenLog` or ``KafkaException``.
        """
        start = time.monotonic()
        commands: list[Partition] = [(self._topics.commands(name), shard) for name in self._aggregates]
        committed = self._broker.stable(commands, wanted)
        if committed is None:
            return None
        at = dict(zip(self._aggregates, committed, strict=True))
        slices = {
            name: piece
            for name, piece in known.items()
            if piece.next >= 0 and (piece.next, piece.metadata) == (at[name].offset, at[name].metadata)
        }
        kept = len(slices)
        for piece in slices.values():
            piece.saved.restart()
        loading.slices.update(slices)
        names = [name for name in self._aggregates if name not in slices]
        slices |= self._fold_all(names, shard, at, commands, wanted, loading)
        if len(slices) < len(self._aggregates):
            return None
        highs = self._broker.ends(commands)
        for name, piece in slices.items():
            piece.arm_at = highs[self._topics.commands(name), shard]
            piece.armed, piece.reached = False, -1
        took_ms = 1e3 * (time.monotonic() - start)
        _log.info(
            "shard %d: %d slices folded from %d records, %d kept, %.0f ms",
            shard,
            len(names),
            loading.records,
            kept,
            took_ms,
        )
        return slices, kept

    def _fold_all(
        self,
        names: Sequence[str],
        shard: int,
        at: Mapping[str, Committed],
        commands: Sequence[Partition],
        wanted: Callable[[], bool],
        loading: Loading,
    ) -> dict[str, Slice]:
        """Fold the named aggregates' slices; an empty mapping when it is no longer wanted."""
        if not names:
            return {}
        followed = self.take_followed(shard) or Followed({}, {})
        folds = [followed.folds.get(name) or self._fold(name, shard) for name in names]
        parts = [part for fold in folds for part in fold.parts]
        ends = self._broker.ends([*parts, (self._topics.named(AUDIT), shard)])
        if not self._broker.settled(ends, commands, wanted):
            return {}
        lows = self._broker.starts([*parts, *commands])
        vouched = self._vouched(shard, {name: at[name].metadata for name in names}, ends, wanted, loading)
        for fold in folds:
            fold.tail.forget(vouched[fold.slice.aggregate.name].to)
        if not self._read_all(folds, followed.at, ends, wanted, loading):
            return {}
        done: dict[str, Slice] = {}
        for fold in folds:
            name = fold.slice.aggregate.name
            if not self._refold(fold, ends, wanted, loading):
                return {}
            firsts = lows[fold.outcomes_at], lows[self._topics.commands(name), shard]
            numbers = at[name], vouched[name], *firsts, int(1000 * time.time())
            try:
                done[name] = fold.finish(*numbers)
            except BrokenLog as error:
                if fold.slice.saved.mark is None and name not in followed.folds:
                    raise
                # Snapshots are never required: the log itself has the last word.
                _log.error("%s; folding again without snapshots", error)
                again = Fold(self._aggregates[name], shard, self._codec, self._topics, None, self._spill)
                again.tail.forget(vouched[name].to)
                if not self._read_all([again], {}, ends, wanted, loading) or not self._refold(
                    again, ends, wanted, loading
                ):
                    return {}
                done[name] = again.finish(*numbers)
        return done

    def _vouched(
        self,
        shard: int,
        metadata: Mapping[str, str],
        ends: Mapping[Partition, int],
        wanted: Callable[[], bool],
        loading: Loading,
    ) -> dict[str, Vouched]:
        """Return each aggregate's last checkpoint: as it was committed with the offset, else from the audit topic."""
        found = {name: vouched_in(told) for name, told in metadata.items()}
        part = (self._topics.named(AUDIT), shard)

        def pick(records: Sequence[Record]) -> None:
            for record in records:
                name = (record.key or b"").decode().partition("/")[0]
                if metadata.get(name) == "":
                    body = self._codec.decode(record.value or b"")[1]
                    found[name] = Vouched(body["number"], body["to"], bytes.fromhex(body["root"]))

        if "" in metadata.values():
            self._read({part: pick}, {part: 0}, ends, wanted, loading)
        return found

    def _fold(self, name: str, shard: int) -> Fold:
        return Fold(
            self._aggregates[name], shard, self._codec, self._topics, self.states()[name], self._spill
        )

    def follow(self, shard: int) -> Followed | None:
        """Return the folds of a shard that somebody else owns, with their snapshots read. Blocking."""
        folds = [self._fold(name, shard) for name in self._aggregates]
        parts = [part for fold in folds for part in fold.parts]
        ends = self._broker.ends(parts, committed=True)
        sinks: dict[Partition, Sink] = {fold.snapshots_at: fold.snapshots for fold in folds}
        self._read(sinks, dict.fromkeys(sinks, 0), ends, lambda: True, Loading())
        at = {part: ends[part] for part in sinks}
        ends = self._broker.ends(parts, committed=True)  # no mark that was read points beyond these
        commands = [(self._topics.commands(name), shard) for name in self._aggregates]
        for fold, committed in zip(folds, self._broker.unstable(commands), strict=True):
            at |= fold.open(ends)
            fold.tail.forget(vouched_in(committed.metadata).to)
        return Followed({fold.slice.aggregate.name: fold for fold in folds}, at)

    def _read_all(
        self,
        folds: Sequence[Fold],
        followed: Mapping[Partition, int],
        ends: Mapping[Partition, int],
        wanted: Callable[[], bool],
        loading: Loading,
    ) -> bool:
        """Read snapshots, then events and outcomes; what was followed goes on from where it is."""
        for fold in folds:
            loading.slices[fold.slice.aggregate.name] = fold.slice
        sinks: dict[Partition, Sink] = {fold.snapshots_at: fold.snapshots for fold in folds}
        if not self._read(sinks, {part: followed.get(part, 0) for part in sinks}, ends, wanted, loading):
            return False
        starts: dict[Partition, int] = {}
        sinks = {}
        for fold in folds:
            starts |= followed if fold.opened else fold.open(ends)
            loading.slices[fold.slice.aggregate.name] = fold.slice
            sinks[fold.events_at], sinks[fold.outcomes_at] = fold.events, fold.outcomes
            if fold.quarantine_at in fold.parts:
                sinks[fold.quarantine_at] = fold.quarantine
        return self._read(sinks, starts, ends, wanted, loading)

    def _refold(
        self, fold: Fold, ends: Mapping[Partition, int], wanted: Callable[[], bool], loading: Loading
    ) -> bool:
        """Read the events again of aggregates that were redacted after they were folded. False if no longer wanted."""
        if not fold.stale:
            return True
        found, part = Histories(fold.stale), fold.events_at
        if not self._read({part: found.events}, {part: 0}, ends, wanted, loading):
            return False
        fold.refold(found)
        return True

    def history(self, piece: Slice, key: bytes) -> History:
        """Read an aggregate's events back. Blocking: one pass over its partition."""
        found, part = Histories([key]), (self._topics.events(piece.aggregate.name), piece.shard)
        ends = self._broker.ends([part], committed=True)
        self._read({part: found.events}, {part: 0}, ends, lambda: True, Loading())
        return found.found[key]

    def recall(self, piece: Slice, numbers: Sequence[int]) -> dict[int, dict[bytes, Remembered]]:
        """Read back the answers that chunks of a slice's index stand for, by chunk. Blocking: one pass a chunk."""
        return {number: self._recall(piece, number) for number in numbers}

    def _recall(self, piece: Slice, number: int) -> dict[bytes, Remembered]:
        chunk = piece.saved.chunks.get(number)
        if chunk is None:  # it went out of date meanwhile
            return {}
        picked = Recall(chunk, self._codec)
        part = (self._topics.outcomes(piece.aggregate.name), piece.shard)
        ends = self._broker.ends([part], committed=True)
        self._read({part: picked.outcomes}, {part: chunk.outcomes}, ends, lambda: picked.missing, Loading())
        return picked.found

    def waiting(self, piece: Slice, wanted: Callable[[], bool]) -> tuple[list[Waiting], int]:
        """Return the next commands that wait no more, in order, and the end of their quarantine. Blocking.

        Everything that was decided of the slice must be committed. Nothing is returned once it is no longer wanted.
        """
        key = piece.released()
        assert key is not None, "somebody waits"
        part, parked = (self._topics.quarantine(piece.aggregate.name), piece.shard), piece.parked[key]
        queue = Queue(key, parked, _RELEASED_RECORDS, _RELEASED_BYTES)
        ends = self._broker.ends([part], committed=True)
        if not self._read({part: queue.take}, {part: parked.at}, ends, wanted, Loading()):
            return [], 0
        topic = self._topics.commands(piece.aggregate.name)
        return queue.waiting(topic, piece.shard, piece.next - 1), ends[part]

    def _read(
        self,
        sinks: Mapping[Partition, Sink],
        starts: Mapping[Partition, int],
        ends: Mapping[Partition, int],
        wanted: Callable[[], bool],
        loading: Loading,
    ) -> bool:
        """Hand every record from ``starts`` to ``ends`` to its sink, in order. False if no longer wanted."""
        at = {part: starts[part] for part in sinks if starts[part] < ends[part]}
        loading.left += sum(ends[part] - start for part, start in at.items())
        if not at:
            return True
        fetcher = self._broker.reader()
        fetcher.at = dict(at)
        silent_since = time.monotonic()
        try:
            while fetcher.at and wanted():
                moved = False
                for part, records, after, _ in fetcher.read(_POLL_S, _WAIT_S):
                    if records:
                        sinks[part](records)
                    moved = moved or after > at[part]
                    loading.records += len(records)
                    loading.left -= min(after, ends[part]) - min(at[part], ends[part])
                    at[part] = after
                    if after >= ends[part]:
                        del fetcher.at[part]
                if moved:
                    silent_since = time.monotonic()
                elif time.monotonic() > silent_since + _SILENCE_MAX_S:
                    silence = (
                        f"nothing came of {sorted(fetcher.at)} for {_SILENCE_MAX_S:.0f} s: {fetcher.problem}"
                    )
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, silence))
        except KafkaException:
            self._broker.renew()
            raise
        left, fetcher.at = fetcher.at, {}
        return not left
