"""The transactional producer on real Kafka, read back by another client; and what a late, lost or repeated request may do."""

import uuid
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.cimpl import NewTopic
from kio.schema.end_txn.v5.response import EndTxnResponse

from streams.protocol import messages
from streams.protocol.cluster import failure
from streams.protocol.connection import Connection
from streams.protocol.producer import TransactionalProducer
from streams.protocol.record_batch import NO_HEADERS, headers_of
from streams.protocol.security import Security
from tests.support.services import KafkaService
from tests.support.transactions import Stage, stage_of


@pytest.fixture
def stage(kafka: KafkaService) -> Iterator[Stage]:
    default = {"max.message.bytes": "1048588"}
    made = stage_of(kafka.bootstrap, lambda topic: NewTopic(topic, 3, 1, config=default))
    yield made
    made.producer.close()


def test_what_is_committed_is_read_as_it_was_written(stage: Stage) -> None:
    """Given records for three partitions, one a tombstone, one in two batches, then keys, values and headers come back."""
    stage.begin()
    told = [("empty", b""), ("née", b"\0\xff" * 100)]
    stage.batches.add([(stage.topic, b"value", b"key", 0, headers_of(told))])
    stage.batches.add([(stage.topic, None, b"gone", 1, NO_HEADERS)])
    large = [bytes([number]) * 700_000 for number in range(3)]
    stage.write(*large, partition=2)
    stage.producer.flush()
    stage.write(b"after", partition=2)
    stage.producer.commit_transaction()
    found = stage.records(6)
    assert (b"key", b"value", told) in found
    assert (b"gone", None, None) in [(key, value, headers or None) for key, value, headers in found]
    assert [value for key, value, _ in found if value and value != b"value"] == [*large, b"after"]


def test_what_is_aborted_is_never_read(stage: Stage) -> None:
    """Given some transactions are aborted, one of them before anything was written, then readers see the others only."""
    for number in range(6):
        stage.begin()
        stage.write(b"%d" % number)
        if number % 2:
            stage.producer.commit_transaction()
        else:
            if number:
                stage.producer.flush()
            stage.producer.abort_transaction()
    stage.begin()
    stage.producer.commit_transaction()
    assert stage.committed(3) == [b"1", b"3", b"5"]


def test_a_late_commit_cannot_touch_the_next_transaction(stage: Stage) -> None:
    """Given a commit that was overtaken by an abort, when it arrives in the next transaction, then it is refused."""
    producer = stage.producer
    stage.begin()
    stage.write(b"aborted")
    producer.flush()
    late = messages.end_txn(producer._who, committed=True)
    producer.abort_transaction()
    stage.begin()
    stage.write(b"next")
    producer.flush()
    node = producer._cluster.coordinator(messages.TRANSACTION, stage.id, 5)
    answer = producer._cluster.connection(node, 5).call(late, 5)
    assert answer.error_code != 0
    stage.write(b"and more")
    producer.commit_transaction()
    assert stage.committed(2) == [b"next", b"and more"]


@pytest.mark.parametrize("times", [1, 1000])
def test_a_commit_whose_answer_is_lost_is_asked_for_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Given the answer is lost once, then the commit succeeds all the same; lost until the time is over, the error is fatal, and
    the next producer of this id finds what was committed.
    """
    call, lost = Connection.call, list[Any]()

    def losing(connection: Any, request: Any, timeout_s: float) -> Any:
        answer = call(connection, request, timeout_s)
        if isinstance(answer, EndTxnResponse) and len(lost) < times:
            lost.append(answer)
            raise failure(KafkaError._TRANSPORT, "lost", retriable=True)
        return answer

    monkeypatch.setattr(Connection, "call", losing)
    stage.producer._timeout_ms = 1500
    stage.begin()
    stage.write(b"once")
    if times == 1:
        stage.producer.commit_transaction()
    else:
        with pytest.raises(KafkaException, match="not known what became") as unknown:
            stage.producer.commit_transaction()
        assert unknown.value.args[0].fatal()
        stage.producer.close()
        stage.producer = TransactionalProducer(stage.bootstrap, Security(), stage.id, 10_000)
        stage.producer.init_transactions(30)
    monkeypatch.undo()
    stage.begin()
    stage.write(b"next")
    stage.producer.commit_transaction()
    assert stage.committed(2) == [b"once", b"next"]


def test_records_sent_twice_are_written_once(stage: Stage) -> None:
    """Given the answer to a write was lost, when the same batch is sent again, then the broker knows it."""
    producer = stage.producer
    stage.begin()
    stage.write(b"once")
    producer.flush()
    producer._sequences.clear()
    stage.write(b"once")
    producer.commit_transaction()
    assert stage.committed(1) == [b"once"]


def test_who_is_fenced_hears_it_and_writes_nothing(stage: Stage) -> None:
    """Given a second producer of the same id, then the first one's transaction is gone and its errors are fatal."""
    stage.begin()
    stage.write(b"lost")
    stage.producer.flush()
    second = TransactionalProducer(stage.bootstrap, Security(), stage.id, 10_000)
    second.init_transactions(30)
    stage.write(b"lost too")
    with pytest.raises(KafkaException) as fenced:
        stage.producer.commit_transaction()
    assert fenced.value.args[0].fatal()
    assert fenced.value.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
    stage.producer.close()
    stage.producer = second
    stage.begin()
    stage.write(b"kept")
    second.commit_transaction()
    assert stage.committed(1) == [b"kept"]


def test_offsets_of_who_is_no_member_are_refused_and_the_producer_lives(stage: Stage) -> None:
    """Given a generation that is over, then the transaction can be aborted, and the next one is committed."""
    stage.begin()
    stage.write(b"lost")
    with pytest.raises(KafkaException) as refused:
        stage.producer.send_offsets_to_transaction(
            [TopicPartition(stage.topic, 0, 5, "where")], (f"g-{stage.topic}", 3, "nobody", None), 5
        )
    cause = refused.value.args[0]
    assert cause.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION)
    assert cause.txn_requires_abort()
    stage.producer.abort_transaction()
    stage.begin()
    stage.write(b"kept")
    group = (f"g-{stage.topic}", -1, "", None)
    stage.producer.send_offsets_to_transaction([TopicPartition(stage.topic, 0, 7, "where|1")], group, 10)
    stage.producer.commit_transaction()
    assert stage.committed(1) == [b"kept"]
    asker = Consumer(
        {"bootstrap.servers": stage.bootstrap, "group.id": group[0], "isolation.level": "read_committed"}
    )
    (found,) = asker.committed([TopicPartition(stage.topic, 0)], 10)
    asker.close()
    assert (found.offset, found.metadata) == (7, "where|1")


def test_a_record_that_is_too_large_says_so(stage: Stage) -> None:
    """Given a record beyond what the topic takes, or beyond what is written at all, then the producer lives on."""
    for size in (1_100_000, 6_000_000):
        stage.begin()
        stage.write(uuid.uuid4().bytes + Random(7).randbytes(size))
        with pytest.raises(KafkaException) as refused:
            stage.producer.commit_transaction()
        assert refused.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
        stage.producer.abort_transaction()
    stage.begin()
    stage.write(b"kept")
    stage.producer.commit_transaction()
    assert stage.committed(1) == [b"kept"]
