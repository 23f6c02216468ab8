"""Taking over a shard: from the log to a slice that may decide. The order of the steps is the safety argument.

1. The worker's own ``init_transactions`` has ended what this node had open (the caller's duty).
2. *Stable* committed offsets: no undecided transaction can still move them.
3. High watermarks of the topics to fold, taken after step 2; wait until all below them is decided.
4. Fold, to the *consumer's* position, so that markers and holes of compaction cannot stall it.
5. Verify versions and sequence.
The caller then claims the shard with a transaction of its own, seeks and resumes.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.codec import Codec
from schemas.topics import Topics, key_of
from streams.domain.aggregate import Aggregate
from streams.recovery.offsets import Broker, Committed, sequence_in
from streams.shards.record import Record
from streams.shards.shard import Entry, Remembered, Slice
from streams.translation import from_record

_log = logging.getLogger(__name__)
Partition = tuple[str, int]


class BrokenLog(RuntimeError):
    """The log contradicts itself: a version or sequence is missing or doubled. The shard takes no commands."""


class Fold:
    """Rebuilds one slice from its events and outcomes, and checks them while at it."""

    def __init__(self, aggregate: Aggregate, shard: int, codec: Codec, topics: Topics) -> None:
        self.slice = Slice(aggregate, shard)
        self.events = (topics.events(aggregate.name), shard)
        self.outcomes = (topics.outcomes(aggregate.name), shard)
        self.source_offset = -1
        self._kinds = {f"flexcore.{aggregate.name}.{kind.__name__}": kind for kind in aggregate.events}
        self._codec = codec
        self._written = 0
        self._event_sequence = 0
        self._outcome_sequence = 0
        self.complete = True

    def event(self, record: Record) -> None:
        """Fold one event. Raises :class:`BrokenLog` on a hole or a repeat."""
        fullname, body = self._codec.decode(record.value() or b"")
        kind = self._kinds.get(fullname)
        envelope = body.pop("envelope")
        key = key_of(envelope["tenant"], envelope["aggregate_id"])
        version, sequence = envelope["version"], envelope["sequence"]
        entry = self.slice.states.get(key)
        known = entry.version if entry else 0
        if kind is None or version != known + 1 or sequence <= self._event_sequence:
            raise BrokenLog(
                f"{self.events[0]}/{self.events[1]} at {record.offset()}: {fullname} has version {version} and sequence"
                f" {sequence} after version {known} and sequence {self._event_sequence}; `flexcore event verify` names"
                " the first bad record"
            )
        state = entry.state if entry else self.slice.aggregate.initial
        self.slice.states[key] = Entry(version, self.slice.aggregate.evolve(state, from_record(kind, body)))
        self._event_sequence = sequence
        self._written += 1
        self.source_offset = max(self.source_offset, envelope["source_offset"])

    def outcome(self, record: Record) -> None:
        """Remember one outcome. An answer given again is the same answer, and takes no sequence."""
        headers = dict(record.headers() or ())
        self.source_offset = max(self.source_offset, int(headers.get("source-offset") or -1))
        if "replayed" in headers:
            return
        value = record.value() or b""
        _, body = self._codec.decode(value)
        if body["sequence"] <= self._outcome_sequence:
            raise BrokenLog(
                f"{self.outcomes[0]}/{self.outcomes[1]} at {record.offset()}: sequence {body['sequence']} repeats"
            )
        self._outcome_sequence = body["sequence"]
        self._written += 1
        if body["stored"]:
            key = key_of(body["tenant"], body["aggregate_id"]) + body["command_id"].encode()
            self.slice.index[key] = Remembered(body["body_hash"], value)

    def finish(self, committed: Committed, first_offset: int) -> Slice:
        """Return the slice at its committed offset, or after the last source offset in the log when there is none."""
        piece = self.slice
        piece.sequence = max(self._event_sequence, self._outcome_sequence)
        piece.position = self._event_sequence
        piece.metadata = committed.metadata
        piece.next = committed.offset if committed.offset >= 0 else max(self.source_offset + 1, first_offset)
        promised = sequence_in(committed.metadata)
        if promised > piece.sequence or (self.complete and self._written != piece.sequence):
            raise BrokenLog(
                f"{self.events[0]}/{self.events[1]}: the last writer had written up to sequence {promised}, the log holds"
                f" {self._written} records up to {piece.sequence}: records are missing"
            )
        return piece


class Loader:
    """Loads shards from the log; blocking, one shard a call, several calls side by side in threads."""

    def __init__(self, broker: Broker, aggregates: Sequence[Aggregate], codec: Codec, topics: Topics) -> None:
        self._broker = broker
        self._aggregates = aggregates
        self._codec = codec
        self._topics = topics

    def load(
        self, shard: int, known: dict[str, Slice], wanted: Callable[[], bool]
    ) -> tuple[dict[str, Slice], int] | None:
        """Return the shard's slices and how many of them were kept from ``known``; None once it is no longer wanted.

        A known slice is kept if the broker's offset *and* metadata are still the ones it has: then nobody wrote since.
        Raises ``Hanging``, :class:`BrokenLog` or ``KafkaException``.
        """
        start = time.monotonic()
        names = [aggregate.name for aggregate in self._aggregates]
        commands: list[Partition] = [(self._topics.commands(name), shard) for name in names]
        committed = self._broker.stable(commands, wanted)
        if committed is None:
            return None
        at = dict(zip(names, committed, strict=True))
        kept = {
            name: piece
            for name, piece in known.items()
            if piece.next >= 0 and (piece.next, piece.metadata) == (at[name].offset, at[name].metadata)
        }
        folds = [
            Fold(aggregate, shard, self._codec, self._topics)
            for aggregate in self._aggregates
            if aggregate.name not in kept
        ]
        ends = (
            self._broker.ends([part for fold in folds for part in (fold.events, fold.outcomes)])
            if folds
            else {}
        )
        if not self._broker.settled(ends, commands, wanted):
            return None
        lows = self._broker.starts([*ends, *commands])
        if not self._read(folds, ends, wanted):
            return None
        slices = dict(kept)
        for fold in folds:
            name = fold.slice.aggregate.name
            fold.complete = lows[fold.outcomes] == 0
            slices[name] = fold.finish(at[name], lows[self._topics.commands(name), shard])
        highs = self._broker.ends(commands)
        for name, piece in slices.items():
            piece.arm_at = highs[self._topics.commands(name), shard]
            piece.armed, piece.reached = False, -1
        _log.info(
            "shard %d: %d slices folded, %d kept, %.0f ms",
            shard,
            len(folds),
            len(kept),
            1e3 * (time.monotonic() - start),
        )
        return slices, len(kept)

    def _read(self, folds: Sequence[Fold], ends: dict[Partition, int], wanted: Callable[[], bool]) -> bool:
        sinks: dict[Partition, Callable[[Record], None]] = {}
        for fold in folds:
            sinks[fold.events], sinks[fold.outcomes] = fold.event, fold.outcome
        left = {part for part, end in ends.items() if end > 0}
        if not left:
            return True
        consumer = self._broker.reader()
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in left])
        try:
            while left and wanted():
                self._drain(consumer, sinks, ends, left)
        finally:
            consumer.unassign()
        return not left

    @staticmethod
    def _drain(
        consumer: Consumer,
        sinks: dict[Partition, Callable[[Record], None]],
        ends: dict[Partition, int],
        left: set[Partition],
    ) -> None:
        for record in cast(list[Record], consumer.consume(5000, 0.05)):
            part = (record.topic(), record.partition())
            error = record.error()
            if error is None:
                sinks[part](record)
            elif error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            elif record.offset() >= ends[part]:
                left.discard(part)
