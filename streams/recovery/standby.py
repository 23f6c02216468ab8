"""Standbys: a worker follows shards that others own, so that taking one over begins where the follower is."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from confluent_kafka import KafkaException

from streams.failures import BrokenLog
from streams.protocol.fetcher import Fetcher
from streams.protocol.record import Record
from streams.recovery.fold import Fold, Partition
from streams.recovery.offsets import Broker
from streams.recovery.snapshots import Unusable
from streams.shards.shard import Slice

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 3.0
_POLL_S = 0.2
_WAIT_S = 0.5


@dataclass(slots=True)
class Followed:
    """One shard's folds by aggregate, and the offsets they have come to."""

    folds: dict[str, Fold]
    at: dict[Partition, int]


def followers(shard: int, owner: str, members: Sequence[str], count: int) -> list[str]:
    """Return the members that follow a shard: the same answer on every node, and few changes when one comes or goes."""
    others = [member for member in members if member != owner]
    return sorted(others, key=lambda member: blake2b(f"{member}/{shard}".encode()).digest())[:count]


class Standbys:
    """One thread follows. ``start`` returns a shard's folds with its snapshots read (blocking)."""

    def __init__(
        self, broker: Broker, member: str, count: int, start: Callable[[int], Followed | None]
    ) -> None:
        self._broker = broker
        self._member = member
        self._count = count
        self._start = start
        self._followed: dict[int, Followed] = {}
        self._changed = False
        self._lock = threading.Lock()  # guards the two above, and folds while they are being fed
        self._quit = threading.Event()
        self._thread = threading.Thread(target=self._run, name="standby", daemon=True)

    def open(self) -> None:
        """Begin to follow, unless no standbys are wanted."""
        if self._count:
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._quit.set()
        if self._count:
            self._thread.join(10)

    def shards(self) -> list[int]:
        """Return the shards that are followed."""
        with self._lock:
            return sorted(self._followed)

    def piece(self, aggregate: str, shard: int) -> Slice | None:
        """Return what is followed of a slice, or None. It is being folded: what is there is true, but not the newest."""
        followed = self._followed.get(shard)  # without the lock, which is held while a batch is folded
        fold = followed.folds.get(aggregate) if followed else None
        return fold.slice if fold else None

    def take(self, shard: int) -> Followed | None:
        """Give a followed shard away to who takes it over; it is followed no more."""
        with self._lock:
            self._changed = True
            return self._followed.pop(shard, None)

    # ---------------------------------------------------------------- the thread
    def _run(self) -> None:
        fetcher = self._broker.follower()
        look_at = 0.0
        while not self._quit.is_set():
            try:
                if time.monotonic() >= look_at:
                    self._look()
                    look_at = time.monotonic() + _LOOK_EVERY_S
                self._follow(fetcher)
            except KafkaException as error:
                _log.warning("standby: %s", error)
                self._quit.wait(1.0)
        fetcher.close()

    def _look(self) -> None:
        """Decide what to follow, from who owns what now."""
        owners = self._broker.owners()
        members = sorted(set(owners.values()) | {self._member})
        wanted = {
            shard
            for shard, owner in owners.items()
            if owner != self._member and self._member in followers(shard, owner, members, self._count)
        }
        with self._lock:
            gone = self._followed.keys() - wanted
            for shard in gone:
                del self._followed[shard]
            self._changed = self._changed or bool(gone)
            fresh = sorted(wanted - self._followed.keys())
        for shard in fresh:
            if self._quit.is_set():
                return
            if (started := self._start(shard)) is not None:
                with self._lock:
                    self._followed[shard], self._changed = started, True

    def _follow(self, fetcher: Fetcher) -> None:
        with self._lock:
            if self._changed:
                fetcher.at = {part: at for one in self._followed.values() for part, at in one.at.items()}
                self._changed = False
        found = fetcher.read(_POLL_S, _WAIT_S)
        with self._lock:
            for one in found:
                if one.records:
                    self._feed(*one.partition, one.records)

    def _feed(self, topic: str, shard: int, records: Sequence[Record]) -> None:
        followed = self._followed.get(shard)
        # A shard given away, or begun anew, since these were fetched.
        if followed is None or records[0].offset < followed.at[topic, shard]:
            return
        try:
            for fold in followed.folds.values():
                fold.take(topic, records)
        except (BrokenLog, Unusable) as error:
            _log.warning("standby of shard %d: %s; followed anew", shard, error)
            del self._followed[shard]
            self._changed = True
            return
        followed.at[topic, shard] = records[-1].offset + 1
