"""Two processes that run as the same node: the earlier one's transaction is refused, and it can go on with a new producer."""

import uuid

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.protocol.record_batch import NO_HEADERS, Batches
from streams.writer.transaction import TransactionalWriter
from tests.support.services import KafkaService


def test_a_fenced_writer_is_made_anew_and_says_so(kafka: KafkaService) -> None:
    """Given a second writer of the same name, then the first one's commit fails, and its next connection is a renewal."""
    name, topic = f"c/node/{uuid.uuid4().hex}", f"t{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    first, second = (
        TransactionalWriter({"bootstrap.servers": kafka.bootstrap}, name, 10_000) for _ in range(2)
    )
    assert not first.connect()
    assert not first.connect(), "it is connected already"
    batches = Batches()
    first.begin(batches)
    assert not second.connect(), "what it ended was another process's"
    batches.add([(topic, b"lost", b"key", 0, NO_HEADERS)])
    with pytest.raises(KafkaException) as fenced:
        first.commit()
    first.abort(fenced.value)
    assert not first.usable
    assert first.connect()
    batches = Batches()
    first.begin(batches)
    batches.add([(topic, b"kept", b"key", 0, NO_HEADERS)])
    first.commit()
