"""What the poll thread hands over: records always, the end of a partition only while timers wait for it."""

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from streams.transport.consumer import BatchConsumer

PART = ("account.commands", 2)


class _Record:
    """A record as far as it is handed over; an end of partition if it has an error."""

    def __init__(self, offset: int, error: int | None = None) -> None:
        self._offset, self._error = offset, None if error is None else KafkaError(error)

    def topic(self) -> str:
        return PART[0]

    def partition(self) -> int:
        return PART[1]

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


def _consumer(*, awaits_end: bool) -> tuple[Any, list[Any]]:
    """Return a consumer whose timers wait for the end or not, and what wakes the event loop."""
    consumer: Any = object.__new__(BatchConsumer)
    ownership = SimpleNamespace(bind=lambda _: None, awaits_end=lambda *_: awaits_end)
    consumer.configure(SimpleNamespace(ownership=ownership), {}, buffer_records_max=1, buffer_bytes_max=1)
    woken: list[Any] = []
    consumer._event_loop = SimpleNamespace(call_soon_threadsafe=woken.append)
    return consumer, woken


def test_an_end_that_nobody_waits_for_wakes_nobody() -> None:
    """Given timers are armed, when only an end comes, then nothing is handed over."""
    consumer, woken = _consumer(awaits_end=False)
    consumer._deliver(None, [_Record(7, KafkaError._PARTITION_EOF)])
    assert consumer._inbox == {}
    assert woken == []


@pytest.mark.parametrize("awaits_end", [True, False])
def test_records_are_handed_over_and_the_end_with_them_while_timers_wait(awaits_end: bool) -> None:
    """Given a record and the end behind it, then the record comes through, and the end if it is awaited."""
    consumer, woken = _consumer(awaits_end=awaits_end)
    consumer._deliver(None, [_Record(6), _Record(7, KafkaError._PARTITION_EOF)])
    batch = consumer._inbox[PART]
    assert [record.offset() for record in batch.records] == [6]
    assert batch.reached == (7 if awaits_end else None)
    assert len(woken) == 1
