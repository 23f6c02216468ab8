"""A full buffer: nothing more is read until there is room."""

from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from streams.protocol.fetcher import Fetched
from streams.transport.fetching import Fetching
from tests.support.records import record_of


def _fetching() -> tuple[Any, Any]:
    """Return a thread with room for 100 records and 1000 bytes, and how much of it waits to be decided."""
    ownership: Any = SimpleNamespace(buffered=(0, 0), awaits_end=lambda *_: False, wanted=Event())
    fetching: Any = Fetching(Any, ownership, 100, 1000)  # type: ignore[arg-type]  # nothing is read
    fetching._arrived = lambda: None
    return fetching, ownership


@pytest.mark.parametrize("full", [(100, 0), (1, 1000)])
def test_as_many_records_or_bytes_as_may_wait_leave_no_room(full: tuple[int, int]) -> None:
    """Given so much is to be decided, then there is no room; once one is decided, there is."""
    fetching, ownership = _fetching()
    assert fetching._has_room()
    ownership.buffered = full
    assert not fetching._has_room()
    ownership.buffered = (99, 999)
    assert fetching._has_room()


def test_what_is_not_taken_yet_counts() -> None:
    """Given records that the event loop has not taken, then they fill the buffer as those that are to be decided do."""
    fetching, ownership = _fetching()
    ownership.buffered = (60, 0)
    fetching._deliver([Fetched(("t", 0), [record_of(b"", offset=number) for number in range(40)], 40, False)])
    assert not fetching._has_room()
    fetching.take()
    assert fetching._has_room()
    fetching._deliver([Fetched(("t", 0), [record_of(bytes(1000))], 41, False)])
    assert not fetching._has_room()


@pytest.mark.parametrize(
    ("records", "waiting", "wanted"), [(1, 0, False), (64, 0, True), (1, 64, True), (0, 0, True)]
)
def test_after_few_records_no_more_is_read_until_it_is_wanted(
    records: int, waiting: int, wanted: bool
) -> None:
    """Given the engine wants records, when few come and few wait, then it has to say so again; not under a backlog."""
    fetching, ownership = _fetching()
    ownership.wanted.set()
    ownership.buffered = (waiting, 0)
    fetching._deliver([Fetched(("t", 0), [record_of(b"")] * records, records, False)])
    assert ownership.wanted.is_set() is wanted
