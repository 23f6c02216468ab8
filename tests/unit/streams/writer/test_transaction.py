"""What the transactional writer knows of its group, and how it tells a failure that came early."""

from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from streams.protocol.record_batch import Batches
from streams.writer.transaction import Membership, TransactionalWriter


class _Producer:
    """Fails to write with ``failure``, a number of times; notes what it is asked."""

    def __init__(self, *failures: KafkaException) -> None:
        self.told: list[str] = []
        self.waiting = 0
        self._failures = [*failures]

    def begin_transaction(self, _batches: Any) -> None:
        self.told.append("begin")

    def flush(self) -> None:
        self.told.append("flush")
        if self._failures:
            raise self._failures.pop()

    def commit_transaction(self) -> None:
        self.told.append("commit")

    def abort_transaction(self) -> None:
        self.told.append("abort")

    def close(self) -> None:
        self.told.append("close")


def _writer(producer: _Producer) -> TransactionalWriter:
    writer = TransactionalWriter({"bootstrap.servers": "localhost:1"}, "c/node/n", 10_000)
    writer._producer = cast(Any, producer)
    return writer


@pytest.mark.parametrize("instance", [None, "i-1"])
def test_group_metadata_is_read_as_librdkafka_writes_it(instance: str | None) -> None:
    """Given a consumer that has not joined, then group and instance are told, and it is not valid for a transaction."""
    static = {} if instance is None else {"group.instance.id": instance}
    consumer = Consumer(
        {"bootstrap.servers": "localhost:1", "group.id": "g.worker", "log_level": 0, **static}
    )
    found = Membership(cast(bytes, consumer.consumer_group_metadata()))
    consumer.close()
    assert found.group == ("g.worker", -1, "", instance)
    assert not found.valid


def test_who_is_a_member_of_a_generation_is_valid() -> None:
    """Given member and generation, then they are told; what is cut short or something else is not valid."""
    written = b"CGMDv2:" + (7).to_bytes(4, "little") + b"g\0member-1\0\0i\0"
    assert Membership(written).group == ("g", 7, "member-1", "i")
    assert Membership(written).valid
    for broken in (b"", b"CGMDv2:", written[:12], b"CGMDv3:" + written[7:]):
        assert not Membership(broken).valid


def test_what_could_not_be_written_early_fails_the_commit() -> None:
    """Given a flush failed in the middle of a transaction, then nothing more is written and the commit says why."""
    failure = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    producer = _Producer(failure)
    writer = _writer(producer)
    writer.begin(Batches())
    writer.flush()
    writer.flush()
    with pytest.raises(KafkaException) as raised:
        writer.commit()
    assert raised.value is failure
    writer.abort(failure)
    writer.begin(Batches())
    writer.commit()
    assert producer.told == ["begin", "flush", "abort", "begin", "commit"]


def test_after_a_fatal_error_the_producer_is_dropped() -> None:
    """Given the answer to a commit did not come, then nothing is aborted: the next producer of this id finds out."""
    producer = _Producer()
    writer = _writer(producer)
    writer.begin(Batches())
    writer.abort(KafkaException(KafkaError(KafkaError._TRANSPORT, "no answer", fatal=True)))
    assert producer.told == ["begin", "close"]
    assert not writer.usable
