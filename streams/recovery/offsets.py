"""What the broker says is true of a shard: stable committed offsets, ends of the log, and who holds them up."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from schemas.offsets import OFFSET_BEGINNING, OFFSET_END, offsets
from streams.failures import Hanging
from streams.protocol.fetcher import Fetcher
from streams.protocol.security import Security
from streams.shards.trail import Vouched

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_TIMEOUT_S = 5.0  # a broker that has just died is asked in vain; the next try goes to its successor
_FENCE_S = 15.0
_REPORT_EVERY_S = 5.0
_RENEW_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed offset (-1: none) with its metadata, ``<transactional.id>|<sequence>|<last checkpoint>``."""

    offset: int
    metadata: str


def written_by(metadata: str) -> str:
    """Return the transactional id of the writer that committed this metadata, or an empty string."""
    return metadata.rsplit("|", 2)[0]


def sequence_in(metadata: str) -> int:
    """Return the sequence up to which that writer had written."""
    return int(metadata.rsplit("|", 2)[1]) if metadata else 0


def vouched_in(metadata: str) -> Vouched:
    """Return the last checkpoint that was committed by then."""
    return Vouched.read(metadata.rsplit("|", 2)[2]) if metadata else Vouched()


class Broker:
    """Blocking questions to the broker, each bounded in time; safe from several threads.

    The transaction of a dead worker can hold a shard up until its time-out. After ``fence_after_s`` its writer is
    fenced by name, unless it is a living member of the group and younger than its time-out.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        group: str,
        writer: str,
        fence_after_s: float,
        transaction_timeout_s: float,
    ) -> None:
        self._kafka: dict[str, str | int] = {**kafka, "enable.sparse.connections": "false", "log_level": 3}
        self._bootstrap, self._security = kafka["bootstrap.servers"], Security.of(kafka)
        self._group = group
        self._writer = writer
        self.fence_after_s = fence_after_s
        self.transaction_timeout_s = transaction_timeout_s
        self._admin = AdminClient(dict(self._kafka))
        self._local = threading.local()
        self._connected: list[Consumer | Fetcher] = []
        self._fencing = threading.Lock()

    def close(self) -> None:
        """Close every connection; no call may be under way."""
        for one in self._connected:
            one.close()
        self._connected.clear()

    def reader(self) -> Fetcher:
        """Return this thread's own reader of the log."""
        existing: Fetcher | None = getattr(self._local, "fetcher", None)
        if existing is None:
            existing = self._local.fetcher = self.follower()
            self._connected.append(existing)
        return existing

    def follower(self) -> Fetcher:
        """Return a reader of the log that the caller closes."""
        return Fetcher(self._bootstrap, self._security, self._writer)

    def owners(self) -> dict[int, str]:
        """Return which member (its client id) owns each shard, as the group's coordinator sees it."""
        future = self._admin.describe_consumer_groups([self._group], request_timeout=_TIMEOUT_S)[self._group]
        owners: dict[int, str] = {}
        for member in self._answer(future).members:
            if member.assignment is not None:
                owners |= {part.partition: member.client_id for part in member.assignment.topic_partitions}
        return owners

    def stable(
        self, partitions: Sequence[tuple[str, int]], wanted: Callable[[], bool]
    ) -> list[Committed] | None:
        """Return the committed offsets once no transaction that carries them is undecided; None if no longer wanted.

        Raises :class:`Hanging` when that takes longer than three transaction time-outs.
        """
        patience = _Patience(self, partitions, "the committed offset is undecided")
        renew_at = time.monotonic() + _RENEW_EVERY_S
        while wanted():
            try:
                return self._committed("read_committed", partitions, 0.3)
            except KafkaException as error:
                if error.args[0].code() not in (KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT):
                    raise
            patience.wait()
            if time.monotonic() > renew_at:
                self.renew()
                renew_at = time.monotonic() + _RENEW_EVERY_S
        return None

    def unstable(self, partitions: Sequence[tuple[str, int]]) -> list[Committed]:
        """Return the last decided offsets, undecided transactions ignored."""
        return self._committed("read_uncommitted", partitions, _TIMEOUT_S)

    def ends(
        self, partitions: Iterable[tuple[str, int]], committed: bool = False
    ) -> dict[tuple[str, int], int]:
        """Return the high watermarks, or with ``committed`` the last stable offsets."""
        return self._offsets(partitions, OFFSET_END, "read_committed" if committed else "read_uncommitted")

    def starts(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the low watermarks."""
        return self._offsets(partitions, OFFSET_BEGINNING, "read_uncommitted")

    def identity(self, topics: Sequence[str]) -> str:
        """Return the ids of topics: another text once one of them was deleted and made anew."""
        described = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT_S)
        return " ".join(str(self._answer(described[topic]).topic_id) for topic in topics)

    def settled(
        self,
        ends: Mapping[tuple[str, int], int],
        source: Sequence[tuple[str, int]],
        wanted: Callable[[], bool],
    ) -> bool:
        """Wait until everything below ``ends`` is decided. False if no longer wanted; raises :class:`Hanging`."""
        patience = _Patience(self, source, "an undecided transaction stands in the log")
        while wanted():
            stable = self.ends(ends, committed=True)
            behind = [key for key, end in ends.items() if stable[key] < end]
            if not behind:
                return True
            patience.wait(behind)
        return False

    def fence(self, transactional: str) -> None:
        """End whatever that id has open, and make its producer useless: half a second if one was open."""
        start = time.monotonic()
        producer = Producer({**self._kafka, "transactional.id": transactional})
        producer.init_transactions(_FENCE_S)
        _log.warning("fenced %s in %.0f ms", transactional, 1e3 * (time.monotonic() - start))

    def fence_dead(self, partitions: Sequence[tuple[str, int]], waited_s: float, done: set[str]) -> None:
        """Fence the writers named in the partitions' metadata, then all others the group has ever had."""
        with self._fencing:
            named = [written_by(committed.metadata) for committed in self.unstable(partitions)]
            living = self._members() if waited_s < self.transaction_timeout_s else frozenset[str]()
            for group_wide in (False, True):
                names = self._writers() if group_wide else named
                fresh = {name for name in names if name and name != self._writer} - done - living
                for name in sorted(fresh):
                    done.add(name)
                    self.fence(name)
                if fresh:
                    return

    def _members(self) -> frozenset[str]:
        future = self._admin.describe_consumer_groups([self._group], request_timeout=_TIMEOUT_S)[self._group]
        return frozenset(member.client_id for member in self._answer(future).members)

    def _writers(self) -> list[str]:
        asked = [ConsumerGroupTopicPartitions(self._group)]
        found = self._answer(self._admin.list_consumer_group_offsets(asked)[self._group])
        return [written_by(entry.metadata or "") for entry in found.topic_partitions]

    def _answer(self, future: Future[_T]) -> _T:
        """Return what the broker says; silence is an error of Kafka's like the others.

        After an error the admin client is made anew: librdkafka's goes on asking who led the partition before, under the
        epoch of then (``FENCED_LEADER_EPOCH``).
        """
        try:
            return future.result(_TIMEOUT_S)
        except TimeoutError:
            self._admin = AdminClient(dict(self._kafka))
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, f"no answer within {_TIMEOUT_S:.0f} s")
            ) from None
        except KafkaException:
            self._admin = AdminClient(dict(self._kafka))
            raise

    def _committed(
        self, isolation: str, partitions: Sequence[tuple[str, int]], timeout_s: float
    ) -> list[Committed]:
        asked = [TopicPartition(topic, partition) for topic, partition in partitions]
        found = self._consumer(isolation).committed(asked, timeout=timeout_s)
        for entry in found:
            if entry.error is not None:
                raise KafkaException(entry.error)
        return [Committed(entry.offset if entry.offset >= 0 else -1, entry.metadata or "") for entry in found]

    def _offsets(
        self, partitions: Iterable[tuple[str, int]], which: int, isolation: str
    ) -> dict[tuple[str, int], int]:
        try:
            return offsets(self._consumer(isolation), partitions, which, _TIMEOUT_S)
        except KafkaException:
            self.renew()
            raise

    def renew(self) -> None:
        """Forget this thread's clients. They have got no answer, and might never get one (:mod:`schemas.clients`)."""
        for one in vars(self._local).values():
            self._connected.remove(one)
            one.close()
        vars(self._local).clear()

    def _consumer(self, isolation: str) -> Consumer:
        existing: Consumer | None = getattr(self._local, isolation, None)
        if existing is None:
            existing = Consumer({**self._kafka, "group.id": self._group, "isolation.level": isolation})
            # Until it knows the brokers, it answers nothing.
            existing.list_topics(timeout=_TIMEOUT_S)
            setattr(self._local, isolation, existing)
            self._connected.append(existing)
        return existing


class _Patience:
    """Waiting on somebody else's transaction: fences after a while, says so, and gives up in the end."""

    def __init__(self, broker: Broker, partitions: Sequence[tuple[str, int]], what: str) -> None:
        self._broker = broker
        self._partitions = partitions
        self._what = what
        self._start = time.monotonic()
        self._said = 0.0
        self._fence_at = broker.fence_after_s
        self._done: set[str] = set()

    def wait(self, behind: Sequence[tuple[str, int]] = ()) -> None:
        waited = time.monotonic() - self._start
        if waited > self._said + _REPORT_EVERY_S:
            self._said = waited
            _log.warning(
                "hanging transaction: %s for %.1f s at %s", self._what, waited, behind or self._partitions
            )
        if waited >= self._fence_at:
            self._fence_at = waited + 1.0
            self._broker.fence_dead(self._partitions, waited, self._done)
        if waited > 3 * self._broker.transaction_timeout_s:
            raise Hanging(
                f"{self._what} for {waited:.0f} s at {behind or self._partitions}: find its producer with"
                " kafka-transactions --find-hanging and end it with --abort"
            )
        time.sleep(0.02)
