"""The thread that reads the commands of the shards that flow, as fast as they are decided."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaException

from streams.protocol.fetcher import Fetched, Fetcher
from streams.protocol.messages import Partition
from streams.shards.pending import Batch
from streams.writer.ownership import Ownership

_log = logging.getLogger(__name__)
_LOOK_S = 0.1  # how soon a change takes effect; brokers hold back no answer for longer
_LOOK_BUSY_S = (
    0.01  # while shards are being taken over, so that they flow without waiting for an answer to end
)
_FULL_S = 0.02
_FEW_RECORDS = 64  # with fewer, a read costs more than what is read
_UNASKED_S = 0.01  # how long the reader waits for the engine to want more: no command depends on its word
_REFUSED_S = 1.0


class Fetching:
    """Reads what flows into batches, which wait to be taken; the :class:`streams.writer.ownership.Flow` the engine steers.

    Nothing more is read while ``records_max`` or ``bytes_max`` are fetched and not decided: one answer of a broker may go
    beyond it. After few records more is read when the engine wants it, or after a moment: so a transaction has one read.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        ownership: Ownership,
        records_max: int,
        bytes_max: int,
        wait_s: float = 0.0,
    ) -> None:
        """``wait_s``: how long brokers hold back an answer; 0: until there is something."""
        self._fetcher = fetcher
        self._ownership = ownership
        self._records_max, self._bytes_max = records_max, bytes_max
        self._wait_s = wait_s
        self._changes: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._epochs: dict[Partition, int] = {}
        self._resting: dict[Partition, int] = {}
        self._inbox: dict[Partition, Batch] = {}
        self._lock = threading.Lock()  # guards the inbox
        self._backlog = False
        self._quit = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)

    def start(self, arrived: Callable[[], object], crashed: Callable[[Exception], object]) -> None:
        """Start the thread; nothing is read before something flows. ``arrived`` is called, in the thread, when there is something
        to take, ``crashed`` if the thread must end.
        """
        self._arrived, self._crashed = arrived, crashed
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._quit.set()
        if self._thread.is_alive():
            self._thread.join(20.0)

    def flow(self, shard: int, offsets: Mapping[str, int], epoch: int) -> None:
        """Read the shard's topics from these offsets; everything read from now on carries ``epoch``. Returns at once."""

        def begin() -> None:
            for topic, offset in offsets.items():
                part = (topic, shard)
                with self._lock:
                    self._inbox.pop(part, None)
                self._epochs[part] = epoch
                self._resting.pop(part, None)
                self._fetcher.at[part] = offset

        self._changes.put(begin)

    def halt(self, shard: int) -> None:
        """Read nothing of the shard. Returns at once."""

        def end() -> None:
            for parts in (self._fetcher.at, self._resting):
                for part in [part for part in parts if part[1] == shard]:
                    del parts[part]
            with self._lock:
                for part in [part for part in self._inbox if part[1] == shard]:
                    del self._inbox[part]

        self._changes.put(end)

    def take(self) -> list[Batch]:
        """Take what has come, one batch a partition. Any thread."""
        with self._lock:
            taken, self._inbox = self._inbox, {}
        return list(taken.values())

    # ---------------------------------------------------------------- the thread
    def _run(self) -> None:
        try:
            while not self._quit.is_set():
                self._change()
                if not self._has_room():
                    time.sleep(_FULL_S)
                    continue
                self._ownership.wanted.wait(_UNASKED_S)
                look_s = _LOOK_S if self._ownership.ready else _LOOK_BUSY_S
                try:
                    self._deliver(self._fetcher.read(look_s, self._wait_s or look_s, ahead=self._backlog))
                except KafkaException as error:
                    self._ownership.problem = f"commands cannot be read: {error}"
                    _log.warning("%s", self._ownership.problem)
                    self._quit.wait(_REFUSED_S)
        except Exception as error:  # noqa: BLE001  # a thread must not die unheard: the app crashes with its reason
            _log.exception("the fetch thread ended")
            self._crashed(error)
        finally:
            self._fetcher.close()

    def _change(self) -> None:
        """Do what was asked for, and rest those topics whose commands are not decided now."""
        for _ in range(self._changes.qsize()):
            self._changes.get_nowait()()
        topics, reading = self._ownership.resting_topics, self._fetcher.at
        if topics or self._resting:
            for part in [part for part in reading if part[0] in topics]:
                self._resting[part] = reading.pop(part)
            for part in [part for part in self._resting if part[0] not in topics]:
                reading[part] = self._resting.pop(part)

    def _has_room(self) -> bool:
        records, size = self._ownership.buffered
        for batch in list(self._inbox.values()):
            records += len(batch.records)
            size += batch.size
        return records < self._records_max and size < self._bytes_max

    def _deliver(self, found: list[Fetched]) -> None:
        """Put what was read with what waits already. An end that nobody waits for wakes nobody. Whether it is a backlog decides
        if the next read waits until it is wanted.
        """
        news = False
        count = sum(len(one.records) for one in found)
        self._backlog = count + self._ownership.buffered[0] >= _FEW_RECORDS
        if count and not self._backlog:
            self._ownership.wanted.clear()
        with self._lock:
            for part, records, after, end in found:
                reached = after if end and self._ownership.awaits_end(*part) else None
                if not records and reached is None:
                    continue
                batch, before = (
                    Batch(*part, self._epochs.get(part, -1), records, reached),
                    self._inbox.get(part),
                )
                self._inbox[part] = batch if before is None else before.followed_by(batch)
                news = True
        if news:
            self._arrived()
