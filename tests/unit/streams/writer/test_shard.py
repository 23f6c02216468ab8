"""Timers of a slice, membership of a group, and what goes into a transaction."""

import struct
from dataclasses import dataclass, replace
from typing import Any

import pytest

from streams.domain.aggregate import Aggregate
from streams.shards.entry import Entry, Packed
from streams.shards.identity import derived, uuid_bytes
from streams.shards.pending import Pending
from streams.shards.shard import Shard, Slice
from streams.writer.transaction import Membership
from streams.writer.work import Work, next_timer, take
from tests.performance.account import AGGREGATE
from tests.support.records import deposit


@dataclass(frozen=True, slots=True)
class _Tick:
    due: int


_TIMED: Aggregate = replace(
    AGGREGATE,
    tick=_Tick,
    due=lambda state: state,
    wake=lambda state, now: None if state is None else max(state, now + 5),
)


def _slice(**due: int | None) -> Slice:
    piece = Slice(_TIMED, 0)
    piece.states = {name.encode(): Entry(1, at, b"") for name, at in due.items()}
    return piece


def _due(piece: Slice, now: int) -> list[tuple[int, bytes]]:
    return list(piece.expired(now, 100, piece.states.get))


def test_timers_count_only_after_waking() -> None:
    """A lease from before the take-over gets its grace before it can run out."""
    piece = _slice(a=10, b=200, c=None)
    piece.arm(100)
    assert _due(piece, 104) == []
    assert _due(piece, 105) == [(105, b"a")]


def test_what_is_packed_is_not_woken() -> None:
    """It is at rest: it waits for nothing, and is not opened for that."""
    piece = _slice(a=10)
    piece.states[b"b"] = Entry(1, Packed(b"", lambda _packed: pytest.fail("opened")), b"")
    piece.arm(100)
    assert _due(piece, 105) == [(105, b"a")]


def test_a_superseded_timer_is_dropped_or_comes_later() -> None:
    """What counts is what the newest state waits for."""
    piece = _slice(a=10)
    piece.arm(0)
    piece.merge({b"a": Entry(2, 50, b"")}, {})
    assert _due(piece, 20) == []
    assert _due(piece, 50) == [(50, b"a")]
    assert _due(piece, 99) == []


def test_nothing_is_armed_before_the_backlog_is_processed() -> None:
    """Also when only markers follow the last command."""
    piece = _slice(a=10)
    piece.next, piece.arm_at = 5, 9
    shard = Shard(0, {"account": piece}, "ready")
    work = Work()
    take(work, [shard], 1000, 10, 1 << 20, {})
    assert not work
    assert [piece.armed] == [False]
    piece.reached = 9
    take(work, [shard], 1000, 10, 1 << 20, {})
    assert [piece.armed] == [True]
    assert next_timer([shard], ()) == 1005


def test_time_counts_for_what_is_decided_and_not_yet_committed() -> None:
    """Under a steady load something is always being committed; a timer must not wait for a quiet moment."""
    piece = _slice(a=10)
    piece.next, piece.arm_at = 5, 9
    shard = Shard(0, {"account": piece}, "ready")
    flight = Work()
    part = flight.part(shard, piece)
    part.next, part.states[b"a"] = 9, Entry(2, 400, b"")
    work = Work(flight)
    assert not take(work, [shard], 1000, 10, 1 << 20, {}).timers
    assert piece.armed
    piece.merge(part.states, part.index)
    work.settle()
    assert [timers for _, timers in take(work, [shard], 1005, 10, 1 << 20, {}).timers] == [[(1005, b"a")]]


def test_work_is_bounded_by_records_and_bytes() -> None:
    """What does not fit waits for the next chunk; the longest queue goes first."""
    long, short = Slice(_TIMED, 0), Slice(_TIMED, 1)
    long.pending.extend([deposit(1, number) for number in range(10)])
    short.pending.extend([deposit(1, number) for number in range(3)])
    shards = [Shard(0, {"account": long}, "ready"), Shard(1, {"account": short}, "ready")]
    work = Work()
    chunk = take(work, shards, 0, 11, 1 << 20, {})
    assert [(part.slice.shard, len(records)) for part, records in chunk.records] == [(0, 10), (1, 1)]
    assert sum(len(records) for _, records in take(Work(), shards, 0, 11, 1, {}).records) == 1


def test_a_shard_that_is_loading_is_left_alone() -> None:
    """Only ready shards work; claiming ones are claimed, once."""
    piece = Slice(_TIMED, 0)
    piece.pending.extend([deposit(1)])
    loading, claiming = Shard(0, {"account": piece}, "loading"), Shard(0, {"account": piece}, "claiming")
    flight = Work()
    take(flight, [loading], 0, 10, 1 << 20, {})
    assert not flight
    take(flight, [claiming], 0, 10, 1 << 20, {})
    assert flight.claims == [claiming]
    work = Work(flight)
    take(work, [claiming], 0, 10, 1 << 20, {})
    assert not work


def test_a_sweep_comes_to_its_end_when_nothing_else_happens() -> None:
    """One transaction after the other, and never two of them side by side."""
    piece = Slice(_TIMED, 0)
    shard = Shard(0, {"account": piece}, "ready")
    quiet = Work()
    take(quiet, [shard], 0, 10, 1 << 20, {})
    assert not quiet
    piece.saved.cut = (7, 7)
    flight = Work()
    take(flight, [shard], 0, 10, 1 << 20, {})
    assert list(flight.parts) == [("account", 0)]
    work = Work(flight)
    take(work, [shard], 0, 10, 1 << 20, {})
    assert not work


def _metadata(generation: int, member: str) -> Membership:
    parts = struct.pack("=i", generation) + b"group\0" + member.encode() + b"\0\1"
    return Membership(b"CGMDv2:" + parts)


def test_membership_without_member_or_generation_is_not_used() -> None:
    """The broker would accept it unchecked."""
    valid: Any = [
        m.valid for m in (_metadata(3, "m-1"), _metadata(-1, "m-1"), _metadata(3, ""), Membership())
    ]
    assert valid == [True, False, False, False]


def test_ids_are_those_of_the_standard() -> None:
    """As uuid.uuid5 makes them; a text that is no uuid is made one first."""
    import uuid

    space = uuid.uuid4()
    assert derived(space.bytes + b"0").decode() == str(uuid.uuid5(space, "0"))
    assert uuid_bytes(str(space).encode()) == space.bytes
    assert uuid_bytes(b"nightly") == uuid.uuid5(uuid.NAMESPACE_URL, "nightly").bytes


def test_what_waits_knows_its_size() -> None:
    """Given records taken, put back and dropped, then the bytes are those of what still waits, and the order is kept."""
    waiting = Pending()
    records = [deposit(1, number) for number in range(5)]
    waiting.extend(records)
    each = len(records[0])
    taken, size = waiting.take(3, 1 << 20)
    assert ([record.offset for record in taken], size, waiting.bytes) == ([0, 1, 2], 3 * each, 2 * each)
    waiting.put_back(taken[1:])
    assert ([record.offset for record in waiting.take(9, each + 1)[0]], len(waiting)) == ([1, 2], 2)
    waiting.clear()
    assert (len(waiting), waiting.bytes) == (0, 0)
