"""The reader of the log on real Kafka: what other clients have written, aborted, and deleted."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.protocol.batch_reader import read_batches
from streams.protocol.fetcher import Fetched, Fetcher
from streams.protocol.record import Record
from streams.protocol.security import Security
from tests.support.services import KafkaService
from tests.support.transactions import Stage, stage_of


@pytest.fixture
def fetcher(kafka: KafkaService) -> Iterator[Fetcher]:
    made = Fetcher(kafka.bootstrap, Security(), "a-reader")
    yield made
    made.close()


@pytest.fixture
def stage(kafka: KafkaService) -> Iterator[Stage]:
    made = stage_of(kafka.bootstrap, lambda topic: NewTopic(topic, 3, 1))
    yield made
    made.producer.close()


def _read(fetcher: Fetcher, topic: str, ends: dict[int, int]) -> list[Record]:
    """Read until the partitions are read up to these offsets, and were said to end there."""
    found: list[Record] = []
    ended: dict[int, int] = {}
    deadline = time.monotonic() + 30
    while ended != ends:
        assert time.monotonic() < deadline, (ended, fetcher.problem)
        for one in fetcher.read(0.2, 0.1):
            found += one.records
            if one.end:
                ended[one.partition[1]] = one.after
    return found


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_records_of_librdkafka_are_read_whatever_compresses_them(
    fetcher: Fetcher, stage: Stage, compression: str
) -> None:
    """Given a producer of another make, then keys, values, headers and times come as it wrote them, in order."""
    producer = Producer(
        {"bootstrap.servers": stage.bootstrap, "compression.type": compression, "linger.ms": 50}
    )
    value = b"value " * 500
    for number in range(200):
        headers: list[tuple[str, str | bytes | None]] = [("n", b"%d" % number), ("null", None)]
        producer.produce(stage.topic, value, b"%d" % number, 1, timestamp=1_000 + number, headers=headers)
    producer.produce(stage.topic, None, None, 1)
    producer.flush(30)
    fetcher.at = {(stage.topic, 1): 0}
    *found, last = _read(fetcher, stage.topic, {1: 201})
    assert [one.offset for one in found] == list(range(200))
    assert {one.value for one in found} == {value}
    assert [(one.key, one.time_ms, one.header_list()) for one in found[:2]] == [
        (b"0", 1_000, [("n", b"0"), ("null", None)]),
        (b"1", 1_001, [("n", b"1"), ("null", None)]),
    ]
    assert (last.key, last.value, last.headers(), len(last)) == (None, None, {}, 0)


def test_only_what_is_committed_is_read_and_markers_are_passed(fetcher: Fetcher, stage: Stage) -> None:
    """Given transactions of which some abort and one is open, then the reader stands before the open one."""
    for number in range(4):
        stage.begin()
        stage.write(b"%d" % number, b"more")
        stage.producer.flush()
        if number % 2:
            stage.producer.commit_transaction()
        else:
            stage.producer.abort_transaction()
    stage.begin()
    stage.write(b"open")
    stage.producer.flush()
    fetcher.at = {(stage.topic, 0): 0}
    found = _read(fetcher, stage.topic, {0: 12})
    assert [one.value for one in found] == [b"1", b"more", b"3", b"more"]
    stage.producer.commit_transaction()
    assert [one.value for one in _read(fetcher, stage.topic, {0: 14})] == [b"open"]


def test_an_offset_that_is_deleted_goes_on_at_the_first_that_is_left(fetcher: Fetcher, stage: Stage) -> None:
    """Given the oldest records are deleted, when one of them is asked for, then the next ones come."""
    stage.begin()
    stage.write(*(b"%d" % number for number in range(9)))
    stage.producer.commit_transaction()
    place = TopicPartition(stage.topic, 0, 5)
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    admin.delete_records([place])[place].result(30)
    fetcher.at = {(stage.topic, 0): 2}
    found = _read(fetcher, stage.topic, {0: 10})
    assert [(one.offset, one.value) for one in found] == [(number, b"%d" % number) for number in range(5, 9)]


def test_a_partition_that_is_read_from_elsewhere_meanwhile_gets_nothing_of_before(
    fetcher: Fetcher, stage: Stage
) -> None:
    """Given an answer is on its way, when its partition is moved or dropped, then the answer is thrown away."""
    stage.begin()
    stage.write(*(b"%d" % number for number in range(3)))
    stage.write(b"other", partition=1)
    stage.producer.commit_transaction()
    fetcher.at = {(stage.topic, 0): 4, (stage.topic, 1): 0}
    fetcher._ask(0.1)
    fetcher.at = {(stage.topic, 0): 1}
    assert [one.value for one in _read(fetcher, stage.topic, {0: 4})] == [b"1", b"2"]


def test_batches_larger_than_an_answer_come_all_the_same(fetcher: Fetcher, stage: Stage) -> None:
    """Given each partition holds batches that fill an answer alone, then all of them come, whose turn it is first."""
    noise = [uuid.uuid4().bytes * 60_000 for _ in range(3)]
    for _ in range(2):
        stage.begin()
        for partition, value in enumerate(noise):
            stage.write(value[:900_000], partition=partition)
        stage.producer.commit_transaction()
    fetcher.at = {(stage.topic, partition): 0 for partition in range(3)}
    found = _read(fetcher, stage.topic, dict.fromkeys(range(3), 4))
    assert sorted((one.partition, one.offset) for one in found) == [
        (n, at) for n in range(3) for at in (0, 2)
    ]


def test_a_topic_that_is_not_there_is_waited_for(fetcher: Fetcher, stage: Stage) -> None:
    """Given a topic is made only later, then the reader says what it waits for, and then reads it."""
    late = f"late-{uuid.uuid4().hex[:8]}"
    fetcher.at = {(late, 0): 0, (stage.topic, 0): 0}
    stage.begin()
    stage.write(b"meanwhile")
    stage.producer.commit_transaction()
    assert [one.value for one in _read(fetcher, stage.topic, {0: 2})] == [b"meanwhile"]
    fetcher.at = {(late, 0): 0}
    fetcher.read(0.1, 0.1)
    assert isinstance(fetcher.problem, KafkaException)
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    admin.create_topics([NewTopic(late, 1, 1)])[late].result(30)
    found: list[Fetched] = []
    deadline = time.monotonic() + 30
    while not found:
        assert time.monotonic() < deadline, fetcher.problem
        found = fetcher.read(0.2, 0.1)
    assert found == [Fetched((late, 0), [], 0, True)]


def test_damage_in_one_partition_loses_nothing_of_another(
    fetcher: Fetcher, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given one answer holds records and damage, then the records come first, then the error, and the place stays."""
    stage.begin()
    stage.write(b"fine")
    stage.write(b"damaged", partition=1)
    stage.producer.commit_transaction()
    read = read_batches

    def damaged(data: bytes, topic: str, partition: int, *rest: Any) -> Any:
        if partition == 1:
            raise ValueError("the checksum is wrong")
        return read(data, topic, partition, *rest)

    monkeypatch.setattr("streams.protocol.fetcher.read_batches", damaged)
    fetcher.at = {(stage.topic, 1): 0, (stage.topic, 0): 0}
    found: list[bytes | None] = []

    def read_on() -> None:
        for _ in range(50):
            found.extend(record.value for one in fetcher.read(0.2, 0.1) for record in one.records)

    with pytest.raises(KafkaException, match="checksum"):
        read_on()
    assert (found, fetcher.at[stage.topic, 1]) == ([b"fine"], 0)
