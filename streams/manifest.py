"""Which topics hold the truth: remembered by topic id, so that a deleted and recreated topic is noticed at start."""

import json
import time
from collections.abc import Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streams.failures import WrongTopic

_TIMEOUT_S = 15.0


class Manifest:
    """The manifest topic: key = topic name, value = ``{"id": topic id}``, compacted."""

    def __init__(self, kafka: Mapping[str, str], topic: str) -> None:
        self._kafka = {**kafka, "enable.sparse.connections": "false", "log_level": 3}
        self._topic = topic

    def agree(self, found: Mapping[str, str]) -> None:
        """Compare the topics found with those remembered, and remember new ones. Blocking.

        Raises :class:`WrongTopic` if a topic has another id than it once had: its records are gone.
        """
        known = self._read()
        if changed := sorted(
            name for name, identity in found.items() if known.get(name, identity) != identity
        ):
            raise WrongTopic(
                f"{', '.join(changed)}: deleted and made anew since this cluster first started, so the events are gone."
                f" Restore them, or begin afresh with another FLEXCORE_TOPIC_PREFIX; to accept the loss delete the topic"
                f" {self._topic}"
            )
        if fresh := {name: identity for name, identity in found.items() if name not in known}:
            producer = Producer({**self._kafka, "linger.ms": 0})
            for name, identity in fresh.items():
                producer.produce(self._topic, json.dumps({"id": identity}).encode(), name.encode(), 0)
            if producer.flush(_TIMEOUT_S):
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{self._topic} could not be written"))

    def _read(self) -> dict[str, str]:
        consumer = Consumer(
            {
                **self._kafka,
                "group.id": "flexcore.manifest",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,  # its end is what is waited for
            }
        )
        known: dict[str, str] = {}
        consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        deadline = time.monotonic() + _TIMEOUT_S
        try:
            while time.monotonic() < deadline:
                record = consumer.poll(0.5)
                if record is None:
                    continue
                if (error := record.error()) is None:
                    known.setdefault(
                        (record.key() or b"").decode(), json.loads(record.value() or b"{}")["id"]
                    )
                elif error.code() == KafkaError._PARTITION_EOF:
                    return known
        finally:
            consumer.close()
        raise KafkaException(
            KafkaError(KafkaError._TIMED_OUT, f"{self._topic} could not be read in {_TIMEOUT_S:.0f} s")
        )
