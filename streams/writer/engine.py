"""The worker's write path: shards owned, commands in, one Kafka transaction at a time.

The loop reads as the path of a command: take what is there, decide on an overlay, produce, send offsets, commit in a
thread, and only then merge the overlay. Whatever fails, the overlay is dropped and the broker is asked what is true.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from schemas.errors import RegistryUnavailable
from schemas.topics import Topics
from streams.failures import Hanging
from streams.metrics import Counters
from streams.recovery.load import BrokenLog, Loader
from streams.recovery.offsets import written_by
from streams.settings import WorkerSettings
from streams.shards.record import Record
from streams.shards.shard import Shard
from streams.writer.decide import Decider, Staged
from streams.writer.plan import Plan, make_plan, next_timer
from streams.writer.transaction import Membership, TransactionalWriter

_log = logging.getLogger(__name__)
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG}


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition in order, fetched in ``epoch``; ``reached`` is the end of the partition, if it was met."""

    topic: str
    partition: int
    epoch: int
    records: list[Record]
    reached: int | None = None


class Flow(Protocol):
    """The engine's hold on the consumer. Both calls return at once and take effect in the poll thread, in order."""

    def flow(self, shard: int, offsets: Mapping[str, int], epoch: int) -> None:
        """Fetch the shard's topics from these offsets; everything fetched from now on carries ``epoch``."""

    def halt(self, shard: int) -> None:
        """Fetch nothing of the shard."""


