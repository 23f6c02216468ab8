"""Where partitions end is asked of whoever leads them now, whatever the client knew before."""

import time
import uuid
from collections.abc import Mapping

import pytest
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.offsets import OFFSET_END, offsets
from tests.support.services import LocalKafka


def _answered(asker: Consumer, asked: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """Ask until there is an answer, for 15 s."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return offsets(asker, asked, OFFSET_END, 1)
        except KafkaException as error:
            if time.monotonic() > deadline:
                pytest.fail(f"no answer: {error}")
            time.sleep(0.1)


def test_who_asked_while_nobody_led_is_answered_once_somebody_leads(kafka3: LocalKafka) -> None:
    """Given topics whose only broker is dead, the asker is refused; the broker is back, and the same asker is told."""
    topics = [f"t-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    admin = AdminClient({"bootstrap.servers": kafka3.bootstrap})
    made = admin.create_topics([NewTopic(topic, 1, replica_assignment=[[3]]) for topic in topics])
    for future in made.values():
        future.result(30)
    asker = Consumer({"bootstrap.servers": kafka3.bootstrap, "group.id": "asker", "log_level": 0})
    ends = {(topic, 0): 0 for topic in topics}
    assert _answered(asker, ends) == ends
    kafka3.kill(2)
    try:
        for _ in range(6):  # it takes the others three seconds to notice
            with pytest.raises(KafkaException):
                offsets(asker, ends, OFFSET_END, 1)
            time.sleep(1)
    finally:
        kafka3.restart(2)
    fresh = Consumer({"bootstrap.servers": kafka3.bootstrap, "group.id": "fresh", "log_level": 0})
    assert _answered(fresh, ends) == ends
    assert _answered(asker, ends) == ends
    asker.close()
    fresh.close()
