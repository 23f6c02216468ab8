"""What goes into one transaction: which claims, records and timers of which shards."""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from streams.protocol.record import Record
from streams.protocol.record_batch import Batches
from streams.shards.shard import Shard, Slice
from streams.writer.staged import Staged
from streams.writer.transaction import Membership

_TIMERS_MAX: Final = 500


@dataclass(slots=True, eq=False)
class Work:
    """What one transaction is about: shards claimed, what was decided for each slice, and as whose member.

    ``batches`` are the records decided so far, put together while they are warm in the processor's cache. ``before`` is the work that is being committed meanwhile, if any: this one was decided on top of it. ``commit`` is done
    when it is committed.
    """

    before: "Work | None" = None
    claims: list[Shard] = field(default_factory=list)
    parts: dict[tuple[str, int], Staged] = field(default_factory=dict)
    shards: dict[int, Shard] = field(default_factory=dict)
    membership: Membership = field(default_factory=Membership)
    records: int = 0
    bytes: int = 0
    batches: Batches = field(default_factory=Batches)
    metadata: dict[tuple[str, int], str] = field(default_factory=dict)
    commit: "asyncio.Future[None] | None" = None

    def __bool__(self) -> bool:
        return bool(self.claims or self.parts)

    def part(self, shard: Shard, piece: Slice) -> Staged:
        """Return the slice's overlay, made on top of what is being committed of it."""
        key = (piece.aggregate.name, piece.shard)
        part = self.parts.get(key)
        if part is None:
            under = None if self.before is None else self.before.parts.get(key)
            part = self.parts[key] = Staged.on(piece, under)
            self.shards[shard.number] = shard
        return part

    def newest(self, piece: Slice) -> Staged:
        """Return the slice's overlay for reading only."""
        key = (piece.aggregate.name, piece.shard)
        under = None if self.before is None else self.before.parts.get(key)
        return self.parts.get(key) or Staged.on(piece, under)

    def vouches(self, piece: Slice) -> bool:
        """Tell whether this transaction holds a checkpoint of the slice."""
        part = self.parts.get((piece.aggregate.name, piece.shard))
        return part is not None and part.vouched is not None

    def settle(self) -> None:
        """Note that the work before is committed and merged."""
        self.before = None
        for part in self.parts.values():
            part.under = None


@dataclass(slots=True)
class Chunk:
    """What is to be decided next: the event loop gets its turn between two of them."""

    records: list[tuple[Staged, list[Record]]] = field(default_factory=list)
    timers: list[tuple[Staged, list[tuple[int, bytes]]]] = field(default_factory=list)


def take(
    work: Work,
    shards: Iterable[Shard],
    now_ms: int,
    records_max: int,
    bytes_max: int,
    limits: dict[str, int],
) -> Chunk:
    """Take what is there into ``work``, bounded by records and bytes, and by ``limits`` for some aggregates: an
    aggregate whose limit is 0 rests, its timers too. Commands come before timers: a completion that was in time wins
    over its deadline.
    """
    claimed = {shard.number for one in (work, work.before) if one is not None for shard in one.claims}
    ready: list[tuple[Shard, Slice]] = []
    for shard in shards:
        if shard.phase == "ready":
            ready += [(shard, piece) for piece in shard.slices.values()]
        elif shard.phase == "claiming" and shard.number not in claimed:
            work.claims.append(shard)
            work.shards[shard.number] = shard
    ready.sort(key=lambda item: -len(item[1].pending))
    chunk = Chunk()
    for shard, piece in ready:
        rests = bool(limits) and limits.get(piece.aggregate.name) == 0
        if piece.pending and not piece.recalling and not rests and records_max > 0 and bytes_max > 0:
            name = piece.aggregate.name
            taken, size = piece.pending.take(min(records_max, limits.get(name, records_max)), bytes_max)
            if name in limits:
                limits[name] -= len(taken)
            records_max, bytes_max = records_max - len(taken), bytes_max - size
            work.records += len(taken)
            work.bytes += size
            chunk.records.append((work.part(shard, piece), taken))
        if piece.trail.due(now_ms) and not (work.before and work.before.vouches(piece)):
            work.part(shard, piece)  # its checkpoint is written even if nothing else is
        if piece.saved.sweeping and work.before is None:
            work.part(shard, piece)  # its sweep comes to its end even if nothing else does
        if not piece.pending and piece.aggregate.tick is not None and not rests:
            _timers(work, chunk, shard, piece, now_ms)
    return chunk


def _timers(work: Work, chunk: Chunk, shard: Shard, piece: Slice, now_ms: int) -> None:
    if not piece.armed:
        newest = work.newest(piece)
        # What was taken into this very chunk is not decided yet.
        if not piece.caught_up(newest.next) or any(part is newest for part, _ in chunk.records):
            return
        under = newest.under
        piece.arm(now_ms, [newest.states] if under is None else [under.states, newest.states])
    if piece.timers and piece.timers[0][0] <= now_ms:
        newest = work.newest(piece)
        if due := list(piece.expired(now_ms, _TIMERS_MAX, newest.entry)):
            chunk.timers.append((work.part(shard, piece), due))


def next_timer(shards: Iterable[Shard], resting: Collection[str]) -> int | None:
    """Return when the earliest timer of the shards is due (ms), or None; those of ``resting`` aggregates do not count."""
    firsts = [
        piece.timers[0][0]
        for shard in shards
        if shard.phase == "ready"
        for piece in shard.slices.values()
        if piece.timers and piece.aggregate.name not in resting
    ]
    return min(firsts, default=None)
