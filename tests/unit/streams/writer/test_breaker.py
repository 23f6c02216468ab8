"""When an aggregate whose rules fail is left alone, tried again, and decided as before."""

from dataclasses import replace
from typing import Any

import pytest

from streams.domain.aggregate import Message
from streams.shards.shard import Shard, Slice
from streams.writer.breaker import PAUSE_MAX_MS, TRIAL, WINDOW, Breakers
from streams.writer.work import Work, next_timer, take
from tests.performance.account import AGGREGATE
from tests.support.records import Bench, deposit, record_of


def _tripped(at_ms: int = 1_000_000) -> Breakers:
    breakers = Breakers()
    breakers.note("run", WINDOW, WINDOW, "ValueError (fingerprint ab)", at_ms)
    return breakers


@pytest.mark.parametrize(
    ("decided", "paused"),
    [
        ([(49, 49)], False),  # too few to judge by
        ([(50, 25)], False),  # half is not more than half
        ([(50, 26)], True),
        ([(500, 0), (25, 25)], False),
        ([(500, 0), (50, 50)], True),  # what was long ago does not count
        ([(1, 1)] * 26 + [(1, 0)] * 23, False),
        ([(1, 1)] * 26 + [(1, 0)] * 24, True),
        ([(1, 1)] * 26 + [(1, 0)] * 23 + [(0, 0)], False),
    ],
)
def test_more_than_half_of_the_last_fifty_failed(decided: list[tuple[int, int]], paused: bool) -> None:
    """Only then, and whatever the sizes of the batches."""
    breakers = Breakers()
    for some, failed in decided:
        breakers.note("run", some, failed, "ValueError", 1)
    assert breakers.left_alone("run") is paused


def test_it_says_which_why_and_since_when() -> None:
    """With what shows the records, and when it goes on."""
    text = _tripped().problem() or ""
    assert text.startswith("run is paused since 1970-01-01T00:16:40Z: 50 of the last 50 commands failed")
    assert "ValueError (fingerprint ab)" in text
    assert "next at 1970-01-01T00:16:41Z" in text
    assert _tripped().paused() == {"run": 1_000_000}


def test_others_are_not_concerned() -> None:
    """Each aggregate is judged by its own rules."""
    breakers = _tripped()
    assert breakers.limits(1_000_000) == {"run": 0}
    assert not breakers.left_alone("schedule")


def test_after_a_pause_one_command_is_tried() -> None:
    """If it fails, the pause is twice as long, up to a minute; since when stays."""
    breakers, now = _tripped(), 1_000_000
    assert breakers.limits(now + 999) == {"run": 0}
    pauses = []
    for _ in range(8):
        began = now
        while breakers.limits(now) == {"run": 0}:
            now += 1000
        pauses.append(now - began)
        breakers.note("run", 1, 1, "KeyError", now)
    assert pauses == [1000, 2000, 4000, 8000, 16000, 32000, PAUSE_MAX_MS, PAUSE_MAX_MS]
    assert breakers.paused() == {"run": 1_000_000}
    assert "50 of the last 50 commands failed, the newest with KeyError" in (breakers.problem() or "")


def test_it_goes_on_when_ten_succeeded() -> None:
    """One at a time; then as many as there are, and nothing of the past counts."""
    breakers = _tripped()
    assert breakers.limits(1_001_000) == {"run": 1}
    assert breakers.problem() is None
    for _ in range(TRIAL):
        assert breakers.limits(1_001_000) == {"run": 1}
        breakers.note("run", 1, 0, "", 1_001_000)
    assert breakers.limits(1_001_000) == {}
    breakers.note("run", 49, 49, "ValueError", 1_002_000)
    assert not breakers.left_alone("run")


def test_a_trial_bears_some_failures() -> None:
    """As before it was paused: more must fail than succeed."""
    breakers = _tripped()
    breakers.limits(1_001_000)
    for failed in (0, 1, 0, 1):
        breakers.note("run", 1, failed, "ValueError", 1_001_000)
    assert not breakers.left_alone("run")
    breakers.note("run", 1, 1, "ValueError", 1_001_000)
    assert breakers.left_alone("run")


def test_what_rests_is_not_taken_and_its_timers_wait() -> None:
    """A trial takes one command of all shards together."""
    tick: Any = replace(AGGREGATE, name="timed", tick=object, due=lambda state: state)
    shards = [
        Shard(number, {"account": Slice(AGGREGATE, number), "timed": Slice(tick, number)}, "ready")
        for number in range(2)
    ]
    for shard in shards:
        shard.slices["account"].pending.extend([deposit(1, 0), deposit(2, 1)])
        shard.slices["timed"].armed, shard.slices["timed"].timers = True, [(5, b"a")]
    assert not take(Work(), shards, 10, 100, 1 << 20, {"account": 0, "timed": 0}).records
    assert next_timer(shards, {"timed"}) is None
    chunk = take(Work(), shards, 10, 100, 1 << 20, {"account": 1})
    assert [len(records) for _, records in chunk.records] == [1]
    assert [shard.buffered({"timed"})[0] for shard in shards] == [1, 2]
    assert shards[0].buffered({"account"}) == (0, 0)


def test_only_what_rules_have_looked_at_is_counted() -> None:
    """Duplicates, poison and forwarded commands say nothing about the rules; a refusal is no failure."""

    def decide(message: Message, account: Any) -> Any:
        if message.body.amount == 13:
            raise RuntimeError("a bug")
        return AGGREGATE.decide(message, account)

    bench = Bench(replace(AGGREGATE, decide=decide))
    staged = bench.decide(
        deposit(1, 0, "x"),
        deposit(1, 1, "x"),
        record_of(b"garbage", offset=2),
        deposit(-1, 3),
        deposit(13, 4),
    )
    assert (staged.judged, staged.failed, staged.quarantined) == (3, 1, 2)
    assert staged.failure.startswith("RuntimeError (fingerprint ")
