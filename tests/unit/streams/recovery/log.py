"""A log in memory: one slice's writer with its snapshots, and loads of what it has written so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.codec import Codec
from schemas.topics import Topics
from streams.checkpoints import CheckpointEncoder, Signer
from streams.protocol.record import Record
from streams.recovery.answers import Recall
from streams.recovery.fold import Fold, Partition
from streams.recovery.history import Histories
from streams.recovery.load import UNREAD
from streams.recovery.offsets import Committed
from streams.recovery.snapshots import StateCodec, fold_hash
from streams.shards.parked import Waiting
from streams.shards.saved import Remembered
from streams.shards.shard import Slice
from streams.writer.checkpoints import Checkpoints
from streams.writer.snapshots import Snapshots
from streams.writer.staged import Staged
from tests.support.records import Bench, record_of, redact, told

TAIL = ("account.events", "account.outcomes")
NOW_MS = 1_700_000_000_000


@dataclass
class Log:
    """Commits transactions of one slice into topics in memory, markers included, and folds them again."""

    bench: Bench = field(default_factory=lambda: Bench(command_ids_max=1_000_000))
    tail_records: int = 1 << 40  # sweeps begin when the test says so
    fold: str = "log"
    topics: dict[str, list[Record]] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    next: int = 0

    def __post_init__(self) -> None:
        aggregate = self.bench.slice.aggregate
        self.bench.slice.next = max(self.bench.slice.next, 0)
        self.codec = StateCodec(aggregate, fold_hash(aggregate, self.bench.catalogue, self.fold))
        # One for all who read: it compiles a function for each schema, which takes longer than to read the records.
        self.reader = Codec(self.bench.codec.registry, self.bench.catalogue, UNREAD)
        signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
        encoder = CheckpointEncoder(signer, self.bench.catalogue, self.bench.codec)
        self.checkpoints = Checkpoints("audit", encoder, "c/node/n")
        self.snapshots = Snapshots(
            Topics(), lambda: {aggregate.name: self.codec}, self._end_of, self.tail_records
        )

    def _end_of(self, parts: Any) -> Mapping[Partition, int]:
        return {part: self.ends.get(part[0], 0) for part in parts}

    def cut(self) -> None:
        """Give the slice the broker's answer: here is where the log ends."""
        self.bench.slice.saved.cut = (
            self.ends.get("account.events", 0),
            self.ends.get("account.outcomes", 0),
        )

    def commit(self, *records: Record, now_ms: int = NOW_MS, closing: bool = False) -> Staged:
        """Decide the records in one transaction, and commit it."""
        piece = self.bench.slice
        for one in records:
            if not isinstance(one, Waiting):
                one.offset, self.next = self.next, self.next + 1
        staged = Staged.on(piece, None)
        decided = self.bench.decider.stage(staged, list(records))
        if rest := [one for one in records[decided:] if not isinstance(one, Waiting)]:
            self.next = rest[0].offset  # the rest waits until something is read back
        self.snapshots.stage([staged], now_ms)
        self.checkpoints.stage(staged, now_ms, closing=closing)
        for topic, value, key, _, headers in staged.out:
            offset = self.ends.get(topic, 0)
            self.topics.setdefault(topic, []).append(
                record_of(value, key, offset, told(headers), topic, now_ms)
            )
            self.ends[topic] = offset + 1
        for topic in {produced[0] for produced in staged.out}:
            self.ends[topic] += 1  # the marker
        piece.next, piece.sequence, piece.position = staged.next, staged.sequence, staged.position
        piece.merge(staged.states, staged.index)
        piece.park(staged.parked)
        self.snapshots.committed(staged)
        self.checkpoints.committed(staged, now_ms)
        return staged

    def redact(self, key: bytes, sequence: int, *fields: str, **more: Any) -> Staged:
        """Decide a redaction in a transaction of its own: the first try reads the aggregate's events back."""
        wanted = redact(sequence, *fields, key=key, **more)
        assert self.commit(wanted).unread == key
        found = Histories([key])
        found.events([*self.topics["account.events"]])
        self.bench.slice.history = (key, found.found[key])
        return self.commit(wanted)

    def load(self, *, with_snapshots: bool = True, fold: str | None = None) -> Slice:
        """Fold what is there now, as the next owner would."""
        return self.follow(with_snapshots=with_snapshots, fold=fold).finish()

    def follow(self, *, with_snapshots: bool = True, fold: str | None = None) -> "Follower":
        """Return a fold that has read the snapshots of now."""
        bench, aggregate = self.bench, self.bench.slice.aggregate
        states = StateCodec(aggregate, fold_hash(aggregate, bench.catalogue, fold or self.fold))
        follower = Follower(
            self, Fold(aggregate, 0, self.reader, Topics(), states if with_snapshots else None)
        )
        follower.read("account.snapshots")
        starts = follower.fold.open({(topic, 0): self.ends.get(topic, 0) for topic in TAIL})
        follower.at |= {topic: offset for (topic, _), offset in starts.items()}
        follower.fold.tail.forget(bench.slice.trail.vouched.to)
        return follower

    def recall(self, number: int) -> dict[bytes, Remembered]:
        """Read a chunk's answers back, a record at a time."""
        chunk = self.bench.slice.saved.chunks[number]
        picked = Recall(chunk, self.reader)
        for record in self.topics["account.outcomes"]:
            if record.offset >= chunk.outcomes and picked.missing:
                picked.outcomes([record])
        return picked.found

    def move(self, *, fold: str | None = None) -> None:
        """Let another worker take the slice over, one whose fold may be another."""
        self.bench.slice = self.load(fold=fold)
        if fold is not None:
            self.fold = fold
            self.__post_init__()


@dataclass
class Follower:
    """A fold and how far it has read."""

    log: Log
    fold: Fold
    at: dict[str, int] = field(default_factory=dict)

    def read(self, topic: str) -> None:
        """Read a topic to its end."""
        start = self.at.get(topic, 0)
        self.fold.take(topic, [record for record in self.log.topics.get(topic, []) if record.offset >= start])
        self.at[topic] = self.log.ends.get(topic, 0)

    def finish(self) -> Slice:
        """Take the slice over."""
        for topic in ("account.snapshots", *TAIL, "account.quarantine"):
            self.read(topic)
        if self.fold.stale:
            found = Histories(self.fold.stale)
            found.events([*self.log.topics["account.events"]])
            self.fold.refold(found)
        piece = self.log.bench.slice
        vouched = piece.trail.vouched
        committed = Committed(piece.next, f"c/node/n|{piece.sequence}|{vouched}")
        return self.fold.finish(committed, vouched, 0, 0, NOW_MS)
