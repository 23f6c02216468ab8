"""What the fetch thread hands over: records always, the end of a partition only while timers wait for it."""

from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from streams.protocol.fetcher import Fetched
from streams.transport.fetching import Fetching
from tests.support.records import record_of

PART = ("account.commands", 2)


def _fetching(*, awaits_end: bool) -> tuple[Any, list[str]]:
    """Return a thread that is not started, whose timers wait for the end or not, and what it tells the event loop."""
    ownership: Any = SimpleNamespace(
        awaits_end=lambda *_: awaits_end, resting_topics=frozenset(), buffered=(0, 0), wanted=Event()
    )
    fetching: Any = Fetching(Any, ownership, 1, 1)  # type: ignore[arg-type]  # nothing is read
    fetching._fetcher = SimpleNamespace(at={})
    woken: list[str] = []
    fetching._arrived = lambda: woken.append("woken")
    return fetching, woken


def test_an_end_that_nobody_waits_for_wakes_nobody() -> None:
    """Given timers are armed, when only an end comes, then nothing is handed over."""
    fetching, woken = _fetching(awaits_end=False)
    fetching._deliver([Fetched(PART, [], 7, True)])
    assert (fetching.take(), woken) == ([], [])


@pytest.mark.parametrize("awaits_end", [True, False])
def test_records_are_handed_over_and_the_end_with_them_while_timers_wait(awaits_end: bool) -> None:
    """Given a record and the end behind it, then the record comes through, and the end if it is awaited."""
    fetching, woken = _fetching(awaits_end=awaits_end)
    fetching._deliver([Fetched(PART, [record_of(b"", offset=6)], 7, True)])
    (batch,) = fetching.take()
    assert [record.offset for record in batch.records] == [6]
    assert batch.reached == (7 if awaits_end else None)
    assert woken == ["woken"]


def test_what_comes_before_it_is_taken_is_one_batch() -> None:
    """Given two answers, the first of which told the end, then they are taken together, in order, with that end."""
    fetching, _ = _fetching(awaits_end=True)
    fetching._deliver([Fetched(PART, [record_of(b"", offset=6)], 7, True)])
    fetching._deliver([Fetched(PART, [record_of(b"", offset=7)], 9, False)])
    (batch,) = fetching.take()
    assert ([record.offset for record in batch.records], batch.reached) == ([6, 7], 7)


def test_a_shard_that_flows_anew_forgets_what_was_read_of_it_before() -> None:
    """Given a shard is halted and flows again, then only what is read under its new epoch is handed over."""
    fetching, _ = _fetching(awaits_end=False)
    fetching.flow(2, {PART[0]: 5}, epoch=1)
    fetching._change()
    fetching._deliver([Fetched(PART, [record_of(b"", offset=5)], 6, False)])
    fetching.flow(2, {PART[0]: 3}, epoch=2)
    fetching._change()
    assert (fetching.take(), fetching._fetcher.at) == ([], {PART: 3})
    fetching._deliver([Fetched(PART, [record_of(b"", offset=3)], 4, False)])
    assert [(batch.epoch, batch.records[0].offset) for batch in fetching.take()] == [(2, 3)]
    fetching.halt(2)
    fetching._change()
    assert fetching._fetcher.at == {}


def test_a_topic_that_rests_is_not_read_until_it_goes_on_where_it_was() -> None:
    """Given the commands of a topic are not decided now, then it is left out, and halted or read on afterwards."""
    fetching, _ = _fetching(awaits_end=False)
    fetching.flow(2, {PART[0]: 5, "other": 1}, epoch=1)
    fetching._ownership.resting_topics = frozenset([PART[0]])
    fetching._change()
    assert fetching._fetcher.at == {("other", 2): 1}
    fetching._ownership.resting_topics = frozenset()
    fetching._change()
    assert fetching._fetcher.at == {("other", 2): 1, PART: 5}
