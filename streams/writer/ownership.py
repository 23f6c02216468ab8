"""The shards a worker owns: taken over, fed with fetched commands, and given back without anything of them in flight."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaException

from schemas.topics import Topics
from streams.failures import BrokenLog, Hanging
from streams.metrics import Counters
from streams.protocol.record import Record
from streams.recovery.load import Loader, Loading
from streams.recovery.offsets import written_by
from streams.shards.parked import Waiting
from streams.shards.pending import Batch
from streams.shards.shard import Shard, Slice
from streams.writer.transaction import Membership
from streams.writer.work import Chunk, Work, next_timer, take

_log = logging.getLogger(__name__)


class Read(NamedTuple):
    """The state of one aggregate, as of ``position`` (the last event sequence of its shard).

    ``stale``: there may be a newer one, and version 0 may mean not yet loaded.
    """

    version: int
    state: Any
    stale: bool
    position: int


class Flow(Protocol):
    """The hold on the consumer. Both calls return at once and take effect soon, in order."""

    def flow(self, shard: int, offsets: Mapping[str, int], epoch: int) -> None:
        """Fetch the shard's topics from these offsets; everything fetched from now on carries ``epoch``."""

    def halt(self, shard: int) -> None:
        """Fetch nothing of the shard."""


class Ownership:
    """Owns shards. Everything runs on the event loop, except what says otherwise.

    ``connect`` ends whatever transaction this worker had open; it comes before every load.
    """

    def __init__(
        self,
        topics: Topics,
        aggregates: Iterable[str],
        loader: Loader,
        writer_id: str,
        connect: Callable[[], Awaitable[None]],
        counters: Counters,
    ) -> None:
        self.more = asyncio.Event()  # there is something to decide
        self.wanted = threading.Event()  # what comes now is decided soon
        self.asked = False  # a transaction has ended, and nothing has come since
        self.problem: str | None = None
        self._topics = topics
        self._names = {topics.commands(name): name for name in aggregates}
        self._loader = loader
        self._writer_id = writer_id
        self._connect = connect
        self._counters = counters
        self._flow: Flow | None = None
        self._shards: dict[int, Shard] = {}
        self._parked: dict[int, Shard] = {}
        self._membership = Membership()
        self._busy: list[Work] = []
        self._changed = threading.Condition()  # guards the four above: they change together
        self._load_threads = ThreadPoolExecutor(4, "load")
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: dict[int, Loading] = {}
        self._resting: frozenset[str] = frozenset()
        self.resting_topics: frozenset[str] = frozenset()
        self._epoch = 0
        self._closing = False

    # ---------------------------------------------------------------- what others may ask
    def phases(self) -> dict[int, str]:
        """Return the shards this worker owns, each with its phase: loading, claiming or ready."""
        with self._changed:
            return {number: shard.phase for number, shard in sorted(self._shards.items())}

    @property
    def ready(self) -> bool:
        """True when no owned shard is still being taken over."""
        return all(phase == "ready" for phase in self.phases().values())

    @property
    def buffered(self) -> tuple[int, int]:
        """Records, and their bytes, fetched and to be decided: the transport pauses fetching above its limits. Resting
        ones do not count: they would hold up the others.
        """
        each = [shard.buffered(self._resting) for shard in list(self._shards.values())]
        return sum(records for records, _ in each), sum(size for _, size in each)

    def progress(self) -> dict[int, float]:
        """Return how far the shards being loaded are, from 0 to 1."""
        with self._changed:
            numbers = [number for number, shard in sorted(self._shards.items()) if shard.phase == "loading"]
        return {number: self._loading[number].progress for number in numbers if number in self._loading}

    def state(self, aggregate: str, key: bytes, shard: int) -> Read | None:
        """Return the newest committed state from memory, if this worker owns the shard.

        While the shard is still being taken over, what is already known is returned, marked stale.
        """
        owned, loading = self._shards.get(shard), self._loading.get(shard)
        if owned is None:
            return None
        stale = owned.phase != "ready"
        slices = loading.slices if stale and loading is not None else owned.slices
        if (piece := slices.get(aggregate)) is None:
            return None
        entry = piece.states.get(key)
        version, state = (entry.version, entry.state) if entry else (0, piece.aggregate.initial)
        return Read(version, state, stale, piece.position)

    # ---------------------------------------------------------------- membership (from the transport)
    def bind(self, flow: Flow) -> None:
        """Connect to the consumer that is steered; once, before the first assignment."""
        self._flow = flow

    def acquire(self, numbers: Iterable[int], membership: Membership) -> None:
        """Take over shards. Loading begins at once, in threads; one held-up shard does not hold the others."""
        fresh = []
        with self._changed:
            self._membership = membership
            for number in numbers:
                if number not in self._shards:
                    self._shards[number] = self._parked.pop(number, Shard(number, {}))
                    fresh.append(self._shards[number])
        for shard in fresh:
            self._load(shard)

    def refresh(self, membership: Membership) -> None:
        """Note the group metadata of now (it changes without a callback in the KIP-848 protocol). Any thread."""
        with self._changed:
            self._membership = membership

    def release(self, numbers: Iterable[int]) -> None:
        """Give shards up: returns when no transaction that could contain them is open any more. Blocking; poll thread."""
        gone = set(numbers)
        with self._changed:
            for number in gone:
                shard = self._shards.pop(number, None)
                if shard is not None:
                    for piece in shard.slices.values():
                        piece.pending.clear()
                    shard.phase = "loading"
                    self._parked[number] = shard
            self._changed.wait_for(lambda: not any(gone & work.shards.keys() for work in self._busy))

    def ask(self) -> None:
        """Have read what has come while a transaction committed. Any thread."""
        self.asked = True
        self.wanted.set()

    def submit(self, batches: Iterable[Batch]) -> None:
        """Take batches for deciding; one from before its shard's last seek is dropped (it is fetched again)."""
        self.asked = False
        for batch in batches:
            shard = self._shards.get(batch.partition)
            if shard is None or shard.epoch != batch.epoch or shard.phase != "ready":
                continue
            piece = shard.slices[self._names[batch.topic]]
            piece.pending.extend(batch.records)
            if batch.reached is not None:
                piece.reached = batch.reached
            self.more.set()

    def awaits_end(self, topic: str, number: int) -> bool:
        """Tell whether timers of the partition wait until its end is met. Any thread."""
        shard = self._shards.get(number)
        piece = None if shard is None else shard.slices.get(self._names[topic])
        return piece is not None and piece.aggregate.tick is not None and not piece.armed

    # ---------------------------------------------------------------- work (from the engine)
    def open(self, before: Work | None) -> Work:
        """Return empty work; until it is closed, no shard that it touches is given back."""
        work = Work(before)
        with self._changed:
            self._busy.append(work)
        return work

    def close(self, *works: Work) -> None:
        """Say that nothing of the works is in flight any more: committed, aborted or dropped."""
        with self._changed:
            self._busy = [work for work in self._busy if work not in works]
            self._changed.notify_all()

    def awaited(self, work: Work) -> bool:
        """Tell whether a shard of the work is being given up: somebody waits for its transaction."""
        return any(number not in self._shards for number in work.shards)

    def take(
        self, work: Work, now_ms: int, records_max: int, bytes_max: int, limits: dict[str, int]
    ) -> Chunk:
        """Take what is there into ``work``, and with it the membership of the same moment."""
        with self._changed:
            work.membership = self._membership
            return take(work, self._shards.values(), now_ms, records_max, bytes_max, limits)

    def rest(self, aggregates: Collection[str]) -> None:
        """Say which aggregates are not decided now: what they have fetched is kept, and no more is fetched of them."""
        if aggregates or self._resting:
            self._resting = frozenset(aggregates)
            self.resting_topics = frozenset(self._topics.commands(name) for name in aggregates)

    def take_unsigned(self, work: Work) -> None:
        """Take into ``work`` every slice of which something is not vouched for by a checkpoint, and nothing else."""
        with self._changed:
            work.membership = self._membership
            for shard in self._shards.values():
                if shard.phase == "ready":
                    for piece in shard.slices.values():
                        if piece.trail.since:
                            work.part(shard, piece)

    def parked(self) -> dict[str, int]:
        """Return how many aggregates of each kind are parked; kinds without any are left out."""
        found = Counter[str]()
        for shard in list(self._shards.values()):
            for name, piece in list(shard.slices.items()):
                found[name] += len(piece.parked)
        return {name: count for name, count in sorted(found.items()) if count}

    def command_ids(self) -> dict[str, int]:
        """Return how many ids of commands that shard remembers which has the most of each kind."""
        found = dict[str, int]()
        for shard in list(self._shards.values()):
            for name, piece in list(shard.slices.items()):
                found[name] = max(found.get(name, 0), piece.command_ids)
        return dict(sorted(found.items()))

    def next_timer(self) -> int | None:
        """Return when the next timer is due (ms), or None."""
        return next_timer(list(self._shards.values()), self._resting)

    def begin(self, shard: Shard) -> None:
        """The shard is this worker's: let its commands flow, from the committed offsets on."""
        shard.phase = "ready"
        for piece in shard.slices.values():
            piece.reached, piece.recalling = -1, False
            if piece.parked:
                self.release_parked(piece)
        if self._flow is not None:
            offsets = {self._topics.commands(name): piece.next for name, piece in shard.slices.items()}
            self._flow.flow(shard.number, offsets, shard.epoch)

    def recall(self, piece: Slice, numbers: tuple[int, ...], key: bytes | None, rest: list[Record]) -> None:
        """Put records back, and decide them once chunks of old answers, and the events of an aggregate, are read back. The
        other slices go on.
        """
        piece.pending.put_back(rest)
        piece.recalling = True
        self._run(self._recall(piece, numbers, key))

    def hold(self, piece: Slice, rest: list[Record]) -> None:
        """Put records back, and decide nothing of the slice until those that waited behind a parked one are read back."""
        piece.pending.put_back(rest)
        piece.recalling = True

    def release_parked(self, piece: Slice) -> None:
        """Read back those that are to wait no more, once what let them go is committed; they are decided first."""
        if piece.released() is not None:
            piece.recalling = True
            self._run(self._release_parked(piece))

    def reload(self, shards: Mapping[int, Shard]) -> None:
        """Load shards again, as far as they are still owned: what the log says is true. Kept, if nobody wrote since."""
        with self._changed:
            mine = [shard for number, shard in shards.items() if self._shards.get(number) is shard]
        for shard in mine:
            if self._flow is not None:
                self._flow.halt(shard.number)
            self._load(shard)

    async def idle(self) -> None:
        """Return when no work is open."""

        def wait() -> None:
            with self._changed:
                self._changed.wait_for(lambda: not self._busy)

        await asyncio.get_running_loop().run_in_executor(None, wait)

    def stop(self) -> None:
        """Load nothing any more."""
        self._closing = True
        self.more.set()

    # ---------------------------------------------------------------- taking over
    def _load(self, shard: Shard) -> None:
        """Load in the background. The epoch makes batches fetched before it worthless."""
        self._epoch += 1
        shard.phase, shard.epoch = "loading", self._epoch
        for piece in shard.slices.values():
            piece.pending.clear()
        self._run(self._take_over(shard, self._epoch))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recall(self, piece: Slice, numbers: tuple[int, ...], key: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._load_threads, self._loader.recall, piece, numbers)
            piece.saved.recalled.update(found)
            if key is not None:
                history = await loop.run_in_executor(self._load_threads, self._loader.history, piece, key)
                piece.history = (key, history)
        except KafkaException as error:
            self.problem = f"old records of {piece.aggregate.name}/{piece.shard} cannot be read: {error}"
            _log.warning("%s; trying again", self.problem)
            await asyncio.sleep(0.5)
        piece.recalling = False  # if it went wrong, the same command asks again
        self.more.set()

    async def _release_parked(self, piece: Slice) -> None:
        name, loop, shard = piece.aggregate.name, asyncio.get_running_loop(), self._shards.get(piece.shard)
        epoch = -1 if shard is None else shard.epoch

        def wanted() -> bool:
            shard = self._shards.get(piece.shard)
            return shard is not None and shard.epoch == epoch and not self._closing

        while wanted():
            try:
                found, end = await loop.run_in_executor(
                    self._load_threads, self._loader.waiting, piece, wanted
                )
            except KafkaException as error:
                self.problem = f"what waits in quarantine of {name}/{piece.shard} cannot be read: {error}"
                _log.warning("%s; trying again", self.problem)
                await asyncio.sleep(0.5)
                continue
            if found and wanted():
                piece.pending.drop(Waiting)  # of an earlier time
                piece.pending.put_back(found)
                piece.quarantined, piece.recalling = end, False
                self.more.set()
            return

    async def _take_over(self, shard: Shard, epoch: int) -> None:
        def wanted() -> bool:
            return self._shards.get(shard.number) is shard and shard.epoch == epoch and not self._closing

        loop = asyncio.get_running_loop()
        pause = 0.2
        while wanted():
            try:
                await self._connect()
                loading = self._loading[shard.number] = Loading()
                loaded = await loop.run_in_executor(
                    self._load_threads, self._loader.load, shard.number, shard.slices, wanted, loading
                )
                break
            except (KafkaException, Hanging, BrokenLog) as error:
                self.problem = f"shard {shard.number}: {error}"
                _log.warning("%s; trying again in %.1f s", self.problem, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0 if isinstance(error, KafkaException) else 10.0)
        else:
            return
        if loaded is None or not wanted():
            return
        self._loading.pop(shard.number, None)
        self.problem = None  # the broker has answered; what else is wrong says so again
        self._counters.loads += 1
        shard.slices, kept = loaded
        self._counters.kept += kept == len(shard.slices)
        if all(written_by(piece.metadata) == self._writer_id for piece in shard.slices.values()):
            self.begin(shard)  # nobody else has claimed it since
        else:
            shard.phase = "claiming"
        self.more.set()