class Engine:
    """Owns shards and decides their commands. Everything public runs on the event loop, except :meth:`release`."""

    def __init__(
        self,
        settings: WorkerSettings,
        topics: Topics,
        deciders: Mapping[str, Decider],
        writer: TransactionalWriter,
        loader: Loader,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counters = Counters()
        self.problem: str | None = None
        self._settings = settings
        self._topics = topics
        self._deciders = deciders
        self._names = {topics.commands(name): name for name in deciders}
        self._writer = writer
        self._loader = loader
        self._clock = clock
        self._flow: Flow | None = None
        self._shards: dict[int, Shard] = {}
        self._parked: dict[int, Shard] = {}
        self._lock = threading.Lock()  # guards _shards and _membership: they change together
        self._membership = Membership()
        self._idle = threading.Event()
        self._idle.set()
        self._more = asyncio.Event()
        self._commit_thread = ThreadPoolExecutor(1, "commit")
        self._load_threads = ThreadPoolExecutor(4, "load")
        self._tasks: set[asyncio.Task[None]] = set()
        self._epoch = 0
        self._limit = settings.batch_records_max
        self._condemned: dict[str, frozenset[int]] = {}
        self._last_commit = 0.0
        self._now_ms = 0
        self._stopping = False

    # ---------------------------------------------------------------- what others may ask
    def shards(self) -> dict[int, str]:
        """Return the shards this worker owns, each with its phase: loading, claiming or ready."""
        with self._lock:
            return {number: shard.phase for number, shard in sorted(self._shards.items())}

    @property
    def ready(self) -> bool:
        """True when no owned shard is still being taken over."""
        return all(phase == "ready" for phase in self.shards().values())

    @property
    def buffered(self) -> int:
        """Records fetched and not yet decided: the transport pauses fetching above its limit."""
        return sum(shard.buffered for shard in list(self._shards.values()))

    def state(self, aggregate: str, key: bytes, shard: int) -> tuple[int, Any] | None:
        """Return version and newest committed state from memory, if this worker owns the shard and has it ready."""
        owned = self._shards.get(shard)
        if owned is None or owned.phase != "ready":
            return None
        piece = owned.slices[aggregate]
        entry = piece.states.get(key)
        return (entry.version, entry.state) if entry else (0, piece.aggregate.initial)

    # ---------------------------------------------------------------- membership (from the transport)
    def bind(self, flow: Flow) -> None:
        """Connect the engine to the consumer it steers; once, before the first assignment."""
        self._flow = flow

    def acquire(self, numbers: Iterable[int], membership: Membership) -> None:
        """Take over shards. Loading begins at once, in threads; one held-up shard does not hold the others."""
        fresh = []
        with self._lock:
            self._membership = membership
            for number in numbers:
                if number not in self._shards:
                    self._shards[number] = self._parked.pop(number, Shard(number, {}))
                    fresh.append(self._shards[number])
        for shard in fresh:
            self._load(shard)

    def refresh(self, membership: Membership) -> None:
        """Note the group metadata of now (it changes without a callback in the KIP-848 protocol). Any thread."""
        with self._lock:
            self._membership = membership

    def release(self, numbers: Iterable[int]) -> None:
        """Give shards up: returns when no transaction that could contain them is open any more. Blocking; poll thread."""
        with self._lock:
            for number in numbers:
                shard = self._shards.pop(number, None)
                if shard is not None:
                    for piece in shard.slices.values():
                        piece.pending.clear()
                    shard.phase = "loading"
                    self._parked[number] = shard
        self._idle.wait()

    def submit(self, batch: Batch) -> None:
        """Take a batch for deciding; one from before the shard's last seek is dropped (it is fetched again)."""
        shard = self._shards.get(batch.partition)
        if shard is None or shard.epoch != batch.epoch or shard.phase != "ready":
            return
        piece = shard.slices[self._names[batch.topic]]
        piece.pending.extend(batch.records)
        if batch.reached is not None:
            piece.reached = batch.reached
        self._more.set()

    # ---------------------------------------------------------------- life
    async def stop(self) -> None:
        """Finish the open transaction and take no more. Shards stay parked until the group is left."""
        self._stopping = True
        self._more.set()
        await self._call(None, self._idle.wait)

    def close(self) -> None:
        """End the threads; nothing may be under way."""
        self._commit_thread.shutdown(wait=False)
        self._load_threads.shutdown(wait=False)

    async def run(self) -> None:
        """Decide until stopped. Raises ``NodeTaken`` if another process runs as this node; nothing else ends it."""
        while not self._stopping:
            await self._wait()
            with self._lock:
                plan = make_plan(
                    self._shards.values(), self._time(), self._limit, self._settings.batch_bytes_max
                )
                membership = self._membership
                if not plan:
                    continue
                self._idle.clear()
            try:
                await self._transaction(plan, membership)
            except (KafkaException, BufferError, RegistryUnavailable) as error:
                await self._failed(plan, error)
            finally:
                self._idle.set()

    async def _wait(self) -> None:
        """Wait for work: records, a claim, or the next timer; and keep the pause between transactions."""
        self._more.clear()
        if not self._has_work():
            due = next_timer(list(self._shards.values()))
            timeout = 1.0 if due is None else min(max(due / 1000 - self._clock(), 0.0) + 0.001, 1.0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), timeout)
        # Without a pause librdkafka meets the coordinator still busy with the last markers, and waits 20 ms.
        rest = self._last_commit + self._settings.commit_gap_ms / 1000 - time.monotonic()
        if rest > 0:
            await asyncio.sleep(rest)

    def _has_work(self) -> bool:
        return any(shard.phase == "claiming" or shard.buffered for shard in list(self._shards.values()))

    def _time(self) -> int:
        """Return the clock in ms; it never goes backwards."""
        self._now_ms = max(self._now_ms, int(self._clock() * 1000))
        return self._now_ms

    # ---------------------------------------------------------------- one transaction
    async def _transaction(self, plan: Plan, membership: Membership) -> None:
        if not membership.valid:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "not a member of the group"))
        if not self._writer.usable:
            await self._call(self._commit_thread, self._writer.connect)
        self._writer.begin()
        staged = self._stage(plan)
        for part in staged:
            self._writer.produce(part.out)
        offsets = self._offsets(plan, staged)
        await self._call(self._commit_thread, self._commit, offsets, membership)
        self._merge(plan, staged, {(tp.topic, tp.partition): tp.metadata or "" for tp in offsets})

    def _stage(self, plan: Plan) -> list[Staged]:
        staged: dict[int, Staged] = {}
        for _, piece, records in plan.work:
            name = piece.aggregate.name
            condemned = self._condemned.get(f"{name}/{piece.shard}", frozenset())
            staged[id(piece)] = self._deciders[name].stage(piece, records, condemned)
        for _, piece, timers in plan.timers:
            part = staged.get(id(piece)) or Staged(piece, piece.next, piece.sequence, piece.position)
            staged[id(piece)] = part
            for due, key in timers:
                self._deciders[piece.aggregate.name].tick(part, key, due, self._now_ms)
        return list(staged.values())

    def _offsets(self, plan: Plan, staged: list[Staged]) -> list[TopicPartition]:
        changed = {
            id(part.slice): (part.slice, part.next, part.sequence)
            for part in staged
            if part.out or part.records
        }
        for shard in plan.claims:
            for piece in shard.slices.values():
                changed.setdefault(id(piece), (piece, piece.next, piece.sequence))
        return [
            TopicPartition(
                self._topics.commands(piece.aggregate.name),
                piece.shard,
                offset,
                f"{self._writer.id}|{sequence}",
            )
            for piece, offset, sequence in changed.values()
        ]

    def _commit(self, offsets: list[TopicPartition], membership: Membership) -> None:
        self._writer.send_offsets(offsets, membership)
        self._writer.commit()

    def _merge(self, plan: Plan, staged: list[Staged], metadata: Mapping[tuple[str, int], str]) -> None:
        """The transaction is committed: its overlay becomes the state, claimed shards begin to flow."""
        self._last_commit = time.monotonic()
        self.problem = None
        self.counters.transactions += 1
        for part in staged:
            piece = part.slice
            piece.next, piece.sequence, piece.position = part.next, part.sequence, part.position
            piece.merge(part.states, part.index)
            self._count(part)
            self._condemned.pop(f"{piece.aggregate.name}/{piece.shard}", None)
        for shard in plan.shards.values():
            for piece in shard.slices.values():
                written = metadata.get((self._topics.commands(piece.aggregate.name), piece.shard))
                piece.metadata = piece.metadata if written is None else written
        for shard in plan.claims:
            self._begin(shard)
        self._limit = min(self._settings.batch_records_max, self._limit * 2)

    def _count(self, part: Staged) -> None:
        counters = self.counters
        counters.commands += part.commands
        counters.events += part.events
        counters.duplicates += part.duplicates
        counters.rejected += part.rejected
        counters.quarantined += part.quarantined
        counters.forwarded += part.forwarded
        counters.timers += part.timers

    # ---------------------------------------------------------------- take-over, and what follows a failure
    async def _failed(self, plan: Plan, error: Exception) -> None:
        """Drop the overlay, end the transaction, and load every touched shard again: kept, if nothing was committed."""
        self.counters.aborts += 1
        self.problem = f"transaction failed: {error}"
        _log.warning("%s (%d records of shards %s)", self.problem, plan.records, sorted(plan.shards))
        self._narrow(plan, error)
        await self._call(self._commit_thread, self._writer.abort, error)
        self._idle.set()
        with self._lock:
            mine = [shard for number, shard in plan.shards.items() if self._shards.get(number) is shard]
        for shard in mine:
            if self._flow is not None:
                self._flow.halt(shard.number)
            self._load(shard)
        # The heartbeat thread needs a moment to hear what the broker has already told us.
        await asyncio.sleep(0.05)

    def _narrow(self, plan: Plan, error: Exception) -> None:
        """Halve the batch down to the one command that cannot be written; that one fails when it comes again."""
        if isinstance(error, KafkaException):
            if error.args[0].code() not in _TOO_LARGE:
                return
        elif not isinstance(error, BufferError):
            return
        if plan.records > 1:
            self._limit = max(1, plan.records // 2)
        elif plan.work:
            _, piece, records = plan.work[0]
            self._limit = 1
            self._condemned[f"{piece.aggregate.name}/{piece.shard}"] = frozenset({records[0].offset()})

    def _load(self, shard: Shard) -> None:
        """Load in the background. The epoch makes batches fetched before it worthless."""
        self._epoch += 1
        shard.phase, shard.epoch = "loading", self._epoch
        for piece in shard.slices.values():
            piece.pending.clear()
        task = asyncio.ensure_future(self._take_over(shard, self._epoch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take_over(self, shard: Shard, epoch: int) -> None:
        def wanted() -> bool:
            return self._shards.get(shard.number) is shard and shard.epoch == epoch and not self._stopping

        pause = 0.2
        while wanted():
            try:
                await self._call(self._commit_thread, self._writer.connect)
                loaded = await self._call(
                    self._load_threads, self._loader.load, shard.number, shard.slices, wanted
                )
                break
            except (KafkaException, Hanging, BrokenLog) as error:
                self.problem = f"shard {shard.number}: {error}"
                _log.warning("%s; trying again in %.1f s", self.problem, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10.0)
        else:
            return
        if loaded is None or not wanted():
            return
        self.counters.loads += 1
        shard.slices, kept = loaded
        self.counters.kept += kept == len(shard.slices)
        if all(written_by(piece.metadata) == self._writer.id for piece in shard.slices.values()):
            self._begin(shard)  # nobody else has claimed it since
        else:
            shard.phase = "claiming"
        self._more.set()

    def _begin(self, shard: Shard) -> None:
        shard.phase = "ready"
        for piece in shard.slices.values():
            piece.reached = -1
        if self._flow is not None:
            offsets = {self._topics.commands(name): piece.next for name, piece in shard.slices.items()}
            self._flow.flow(shard.number, offsets, shard.epoch)

    @staticmethod
    async def _call(pool: Executor | None, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
