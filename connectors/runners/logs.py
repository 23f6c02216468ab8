"""Output of steps: every line to the topic ``run.logs``, the last few kept for the result."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping

from confluent_kafka import Producer

from schemas import topics as names
from schemas.clients import watched
from schemas.partitioning import partition_of
from schemas.topics import Topics, key_of

TAIL_BYTES_MAX = 4_096
_LINE_CHARS_MAX = 16_384


class RunLog:
    """Writes lines of output to ``run.logs``, in the run's partition, without ever blocking a step.

    Lines may be lost when Kafka is away for long or the process is killed: they explain, they decide nothing.
    """

    def __init__(self, kafka: Mapping[str, str], topics: Topics, shards: int, client_id: str) -> None:
        self._topic = topics.named(names.RUN_LOGS)
        self._shards = shards
        self._settings = {
            **kafka, "client.id": f"{client_id}-logs", "linger.ms": 50, "compression.type": "lz4",
            "queue.buffering.max.messages": 100_000, "delivery.timeout.ms": 30_000,
        }  # fmt: skip
        self._producer: Producer | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make the producer."""
        self._producer = Producer(watched(self._settings))
        self._thread = threading.Thread(
            target=self._serve, args=(self._producer,), name="run-logs", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Write what is buffered, for 3 seconds at most."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._producer is not None:
            self._producer.flush(3.0)
            self._producer = None  # its last reference: one that lives on looks for brokers for ever

    def write(self, tenant: str, run: str, step: str, attempt: int, stream: str, line: str) -> None:
        """Append one line. Dropped when too much is waiting."""
        if self._producer is None:
            return
        headers: list[tuple[str, str | bytes | None]] = [
            ("step", step), ("attempt", str(attempt)), ("stream", stream), ("tenant", tenant),
        ]  # fmt: skip
        partition = partition_of(key_of(tenant, run), self._shards)
        with contextlib.suppress(BufferError):
            self._producer.produce(
                self._topic, line[:_LINE_CHARS_MAX].encode(), run.encode(), partition, headers=headers
            )

    def _serve(self, producer: Producer) -> None:
        while not self._stopping.is_set():
            producer.poll(0.2)


class Output:
    """The output of one attempt: masks secrets, passes each line on, counts them (``lines``), keeps the tail (4 kB)."""

    def __init__(self, write: Callable[[str, str], None], mask: Callable[[str], str]) -> None:
        self._write = write
        self._mask = mask
        self._tail: deque[str] = deque()
        self._tail_bytes = 0
        self.lines = 0

    async def take(self, stream: str, raw: bytes) -> None:
        """Take one line of ``stdout`` or ``stderr``."""
        line = self._mask(raw.decode("utf-8", "replace").rstrip("\r"))
        self._write(stream, line)
        self.lines += 1
        kept = line[-TAIL_BYTES_MAX:]
        self._tail.append(kept)
        self._tail_bytes += len(kept.encode()) + 1
        while self._tail_bytes > TAIL_BYTES_MAX and len(self._tail) > 1:
            self._tail_bytes -= len(self._tail.popleft().encode()) + 1

    @property
    def tail(self) -> str:
        """The last lines, at most 4 kB."""
        return "\n".join(self._tail).encode()[-TAIL_BYTES_MAX:].decode("utf-8", "ignore")
