"""What a worker holds of a shard: per aggregate the states, the index of command ids, and where it stands in the log."""

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from streams.domain.aggregate import Aggregate
from streams.protocol.record import Record
from streams.shards.entry import Entry, Packed
from streams.shards.parked import Parked
from streams.shards.pending import Pending
from streams.shards.saved import Remembered, Saved
from streams.shards.trail import Trail

Phase = Literal["loading", "claiming", "ready"]


@dataclass(slots=True)
class Slice:
    """One aggregate's part of one shard; its commands partition has one offset, its log one sequence.

    ``next`` is the committed offset that ``states`` belong to, ``metadata`` what was committed with it: while the
    broker's offset and metadata are both equal, nobody has written since. ``sequence`` counts the events and outcomes
    written, ``position`` is the sequence of the last event. ``saved`` says what of it is snapshotted, ``trail`` what of it
    no checkpoint vouches for; ``recalling``: answers, an aggregate's events or commands that waited are being read back, and no
    command is decided until they are there. ``history`` are the events read back last, whose and by version, up to the next
    commit. ``parked`` are the aggregates that wait for one of their commands in quarantine; what is parked from now on stands
    there at or after the offset ``quarantined``.
    """

    aggregate: Aggregate
    shard: int
    states: dict[bytes, Entry] = field(default_factory=dict)
    index: dict[bytes, Remembered] = field(default_factory=dict)
    next: int = -1
    metadata: str = ""
    sequence: int = 0
    position: int = 0
    pending: Pending = field(default_factory=Pending)
    timers: list[tuple[int, bytes]] = field(default_factory=list)
    arm_at: int = 0
    armed: bool = False
    reached: int = -1
    saved: Saved = field(default_factory=Saved)
    trail: Trail = field(default_factory=Trail)
    recalling: bool = False
    history: tuple[bytes, Mapping[int, Record]] | None = None
    parked: dict[bytes, Parked] = field(default_factory=dict)
    quarantined: int = 0

    @property
    def command_ids(self) -> int:
        """How many ids of commands are remembered; the newest, whose answers are in memory, may count twice."""
        return len(self.index) + len(self.saved.older)

    def caught_up(self, decided: int) -> bool:
        """Tell whether every command up to the end seen at the take-over (trailing markers included) is decided;
        ``decided`` is the offset up to which they are.
        """
        return not self.pending and max(decided, self.reached) >= self.arm_at

    def merge(self, states: dict[bytes, Entry], index: dict[bytes, Remembered]) -> None:
        """Take over what a committed transaction decided; timers follow the new states."""
        self.history = None
        self.states.update(states)
        self.saved.dirty.update(states)
        self.index.update(index)
        if self.armed and self.aggregate.tick is not None:
            due = self.aggregate.due
            for key, entry in states.items():
                if (at := due(entry.state)) is not None:
                    heapq.heappush(self.timers, (at, key))

    def park(self, parked: dict[bytes, Parked]) -> None:
        """Take over who waits after a committed transaction; timers of those that wait no more count again."""
        over, self.parked = self.parked.keys() - parked.keys(), parked
        if self.armed and self.aggregate.tick is not None:
            for key in over:
                entry = self.states.get(key)
                if entry is not None and (at := self.aggregate.due(entry.state)) is not None:
                    heapq.heappush(self.timers, (at, key))

    def released(self) -> bytes | None:
        """Return an aggregate of which those that waited are to be decided now, or None."""
        return next((key for key, parked in self.parked.items() if not parked.first), None)

    def arm(self, now_ms: int, overlays: Sequence[Mapping[bytes, Entry]] = ()) -> None:
        """Let time count for the states, and for those decided on top of them but not yet committed (oldest first),
        once all commands from before the take-over are decided.
        """
        self.armed, self.timers = True, []
        wake, due = self.aggregate.wake, self.aggregate.due
        for states in (self.states, *overlays):
            for key, entry in states.items():
                if type(entry.kept) is Packed:
                    continue  # it is not due, and nothing wakes it
                entry.kept = wake(entry.kept, now_ms)
                if (at := due(entry.kept)) is not None:
                    self.timers.append((at, key))
        heapq.heapify(self.timers)

    def expired(
        self, now_ms: int, limit: int, newest: Callable[[bytes], Entry | None]
    ) -> Iterator[tuple[int, bytes]]:
        """Take the timers that are due (at most ``limit``), earliest first, each aggregate once.

        A superseded one is dropped unfired: the state that superseded it has put its own into the heap, or does so
        when it is committed.
        """
        taken: set[bytes] = set()
        while self.timers and self.timers[0][0] <= now_ms and len(taken) < limit:
            _, key = heapq.heappop(self.timers)
            entry = newest(key)
            current = None if entry is None else self.aggregate.due(entry.state)
            if current is not None and current <= now_ms and key not in taken:
                taken.add(key)
                yield current, key


@dataclass(slots=True)
class Shard:
    """All slices with one partition number: what a worker owns, loads, claims and gives back as a whole."""

    number: int
    slices: dict[str, Slice]
    phase: Phase = "loading"
    epoch: int = 0

    def buffered(self, resting: Collection[str]) -> tuple[int, int]:
        """Return how many records, and bytes, are fetched and not yet decided, of all aggregates but the ``resting``."""
        waiting = [piece.pending for name, piece in list(self.slices.items()) if name not in resting]
        return sum(map(len, waiting)), sum(pending.bytes for pending in waiting)
