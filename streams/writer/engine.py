"""The worker's write path: commands in, one Kafka transaction at a time. This page is the way of a command.

:meth:`Engine.run` repeats: decide what comes in, if it is much, on an overlay while the transaction before is being committed; when
that one is through, merge it, go on deciding and producing while there is a backlog, send offsets, produce the rest, and
commit; offsets and commits have a thread. Whatever fails, the overlays are dropped and the broker is asked what is true.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from schemas.errors import RegistryUnavailable
from schemas.topics import Topics
from streams.failures import TopicRefused
from streams.metrics import Counters
from streams.protocol.record import Record
from streams.recovery.load import Loader
from streams.settings import WorkerSettings
from streams.writer.breaker import Breakers
from streams.writer.checkpoints import Checkpoints
from streams.writer.decide import Decider
from streams.writer.ownership import Ownership
from streams.writer.snapshots import Snapshots
from streams.writer.staged import Staged
from streams.writer.transaction import TransactionalWriter
from streams.writer.work import Work

_log = logging.getLogger(__name__)
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG}
_CHUNK_RECORDS = 512
_PASS_RECORDS = 128  # what one pass leaves for the next then stays in the processor's second cache
_EARLY_RECORDS = 64  # from which on they are decided while a transaction commits
_NEWS_S = 0.003  # how long a transaction of fewer waits for what has come since the one before
_FLUSH_BYTES = 1 << 20
_OPEN_S = 0.3  # how long a transaction goes on under a backlog: others wait for it
_SIGN_OFF_S = 2.0


class Engine:
    """Decides the commands of the owned shards. Everything runs on the event loop; only commits do not."""

    def __init__(
        self,
        settings: WorkerSettings,
        topics: Topics,
        deciders: Mapping[str, Decider],
        writer: TransactionalWriter,
        loader: Loader,
        snapshots: Snapshots,
        checkpoints: Checkpoints,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counters = Counters()
        self.breakers = Breakers()
        self._settings = settings
        self._topics = topics
        self._deciders = deciders
        self._writer = writer
        self._snapshots = snapshots
        self._checkpoints = checkpoints
        self._clock = clock
        self._commit_thread = ThreadPoolExecutor(1, "commit")
        self.ownership = Ownership(topics, deciders, loader, writer.id, self._connect, self.counters)
        self._flight: Work | None = None
        self._limit = settings.batch_records_max
        self._condemned: dict[tuple[str, int], frozenset[int]] = {}
        self._pause: asyncio.Future[None] | None = None  # done when the next transaction may begin
        self._news_until = 0.0
        self._pace_s = 0.0  # what a command of the last chunk took
        self._now_ms = 0
        self._stopping = False
        self._ended = asyncio.Event()
        self._ended.set()

    async def stop(self) -> None:
        """Finish what is decided, vouch for it, and take no more. Shards stay parked until the group is left."""
        self._stopping = True
        self.ownership.stop()
        await self._ended.wait()
        await self.ownership.idle()

    async def run(self) -> None:
        """Decide until stopped. Raises ``NodeTaken`` if another process runs as this node; nothing else ends it."""
        self._ended.clear()
        try:
            await self._run()
            await self._sign_off()
        finally:
            await self._call(self._writer.close)
            self._ended.set()

    async def _run(self) -> None:
        while not self._stopping or self._flight is not None:
            work = self.ownership.open(self._flight)
            try:
                await self._gather(work)
                if work:
                    await self._send(work)
                else:
                    self.ownership.close(work)
            except (KafkaException, BufferError, RegistryUnavailable, TopicRefused) as error:
                await self._failed(work, error)
            except BaseException:
                # What follows ends the process: nobody may wait for this work.
                self.ownership.close(work, *([self._flight] if self._flight else []))
                raise

    # ---------------------------------------------------------------- 1. decide, while the one before commits
    async def _gather(self, work: Work) -> None:
        """Decide what comes in; return once the transaction before is merged and there is something to write."""
        more = self.ownership.more
        while True:
            more.clear()
            if (flight := self._flight) is not None and flight.commit is not None and flight.commit.done():
                self._merge(flight, work)
            # A chunk costs as much as ten commands, so while a transaction commits it is worth it for many only.
            due = self._flight is None or self.ownership.buffered[0] >= _EARLY_RECORDS
            decided = due and not self._stopping and self._decide(work, 2)
            if self._flight is not None:
                wait_s = None
            else:
                may_begin = self._pause is None or self._pause.done()
                news_s = self._until_news(work)
                if self._stopping or (work and may_begin and news_s <= 0):
                    return
                if work:
                    wait_s = news_s if may_begin else None
                else:
                    wait_s = self._until_timer()
                    if may_begin:
                        self.ownership.wanted.set()
            if decided:
                await asyncio.sleep(0)  # the next chunk at once, but others first
                continue
            if wait_s is None:
                await more.wait()
                continue
            with suppress(TimeoutError):  # only timers come without being told
                async with asyncio.timeout(wait_s):
                    await more.wait()

    def _until_news(self, work: Work) -> float:
        """Return how long a small transaction waits for the read that was asked for when the one before ended. Without it, what
        came a moment too late would be written by the next one, and so would, from then on, all that comes.
        """
        if not self.ownership.asked or work.records >= _EARLY_RECORDS:
            return 0.0
        return self._news_until - time.monotonic()

    def _until_timer(self) -> float:
        due = self.ownership.next_timer()
        return 1.0 if due is None else min(max(due / 1000 - self._clock(), 0.0) + 0.001, 1.0)

    def _decide(self, work: Work, share: int = 1) -> bool:
        """Decide one chunk of what is there, on overlays, until the work is as large as a transaction may be, divided by
        ``share``; tell whether there was anything.
        """
        records_max = -(-self._limit // share) - work.records
        bytes_max = self._settings.batch_bytes_max // share - work.bytes
        if records_max <= 0 or bytes_max <= 0:
            return False
        records_max = min(_CHUNK_RECORDS, records_max)
        self._now_ms = max(self._now_ms, int(self._clock() * 1000))  # it never goes backwards
        claims, begun = len(work.claims), time.monotonic()
        limits = self.breakers.limits(self._now_ms)
        chunk = self.ownership.take(work, self._now_ms, records_max, bytes_max, limits)
        for part, records in chunk.records:
            self._stage(work, part, records)
        for part, timers in chunk.timers:
            for due, key in timers:
                if part.parked and key in part.parked:
                    continue
                self._deciders[part.slice.aggregate.name].tick(part, key, due, self._now_ms)
        self.ownership.rest(self.breakers.paused())
        if count := sum(len(records) for _, records in chunk.records):
            self._pace_s = (time.monotonic() - begun) / count
        return bool(chunk.records or chunk.timers or len(work.claims) > claims)

    def _stage(self, work: Work, part: Staged, records: list[Record]) -> None:
        """Decide records of one slice, and judge the rules by it now and then; what is not decided now is put back."""
        name = part.slice.aggregate.name
        decider = self._deciders[name]
        condemned = self._condemned.get((name, part.slice.shard), frozenset())
        for begin in range(0, len(records), _PASS_RECORDS):
            if self.breakers.left_alone(name):
                part.slice.pending.put_back(records[begin:])
                return
            some = records[begin : begin + _PASS_RECORDS]
            judged, failed = part.judged, part.failed
            count = decider.stage(part, some, condemned)
            work.batches.add(part.out)
            self.breakers.note(name, part.judged - judged, part.failed - failed, part.failure, self._now_ms)
            if part.releasing:
                self.ownership.hold(part.slice, records[begin + count :])
                return
            if count < len(some):
                self.ownership.recall(part.slice, part.missing, part.unread, records[begin + count :])
                part.missing, part.unread = (), None
                return

    # ---------------------------------------------------------------- 2. write, and commit in a thread
    async def _send(self, work: Work) -> None:
        if not work.membership.valid:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "not a member of the group"))
        if not self._writer.usable:
            await self._connect()
        self._writer.begin(work.batches)
        if self.ownership.buffered[0] >= _CHUNK_RECORDS:
            await self._go_on(work)
        self._snapshots.stage(work.parts.values(), self._now_ms)
        for part in work.parts.values():
            self._checkpoints.stage(part, self._now_ms, closing=self._stopping)
        offsets = self._offsets(work)
        work.metadata = {(tp.topic, tp.partition): tp.metadata or "" for tp in offsets}
        sent = self._commit_thread.submit(self._writer.send_offsets, offsets, work.membership)
        for part in work.parts.values():
            work.batches.add(part.out)
        loop = asyncio.get_running_loop()
        work.commit, self._pause = loop.create_future(), loop.create_future()
        self._commit_thread.submit(self._commit, sent, work.commit, self._pause, loop)
        self._flight = work

    async def _go_on(self, work: Work) -> None:
        """While more waits than a chunk, decide it and have it written: one commit is for more commands. With less there is no
        waiting: the transaction is as short as it can be.
        """
        until, taken = time.monotonic() + _OPEN_S, _CHUNK_RECORDS
        # Slow rules are asked before the transaction is open, so that it is never open for long.
        while taken >= _CHUNK_RECORDS and time.monotonic() + _CHUNK_RECORDS * self._pace_s < until:
            if work.batches.size >= _FLUSH_BYTES:
                self._commit_thread.submit(self._writer.flush)
            await asyncio.sleep(0)  # others first
            if self._stopping or self.ownership.awaited(work):
                return
            before = work.records
            self._decide(work)
            taken = work.records - before

    def _offsets(self, work: Work) -> list[TopicPartition]:
        """Return where every touched slice stands: the offset to go on from, with writer, sequence and last checkpoint."""
        standing = {
            (name, shard): (part.next, part.sequence, part.vouched or part.slice.trail.vouched)
            for (name, shard), part in work.parts.items()
        }
        for shard in work.claims:
            for name, piece in shard.slices.items():
                here = (piece.next, piece.sequence, piece.trail.vouched)
                standing.setdefault((name, shard.number), here)
        return [
            TopicPartition(
                self._topics.commands(name), number, offset, f"{self._writer.id}|{sequence}|{vouched}"
            )
            for (name, number), (offset, sequence, vouched) in standing.items()
        ]

    def _commit(
        self,
        sent: Future[None],
        commit: "asyncio.Future[None]",
        pause: "asyncio.Future[None]",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Write the rest, commit, and tell the event loop; then again once the next transaction may begin."""
        failure: BaseException | None = None
        try:
            sent.result()
            self._writer.commit()
            self.ownership.ask()
        except BaseException as error:  # noqa: BLE001  # it is raised where the commit is awaited
            failure = error
        loop.call_soon_threadsafe(self._complete, commit, failure)
        # Without a pause the coordinator is still busy with the last markers, and has to be asked again. It is here because
        # the loop's timers count whole milliseconds.
        time.sleep(self._settings.commit_gap_ms / 1000)
        loop.call_soon_threadsafe(self._complete, pause, None)

    def _complete(self, future: "asyncio.Future[None]", failure: BaseException | None) -> None:
        if future.cancelled():
            return
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)
        self.ownership.more.set()

    # ---------------------------------------------------------------- 3. merge, or drop
    def _merge(self, flight: Work, work: Work) -> None:
        """The transaction is committed: its overlay becomes the state, claimed shards begin to flow.

        Raises what the commit raised.
        """
        assert flight.commit is not None
        flight.commit.result()
        self.ownership.problem = None
        self.counters.transactions += 1
        self._news_until = time.monotonic() + _NEWS_S
        for key, part in flight.parts.items():
            piece = part.slice
            piece.next, piece.sequence, piece.position = part.next, part.sequence, part.position
            piece.merge(part.states, part.index)
            if part.parked is not piece.parked:
                piece.park(part.parked)
            if part.releasing:
                self.ownership.release_parked(piece)
            self._snapshots.committed(part)
            self._checkpoints.committed(part, self._now_ms)
            self._count(part)
            self._condemned.pop(key, None)
        for shard in flight.shards.values():
            for name, piece in shard.slices.items():
                written = flight.metadata.get((self._topics.commands(name), piece.shard))
                piece.metadata = piece.metadata if written is None else written
        for shard in flight.claims:
            self.ownership.begin(shard)
        self._limit = min(self._settings.batch_records_max, self._limit * 2)
        self._flight = None
        work.settle()
        self.ownership.close(flight)

    def _count(self, part: Staged) -> None:
        counters = self.counters
        counters.commands += part.commands
        counters.events += part.events
        counters.duplicates += part.duplicates
        counters.rejected += part.rejected
        counters.quarantined += part.quarantined
        counters.forwarded += part.forwarded
        counters.timers += part.timers

    async def _failed(self, work: Work, error: Exception) -> None:
        """Drop the overlays, end the transaction, and load every touched shard again: kept, if nothing was committed."""
        flight = self._flight
        if flight is not None and flight.commit is not None and not flight.commit.done():
            try:  # it was deciding that failed: what is being committed may well succeed
                await flight.commit
                self._merge(flight, work)
            except KafkaException as second:
                error = second
        broken, self._flight = self._flight or work, None
        self.counters.aborts += 1
        self.ownership.problem = f"transaction failed: {error}"
        _log.warning(
            "%s (%d records of shards %s)", self.ownership.problem, broken.records, sorted(broken.shards)
        )
        self._narrow(broken, error)
        try:
            await self._call(self._writer.abort, error)
        finally:
            self.ownership.close(work, broken)
        self.ownership.reload(broken.shards | work.shards)
        # The heartbeat thread needs a moment to hear what the broker has already told us.
        await asyncio.sleep(0.05)

    async def _sign_off(self) -> None:
        """Vouch for everything that is written. What fails here is made good by the next owner."""
        work = self.ownership.open(None)
        try:
            self.ownership.take_unsigned(work)
            if work:
                await self._send(work)
                assert work.commit is not None
                await asyncio.wait_for(asyncio.shield(work.commit), _SIGN_OFF_S)
                self._merge(work, work)
        except (KafkaException, BufferError, TopicRefused, TimeoutError) as error:
            _log.warning("the last checkpoints are left to the next owner: %s", error)
        finally:
            self._flight = None
            self.ownership.close(work)

    def _narrow(self, broken: Work, error: Exception) -> None:
        """Halve the batch down to the one command that cannot be written; that one fails when it comes again."""
        if isinstance(error, KafkaException):
            if error.args[0].code() not in _TOO_LARGE:
                return
        elif not isinstance(error, BufferError | TopicRefused):
            return
        if broken.records > 1:
            self._limit = max(1, broken.records // 2)
            return
        self._limit = 1
        for key, part in broken.parts.items():
            if part.commands:
                self._condemned[key] = frozenset({part.next - 1})

    # ---------------------------------------------------------------- the writer's calls that block
    async def _connect(self) -> None:
        if await self._call(self._writer.connect):
            self.counters.renewals += 1

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._commit_thread, function, *args)
