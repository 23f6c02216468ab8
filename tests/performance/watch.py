"""What a run looks like from outside: how much is visible to a read_committed reader, and when."""

import time
from collections.abc import Callable
from typing import Any, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

_EVERY_S = 0.02
_SILENCE_S = 4.0


class Progress:
    """Asks for the last stable offsets of a topic, which costs nearly nothing, and keeps when they were what.

    The offsets count markers of transactions as well, a few in a thousand.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})
        self._parts = [TopicPartition(topic, number) for number in range(partitions)]
        self.samples: list[tuple[float, int]] = []

    def look(self) -> int:
        """Return how much is visible now."""
        spec: Any = OffsetSpec
        asked: dict[TopicPartition, Any] = dict.fromkeys(self._parts, spec.latest())
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=30
        )
        total: int = sum(future.result().offset for future in futures.values())
        self.samples.append((time.monotonic(), total))
        return total

    def follow(self, alive: Callable[[], bool], until: int | None, timeout_s: float) -> bool:
        """Look until nobody is alive or ``until`` is visible; False when it takes longer than ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while alive() and time.monotonic() < deadline:
            if self.look() >= (until or 1 << 62):
                return True
            time.sleep(_EVERY_S)
        self.look()
        return time.monotonic() < deadline

    def settle(self, alive: Callable[[], bool], wanted: int, timeout_s: float) -> None:
        """Wait until ``wanted`` can be visible and nothing has come for a while: offsets count markers too."""
        self.follow(alive, wanted, timeout_s)
        quiet = time.monotonic()
        while time.monotonic() < quiet + _SILENCE_S:
            before = self.samples[-1][1]
            time.sleep(_EVERY_S)
            if self.look() > before:
                quiet = time.monotonic()

    def rate(self, skipped: float = 0.0) -> float:
        """Return records per second between the first sample after ``skipped`` of them and the last change."""
        last = self.samples[-1][1]
        at, total = next(sample for sample in self.samples if sample[1] > last * skipped)
        end = next(sample[0] for sample in self.samples if sample[1] == last)
        return (last - total) / max(end - at, _EVERY_S)


def reader(bootstrap: str, topics: dict[str, int]) -> Consumer:
    """Return a read_committed consumer of whole topics (name to partitions), from their beginnings."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 5,
            "fetch.queue.backoff.ms": 5,
            "socket.nagle.disable": True,
            "log_level": 3,
        }
    )
    consumer.assign(
        [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for topic, count in topics.items()
            for number in range(count)
        ]
    )
    return consumer


def records(consumer: Consumer, wait_s: float) -> tuple[list[Any], int]:
    """Return what is there and how many partitions have come to their end; waits for the first up to ``wait_s``."""
    first = consumer.poll(wait_s)
    found: list[Any] = []
    ends = 0
    for record in [] if first is None else [first, *consumer.consume(10_000, 0)]:
        if (error := cast(Any, record).error()) is None:
            found.append(record)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends += 1
        else:
            raise RuntimeError(str(error))
    return found, ends
