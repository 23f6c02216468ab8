"""What goes into the next transaction: which records, timers and claims of which shards."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from streams.shards.record import Record
from streams.shards.shard import Shard, Slice

_TIMERS_MAX = 500


@dataclass(slots=True)
class Plan:
    """Work for one transaction. Empty: there is nothing to do."""

    claims: list[Shard] = field(default_factory=list)
    work: list[tuple[Shard, Slice, list[Record]]] = field(default_factory=list)
    timers: list[tuple[Shard, Slice, list[tuple[int, bytes]]]] = field(default_factory=list)
    records: int = 0

    @property
    def shards(self) -> dict[int, Shard]:
        """Every shard the transaction touches."""
        touched = [*self.claims, *(item[0] for item in self.work), *(item[0] for item in self.timers)]
        return {shard.number: shard for shard in touched}

    def __bool__(self) -> bool:
        return bool(self.claims or self.work or self.timers)


def make_plan(shards: Iterable[Shard], now_ms: int, records_max: int, bytes_max: int) -> Plan:
    """Take what is there, bounded by records and bytes. Commands come before timers: a completion that was in time
    wins over its deadline.
    """
    plan = Plan()
    ready: list[tuple[Shard, Slice]] = []
    for shard in shards:
        if shard.phase == "claiming":
            plan.claims.append(shard)
        elif shard.phase == "ready":
            ready += [(shard, piece) for piece in shard.slices.values()]
    ready.sort(key=lambda item: -len(item[1].pending))
    bytes_left = bytes_max
    for shard, piece in ready:
        if piece.pending and plan.records < records_max and bytes_left > 0:
            taken: list[Record] = []
            pending = piece.pending
            while pending and plan.records < records_max and bytes_left > 0:
                record = pending.popleft()
                taken.append(record)
                plan.records += 1
                bytes_left -= len(record)
            plan.work.append((shard, piece, taken))
        if not piece.pending:
            _timers(plan, shard, piece, now_ms)
    return plan


def _timers(plan: Plan, shard: Shard, piece: Slice, now_ms: int) -> None:
    if not piece.armed:
        if not piece.caught_up or any(item[1] is piece for item in plan.work):
            return
        piece.arm(now_ms)
    if piece.timers and piece.timers[0][0] <= now_ms and (due := list(piece.expired(now_ms, _TIMERS_MAX))):
        plan.timers.append((shard, piece, due))


def next_timer(shards: Iterable[Shard]) -> int | None:
    """Return when the earliest timer of the shards is due (ms), or None."""
    firsts = [
        piece.timers[0][0]
        for shard in shards
        if shard.phase == "ready"
        for piece in shard.slices.values()
        if piece.timers
    ]
    return min(firsts, default=None)
