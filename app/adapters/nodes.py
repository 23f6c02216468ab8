"""What nodes say about themselves: a compacted topic, written every two seconds and at once when shards moved."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from app.adapters.system_clock import now_ms
from schemas.clients import watched

EVERY_S = 2.0
_TURN_S = 0.1
_SILENT_AFTER_MS = 8_000
_FORGOTTEN_AFTER_MS = 86_400_000


class NodesBoard:
    """Publishes this node and follows all of them, in one thread. A :class:`app.ports.Cluster`.

    ``describe`` is called on the thread, ten times a second; what has changed is published at once, so that reads
    find a shard's new owner. Kafka away is not an error: the newest words stay.
    """

    def __init__(
        self, kafka: Mapping[str, str], topic: str, describe: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._kafka = dict(kafka)
        self._topic = topic
        self._describe = describe
        self._known: dict[str, dict[str, Any]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)

    def start(self) -> None:
        """Begin to publish and to follow; returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Withdraw this node (a tombstone) and end. Blocks for ``timeout_s`` at most."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def members(self) -> Sequence[Mapping[str, Any]]:
        """Return every node heard of in the last day; ``status`` is alive, or silent after 8 s without a word.

        What a silent node said it owned is not true any more.
        """
        now = now_ms()
        words = [word for word in list(self._known.values()) if now - word["at"] < _FORGOTTEN_AFTER_MS]
        return [
            {**word, "status": "alive"}
            if now - word["at"] < _SILENT_AFTER_MS
            else {**word, "status": "silent", "shards": []}
            for word in words
        ]

    def _run(self) -> None:
        sends = {**self._kafka, "linger.ms": 0, "acks": "all", "delivery.timeout.ms": 5_000}
        producer = Producer(watched({**sends, "client.id": "flexcore.nodes"}))
        reads = {**self._kafka, "group.id": "flexcore.nodes", "enable.auto.commit": False}
        consumer = Consumer(watched(reads))
        consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        due, said = 0.0, None
        try:
            while not self._stopping.is_set():
                word = self._describe()
                if time.monotonic() >= due or word != said:
                    due, said = time.monotonic() + EVERY_S, word
                    text = json.dumps({**word, "at": now_ms()}).encode()
                    producer.produce(self._topic, text, str(word["node"]).encode(), 0)
                producer.poll(0)
                for record in consumer.consume(100, _TURN_S):
                    if record.error() is None:
                        self.hear(record.key(), record.value())
            producer.produce(self._topic, None, str(self._describe()["node"]).encode(), 0)
            producer.flush(0.5)
        finally:
            consumer.close()

    def hear(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record of the topic; a tombstone means that the node has left."""
        name = (key or b"").decode("utf-8", "replace")
        if not value:
            self._known.pop(name, None)
            return
        try:
            word = json.loads(value)
        except ValueError:
            return  # a foreign record: whoever wrote it is no node
        if isinstance(word, dict) and isinstance(word.get("at"), int) and word.get("node") == name:
            self._known[name] = word
