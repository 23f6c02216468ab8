"""Who is let in, and when."""

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.limit import (
    AGGREGATE,
    AcquireLimit,
    Limit,
    LimitAcquired,
    LimitQueued,
    LimitReleased,
    ReleaseLimit,
)
from tests.support.spec import Spec


def spec() -> Spec:
    """Return a limit nobody has used; it is 1 s."""
    return Spec(AGGREGATE, "crm-database").at(1_000)


def test_the_first_is_let_in_and_the_next_waits() -> None:
    """Until the first is out; then it is let in at once."""
    told = spec().when(AcquireLimit("a", 1)).then(LimitAcquired("a", 1, 1_000))
    told.when(AcquireLimit("b", 1)).then(LimitQueued("b", 1, 1_000))
    told.when(ReleaseLimit("a")).then(LimitReleased("a", 1_000), LimitAcquired("b", 1, 1_000))


def test_who_waits_no_more_is_passed_over() -> None:
    """A run that was cancelled in the queue takes nobody's place."""
    told = spec()
    for run in "abc":
        told.do(AcquireLimit(run, 1))
    told.when(ReleaseLimit("b")).then(LimitReleased("b", 1_000))
    told.when(ReleaseLimit("a")).then(LimitReleased("a", 1_000), LimitAcquired("c", 1, 1_000))


def test_the_urgent_are_let_in_first_and_no_lane_waits_for_ever() -> None:
    """One of the normal ones after four others, a low one after sixteen; of each lane in the order of their coming."""
    told = spec()
    told.do(AcquireLimit("in", 1))
    for lane in ("low", "normal", "high"):
        for number in range(20):
            told.do(AcquireLimit(f"{lane}-{number}", 1, priority=lane))
    came = ["in"]
    for _ in range(34):
        came.append(told.do(ReleaseLimit(came[-1]))[-1].run_id)
    lanes = "".join(run[0] for run in came[1:])
    assert lanes[:17] == "hhhhnhhhhnhhhhnhl"
    assert lanes.index("l", 17) == 33
    assert came[1:5] == ["high-0", "high-1", "high-2", "high-3"]
    for run in told.state.waiting:
        told.do(ReleaseLimit(run))
    assert (told.state.lanes, told.state.waiting) == ({}, ())


def test_a_higher_limit_lets_the_waiting_in() -> None:
    """The newest definition counts; the order of coming is kept."""
    told = spec()
    for run in "ab":
        told.do(AcquireLimit(run, 1))
    told.when(AcquireLimit("c", 3)).then(LimitAcquired("b", 3, 1_000), LimitAcquired("c", 3, 1_000))


def test_a_stranger_releases_nothing() -> None:
    """And a second release is none."""
    spec().when(ReleaseLimit("x")).then()


def test_a_called_run_shares_the_place_of_a_run_above_it_until_the_last_of_them_is_out() -> None:
    """It goes before those who wait: they wait for its caller, which waits for it."""
    told = spec()
    for run in "px":
        told.do(AcquireLimit(run, 1))
    told.when(AcquireLimit("c", 1, ("p",))).then(LimitAcquired("c", 1, 1_000, "p"))
    told.when(AcquireLimit("d", 1, ("p", "q", "c"))).then(LimitAcquired("d", 1, 1_000, "p"))
    told.when(AcquireLimit("e", 1, ("q", "c"))).then(LimitAcquired("e", 1, 1_000, "p"))
    told.when(ReleaseLimit("p")).then(LimitReleased("p", 1_000))
    told.when(AcquireLimit("f", 1, ("e",))).then(LimitAcquired("f", 1, 1_000, "c"))
    for run in "cfd":
        told.when(ReleaseLimit(run)).then(LimitReleased(run, 1_000))
    told.when(ReleaseLimit("e")).then(LimitReleased("e", 1_000), LimitAcquired("x", 1, 1_000))
    told.do(ReleaseLimit("x"))
    assert told.state == Limit(max=1)


def test_who_is_called_by_a_run_that_is_not_in_waits_as_anybody() -> None:
    """It may be the first of its family that needs this limit."""
    told = spec()
    told.do(AcquireLimit("a", 1))
    told.when(AcquireLimit("c", 1, ("p",))).then(LimitQueued("c", 1, 1_000))
    told.when(AcquireLimit("g", 2, ("a",))).then(
        LimitAcquired("g", 2, 1_000, "a"), LimitAcquired("c", 2, 1_000)
    )


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from("abcdef"),
            st.integers(1, 3),
            st.sampled_from(["", "ab", "c"]),
            st.sampled_from(["high", "normal", "low", "unheard-of"]),
        ),
        max_size=60,
    )
)
def test_nobody_is_let_in_beyond_the_limit_and_no_place_is_lost(
    steps: list[tuple[bool, str, int, str, str]],
) -> None:
    """Whatever comes in whatever order: holders fit, and nobody waits while there is room."""
    told = spec()
    for acquire, run, most, above, lane in steps:
        before: Limit = told.state
        told.do(AcquireLimit(run, most, tuple(above), lane) if acquire else ReleaseLimit(run))
        after: Limit = told.state
        taken = len(after.holders) - len(after.guests)
        assert taken <= max(after.max, len(before.holders) - len(before.guests))
        assert not after.waiting or taken >= after.max
        assert after.lanes.keys() <= {*after.waiting}
        assert {*after.guests, *after.guests.values()} <= {*after.holders}
        assert not after.guests.keys() & {*after.guests.values()}
        assert len({*after.holders, *after.waiting}) == len(after.holders) + len(after.waiting)
