"""Following the outcomes of commands: one thread, every partition asked for, nothing decoded that nobody waits for."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.sdk.errors import Unavailable
from schemas.clients import watched
from schemas.offsets import OFFSET_END, offsets

_MESSAGES_MAX = 500
_POLL_S = 0.2
_START_TIMEOUT_S = 15.0


class OutcomeFollower:
    """Reads outcome topics from their present end (``read_committed``) and hands each record to ``receive``.

    ``receive(topic, key, value)`` is called on the follower's own thread, in the order of each partition. It must not
    block. After :meth:`start` returns, no outcome of a command produced later is missed.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        partitions: Sequence[tuple[str, int]],
        receive: Callable[[str, bytes | None, bytes | None], None],
        client_id: str,
    ) -> None:
        self._settings = {
            **kafka,
            "client.id": f"{client_id}-outcomes",
            "group.id": f"{client_id}-outcomes",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.sparse.connections": False,
            # The assignment stays, so a long wait delays nothing; each empty answer costs the broker a look at every
            # partition.
            "fetch.wait.max.ms": 500,
            "fetch.error.backoff.ms": 20,
            "topic.metadata.refresh.interval.ms": 60_000,
        }
        self._partitions = tuple(partitions)
        self._receive = receive
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._consumer: Consumer | None = None
        self.problem: str | None = None

    def start(self) -> None:
        """Block until every partition is assigned at its present end. Raise Unavailable when Kafka does not say."""
        consumer = Consumer(watched(self._settings))
        try:
            consumer.assign(_ends(consumer, self._partitions))
        except Unavailable:
            consumer.close()
            raise
        self._consumer = consumer
        self._thread = threading.Thread(target=self._follow, args=(consumer,), name="outcomes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the consumer. Blocks for a few hundred milliseconds at most."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _follow(self, consumer: Consumer) -> None:
        try:
            while not self._stopping.is_set():
                first = consumer.poll(_POLL_S)
                if first is None:
                    continue
                self._take(first)
                for message in consumer.consume(_MESSAGES_MAX, 0):
                    self._take(message)
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self.problem = None
            self._receive(message.topic() or "", message.key(), message.value())
        elif error.code() != KafkaError._PARTITION_EOF:
            # librdkafka goes on by itself; the newest trouble is kept for whoever reports health.
            self.problem = str(error.str())


def _ends(consumer: Consumer, partitions: Sequence[tuple[str, int]]) -> list[TopicPartition]:
    """Return the present end of every partition. A topic that was just made has no leader yet: asked again."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            ends = offsets(consumer, partitions, OFFSET_END, max(deadline - time.monotonic(), 1.0))
            return [TopicPartition(*place, end) for place, end in ends.items()]
        except KafkaException as error:
            if time.monotonic() > deadline:
                trouble = f"Kafka does not tell the ends of the outcome topics: {error.args[0].str()}"
                raise Unavailable(trouble) from error
        time.sleep(0.1)
