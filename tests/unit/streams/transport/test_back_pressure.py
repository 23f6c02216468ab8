"""A full buffer: nothing more is taken, and fetching is paused only when it stays full."""

from types import SimpleNamespace
from typing import Any

import pytest

from streams.transport import consumer as transport
from streams.transport.consumer import BatchConsumer


class _Client:
    """A consumer of librdkafka as far as it is paused and resumed."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self, _parts: list[Any]) -> None:
        self.told.append("paused")

    def resume(self, _parts: list[Any]) -> None:
        self.told.append("resumed")


def _consumer(client: _Client) -> tuple[Any, Any]:
    """Return a consumer with room for 100 records and 1000 bytes, and how much of it waits to be decided."""
    consumer: Any = object.__new__(BatchConsumer)
    waiting = SimpleNamespace(buffered=(0, 0))
    consumer.configure(
        SimpleNamespace(ownership=SimpleNamespace(bind=lambda _: None)),
        {},
        buffer_records_max=100,
        buffer_bytes_max=1000,
    )
    consumer.engine = SimpleNamespace(ownership=waiting)
    return consumer, waiting


@pytest.mark.parametrize("full", [(100, 0), (1, 1000)])
def test_a_buffer_that_is_full_for_a_moment_pauses_nothing(full: tuple[int, int]) -> None:
    """Given as many records, or bytes, as may wait, then there is no room, and nothing that was fetched is thrown away."""
    client = _Client()
    consumer, waiting = _consumer(client)
    assert consumer._has_room(client)
    waiting.buffered = full
    assert not consumer._has_room(client)
    assert not consumer._has_room(client)
    waiting.buffered = (99, 0)
    assert consumer._has_room(client)
    assert client.told == []


def test_a_buffer_that_stays_full_pauses_the_fetching_until_half_of_it_is_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given a worker that decides nothing, when patience is over, then it is paused once, and resumed at half."""
    monkeypatch.setattr(transport, "_PATIENCE_S", -1.0)
    client = _Client()
    consumer, waiting = _consumer(client)
    waiting.buffered = (100, 0)
    assert [consumer._has_room(client) for _ in range(3)] == [False, False, False]
    assert client.told == ["paused"]
    waiting.buffered = (60, 0)
    assert consumer._has_room(client)
    assert client.told == ["paused"]
    waiting.buffered = (49, 0)
    assert consumer._has_room(client)
    assert client.told == ["paused", "resumed"]
