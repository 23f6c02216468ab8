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


def test_a_higher_limit_lets_the_waiting_in() -> None:
    """The newest definition counts; the order of coming is kept."""
    told = spec()
    for run in "ab":
        told.do(AcquireLimit(run, 1))
    told.when(AcquireLimit("c", 3)).then(LimitAcquired("b", 3, 1_000), LimitAcquired("c", 3, 1_000))


def test_a_stranger_releases_nothing() -> None:
    """And a second release is none."""
    spec().when(ReleaseLimit("x")).then()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef"), st.integers(1, 3)), max_size=60))
def test_nobody_is_let_in_beyond_the_limit_and_no_place_is_lost(steps: list[tuple[bool, str, int]]) -> None:
    """Whatever comes in whatever order: holders fit, and nobody waits while there is room."""
    told = spec()
    for acquire, run, most in steps:
        before: Limit = told.state
        told.do(AcquireLimit(run, most) if acquire else ReleaseLimit(run))
        after: Limit = told.state
        assert len(after.holders) <= max(after.max, len(before.holders))
        assert not after.waiting or len(after.holders) >= after.max
        assert len({*after.holders, *after.waiting}) == len(after.holders) + len(after.waiting)
