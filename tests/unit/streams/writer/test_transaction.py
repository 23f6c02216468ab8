"""What the transactional writer makes of a librdkafka call that does not end."""

import threading
import time
import weakref
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.writer.transaction import Membership, TransactionalWriter


class _Producer:
    """Its first sending of offsets ends only when ``freed``; a later one at once, with ``failure`` if there is one."""

    def __init__(self, hangs: bool, failure: Exception | None = None) -> None:
        self.freed, self.calls = threading.Event(), 0
        self._hangs, self._failure = hangs, failure

    def send_offsets_to_transaction(self, *_: Any) -> None:
        self.calls += 1
        if self._hangs and self.calls == 1:
            self.freed.wait()
        if self._failure is not None:
            raise self._failure


def _writer(producer: _Producer, timeout_ms: int) -> TransactionalWriter:
    writer = TransactionalWriter({"bootstrap.servers": "localhost:1"}, "c/node/n", timeout_ms, 1.0)
    writer._producer = cast(Any, producer)
    return writer


def test_offsets_that_cannot_be_sent_in_time_are_left_behind() -> None:
    """Given sending offsets does not end, then it fails in half the transaction's time, and the next one is not held up."""
    producer = _Producer(hangs=True)
    writer = _writer(producer, 200)
    with pytest.raises(KafkaException) as refused:
        writer.send_offsets([], Membership())
    assert refused.value.args[0].code() == KafkaError._TIMED_OUT
    writer._timeout_s = 120  # the next has all the time it needs
    writer.send_offsets([], Membership())
    assert producer.calls == 2
    producer.freed.set()


def test_a_producer_that_is_dropped_is_not_kept_by_the_thread_that_sent_its_offsets() -> None:
    """Given offsets were sent, when the producer is dropped, then it is gone without another sending."""
    producer = _Producer(hangs=False)
    writer, alive = _writer(producer, 120_000), weakref.ref(producer)
    writer.send_offsets([], Membership())
    writer._producer = None
    del producer
    deadline = time.monotonic() + 60
    while alive() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert alive() is None


@pytest.mark.parametrize("failure", [KafkaException(KafkaError(KafkaError._FENCED)), ValueError("no")])
def test_what_sending_offsets_raises_is_raised(failure: Exception) -> None:
    """Given librdkafka refuses the offsets, or the call, then its reason is raised to whoever sends them, each time."""
    writer = _writer(_Producer(hangs=False, failure=failure), 120_000)
    for _ in range(2):
        with pytest.raises(type(failure)) as raised:
            writer.send_offsets([], Membership())
        assert raised.value is failure
