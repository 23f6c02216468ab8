"""What keeps a take-over short: snapshots, chunks of the index and the mark, written in the owner's transactions.

A *sweep* begins when the tail of the log behind the last mark is long. It writes, a few with every transaction, a
snapshot of every aggregate that has events behind its last one, and the ids of the commands answered meanwhile in
chunks; when all are written, the mark moves. So a shard is loaded from its snapshots and a bounded tail, and answers
that are old are held by the log instead of by memory.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final

from schemas.outcome import command_id_of
from schemas.topics import Topics
from streams.protocol.record_batch import NO_HEADERS
from streams.recovery.fold import Partition
from streams.recovery.snapshots import MARK_KEY, StateCodec, Unusable, chunk_key
from streams.shards.identity import uuid_bytes
from streams.shards.saved import ANSWERS_KEPT, Chunk, Mark, Named, Sweep, Written
from streams.shards.shard import Slice
from streams.topics import COMMANDS_RETENTION_MS
from streams.writer.staged import Staged

_log = logging.getLogger(__name__)
_STATES_MIN = 256
_CHUNK_IDS = 2048  # noted in memory at one go: 1.5 µs each
_BYTES_MAX: Final = 1 << 20
_RECORD_BYTES_MAX: Final = 3 << 20
_TAIL_PER_STATE: Final = 3
_EXPIRED_MAX: Final = 1000
# Longer than a command may come back, shorter than the outcomes are there.
_CHUNK_AGE_MAX_MS: Final = COMMANDS_RETENTION_MS + 43_200_000


class Snapshots:
    """Decides what of a slice goes into its snapshots topic, and keeps the books. On the event loop; never blocks.

    ``states`` returns the codec of each aggregate, ``ends`` the last stable offsets of partitions (blocking, called in
    a thread). A sweep begins when more than ``tail_records`` events and outcomes stand behind the mark; later when
    many aggregates are written, for then there are as many snapshots to write.
    """

    def __init__(
        self,
        topics: Topics,
        states: Callable[[], Mapping[str, StateCodec | None]],
        ends: Callable[[Sequence[Partition]], Mapping[Partition, int]],
        tail_records: int,
    ) -> None:
        self._topics = topics
        self._states = states
        self._ends = ends
        # One thread: each that asks has a consumer of its own.
        self._ends_thread = ThreadPoolExecutor(1, "ends")
        self._tail_records = tail_records
        self._turns = 0

    def stage(self, parts: Iterable[Staged], now_ms: int) -> None:
        """Add to a transaction what sweeps have to write next. Everything before it is merged, nothing after it decided
        is in ``parts``.

        The slices that sweep take turns, but those with so many commands that a step of a sweep is little beside them:
        else a transaction of a few commands would take all their steps, and some milliseconds longer.
        """
        sweeping: list[tuple[Staged, StateCodec]] = []
        for part in parts:
            codec = self._states()[part.slice.aggregate.name]
            if codec is None:
                continue
            if part.redacted:
                self._replace(part, codec)
            if part.slice.saved.sweeping:
                sweeping.append((part, codec))
        self._turns += 1
        for number, (part, codec) in enumerate(sweeping):
            if number == self._turns % len(sweeping) or part.commands + part.timers >= _STATES_MIN:
                self._sweep(part, codec, now_ms)

    def _sweep(self, part: Staged, codec: StateCodec, now_ms: int) -> None:
        piece, saved = part.slice, part.slice.saved
        sweep = saved.sweep = saved.sweep or _begin(piece)
        topic, written = self._topics.snapshots(piece.aggregate.name), Written()
        try:
            out = _next(part, sweep, codec, written, now_ms)
        except Unusable as error:
            saved.stuck, saved.sweep, saved.cut = True, None, None
            _log.error("%s/%d takes no more snapshots, its tail grows: %s", topic, piece.shard, error)
            return
        part.out += [(topic, value, key, piece.shard, NO_HEADERS) for key, value in out]
        part.written = written

    def _replace(self, part: Staged, codec: StateCodec) -> None:
        """Put states without the redacted values in the place of their snapshots, whether there are any or not.

        A mark of another fold is taken back, as at the beginning of a sweep; ours, if a state cannot be snapshotted.
        """
        topic, shard = self._topics.snapshots(part.slice.aggregate.name), part.slice.shard
        found: dict[bytes, bytes | None] = {}
        for key in part.redacted:
            entry = part.states[key]
            try:
                found[key] = codec.state(entry.version, entry.state, entry.chain)
            except Unusable:
                found[key] = None
        if part.slice.saved.mark is None or None in found.values():
            part.out.append((topic, codec.mark(Mark()), MARK_KEY, shard, NO_HEADERS))
        part.out += [(topic, value, key, shard, NO_HEADERS) for key, value in found.items()]

    def committed(self, part: Staged) -> None:
        """Note what a committed and merged transaction wrote; begin a sweep if the tail is long."""
        piece, saved, written = part.slice, part.slice.saved, part.written
        if written is None:
            idle = not (saved.sweeping or saved.asked or saved.stuck)
            if idle and self._is_long(piece) and self._states()[piece.aggregate.name] is not None:
                self._ask(piece)
            return
        saved.dirty.difference_update(written.states)
        for key, entry in written.resting.items():
            if piece.states[key].version == entry.version:
                piece.states[key] = entry
        if written.chunk is not None:
            saved.remember(written.chunk)
            saved.chunked += written.chunk.chunk.count
            surplus = saved.chunked - ANSWERS_KEPT
            for key in list(islice(piece.index, max(surplus, 0))):
                del piece.index[key]
            saved.chunked -= max(surplus, 0)
        for number in written.expired:
            saved.forget(number)
        if written.mark is not None:
            saved.mark = written.mark
        if written.last:
            saved.restart()
            saved.recalled.clear()

    def _is_long(self, piece: Slice) -> bool:
        mark = piece.saved.mark
        if mark is None:
            return piece.sequence >= self._tail_records
        limit = max(self._tail_records, _TAIL_PER_STATE * len(piece.saved.dirty))
        return piece.sequence - mark.sequence >= limit

    def _ask(self, piece: Slice) -> None:
        name, saved = piece.aggregate.name, piece.saved
        parts = ((self._topics.events(name), piece.shard), (self._topics.outcomes(name), piece.shard))

        def answered(answer: "asyncio.Future[Mapping[Partition, int]]") -> None:
            saved.asked = False
            if answer.cancelled() or (error := answer.exception()) is not None:
                _log.warning(
                    "%s/%d: no snapshots for now: %s", *parts[0], None if answer.cancelled() else error
                )
            else:
                # Everything below was decided by transactions that are merged before the next one is staged.
                saved.cut = (answer.result()[parts[0]], answer.result()[parts[1]])

        saved.asked = True
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._ends_thread, self._ends, parts).add_done_callback(answered)


def _begin(piece: Slice) -> Sweep:
    """Return a sweep over what is merged: the mark is right once all that is dirty now is written."""
    saved = piece.saved
    assert saved.cut is not None
    events, outcomes = saved.cut
    return Sweep(
        Mark(events, outcomes, piece.sequence, piece.position, piece.next),
        list(saved.dirty),
        iter(list(islice(piece.index, saved.chunked, None))),
    )


def _next(
    part: Staged, sweep: Sweep, codec: StateCodec, written: Written, now_ms: int
) -> list[tuple[bytes, bytes | None]]:
    """Return the keys and values of the next records, noted in ``written``. Raises :class:`Unusable`."""
    piece, saved = part.slice, part.slice.saved
    out: list[tuple[bytes, bytes | None]] = []
    if saved.mark is None:
        # Another fold's mark must not stand over snapshots of this one.
        written.mark = Mark()
        out.append((MARK_KEY, codec.mark(written.mark)))
    size = 0
    most = max(_STATES_MIN, part.commands + part.timers)
    while sweep.states and len(written.states) < most and size < _BYTES_MAX:
        key = sweep.states.pop()
        entry = part.states.get(key) or piece.states[key]
        value = codec.state(entry.version, entry.state, entry.chain)
        if len(value) > _RECORD_BYTES_MAX:
            raise Unusable(
                f"the state of {key!r} has {len(value)} bytes, and a snapshot at most {_RECORD_BYTES_MAX}"
            )
        size += len(value)
        written.states.append(key)
        if (resting := codec.resting(value)) is not None:
            written.resting[key] = resting
        out.append((key, value))
    ids_max = max(_CHUNK_IDS, 2 * part.commands)  # faster than they come, so that the sweep ends
    if taken := list(islice(sweep.answers, ids_max)):
        answers = [piece.index[key] for key in taken]
        ids = b"".join([one.command_uuid or uuid_bytes(command_id_of(one.outcome)) for one in answers])
        first = saved.mark.outcomes if saved.mark else 0
        sequences = answers[0].sequence, answers[-1].sequence
        chunk = Chunk(max(saved.chunks, default=-1) + 1, first, *sequences, now_ms, len(taken))
        written.chunk = Named(chunk, ids)
        out.append((chunk_key(chunk.number), codec.chunk(written.chunk)))
    if not sweep.states and len(taken) < ids_max:
        expired = [number for number, chunk in saved.chunks.items() if chunk.at < now_ms - _CHUNK_AGE_MAX_MS]
        written.expired = expired[:_EXPIRED_MAX]
        out += [(chunk_key(number), None) for number in written.expired]
        written.mark, written.last = sweep.mark, True
        out.append((MARK_KEY, codec.mark(sweep.mark)))
    return out
