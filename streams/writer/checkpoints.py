"""Checkpoints of what the worker has written, signed, in its own transactions: the hash of everything until then."""

from streams.checkpoints import Checkpoint, CheckpointEncoder
from streams.protocol.record_batch import NO_HEADERS
from streams.shards.trail import Trail
from streams.writer.staged import Staged


class Checkpoints:
    """Decides when a slice's checkpoint is written, and keeps the books. On the event loop; never blocks."""

    def __init__(self, topic: str, encoder: CheckpointEncoder, writer_id: str) -> None:
        self._topic = topic
        self._encoder = encoder
        self._writer_id = writer_id
        self._key_told: set[int] = set()

    def stage(self, part: Staged, now_ms: int, *, closing: bool) -> None:
        """Add to a transaction the checkpoint over everything committed before it, if one is due.

        A sweep of snapshots needs one too: who takes over reads the log from its mark, and must be able to go on.
        ``closing``: the worker stops, and leaves nothing unsigned.
        """
        piece, trail = part.slice, part.slice.trail
        sweep = piece.saved.sweep
        marked = sweep is not None and trail.vouched.to < sweep.mark.sequence
        if not trail.since or not (closing or marked or trail.due(now_ms)):
            return
        part.vouched = trail.next(piece.sequence)
        events_hash, outcomes_hash = trail.hashes()
        checkpoint = Checkpoint(
            number=part.vouched.number,
            aggregate=piece.aggregate.name,
            shard=piece.shard,
            after=trail.vouched.to,
            to=part.vouched.to,
            events=trail.events,
            events_hash=events_hash.hex(),
            outcomes=trail.outcomes,
            outcomes_hash=outcomes_hash.hex(),
            previous=trail.vouched.root.hex(),
            root=part.vouched.root.hex(),
            writer=self._writer_id,
            at=now_ms,
            key_id=self._encoder.key_id,
        )
        if piece.shard not in self._key_told:
            key, value = self._encoder.key_record
            part.out.append((self._topic, value, key, piece.shard, NO_HEADERS))
        part.out.append(
            (self._topic, self._encoder.checkpoint(checkpoint), checkpoint.key, piece.shard, NO_HEADERS)
        )

    def committed(self, part: Staged, now_ms: int) -> None:
        """Note what a committed transaction wrote."""
        piece = part.slice
        if part.vouched is not None:
            piece.trail = Trail(part.vouched)
            self._key_told.add(piece.shard)
        piece.trail.add(part.chains, part.answers, now_ms)
