"""The rules of a bookmark."""

import json
from dataclasses import replace

import pytest

from streams.domain.bookmark import (
    AGGREGATE,
    Advance,
    Begin,
    BookmarkAdvanced,
    BookmarkBegun,
    BookmarkReleased,
    BookmarkReset,
    BookmarkSet,
    GenerationStarted,
    ReleaseBookmark,
    ResetBookmark,
    SetBookmark,
)
from tests.support.spec import Spec

ENDS = {"0": 3, "1": 0}
BEGIN = Begin("r1", 1, "t1", "g1", "topic-1", ENDS)
BEGUN = BookmarkBegun("r1", 1, "t1", 5)
STARTED = GenerationStarted("g1", "topic-1", ENDS, "r1", 5)
ADVANCE = Advance("r1", 1, "t1", '{"id":7}', {"0": 2, "1": 1}, rejected=1)
ADVANCED = BookmarkAdvanced("r1", 1, '{"id":7}', {"0": 2, "1": 1}, 3, 1, 5)
RELEASED = BookmarkReleased("r1", 5)
ENDED = BookmarkReleased("r1", 5, ended=True)


def spec(*events: object) -> Spec:
    """Return the bookmark after these events, at 5 ms."""
    return Spec(AGGREGATE, "customers/extract").given(*events).at(5)


def where(told: Spec, begin: Begin) -> dict[str, object]:
    """Return what the attempt is told."""
    text = AGGREGATE.reply(begin, told.state)
    assert text is not None
    found: dict[str, object] = json.loads(text)
    return found


def test_the_first_begin_starts_a_generation_from_nothing() -> None:
    """It begins where the dataset's topic ends at this moment."""
    told = spec().when(BEGIN).then(BEGUN, STARTED)
    assert where(told, BEGIN) == {"bookmark": None, "generation": "g1", "starts": ENDS}


def test_a_later_run_goes_on_where_the_last_one_stopped() -> None:
    """Same generation, last bookmark."""
    begin = Begin("r2", 1, "t2", "g2", "topic-1", {"0": 9})
    told = spec(BEGUN, STARTED, ADVANCED, RELEASED).when(begin).then(BookmarkBegun("r2", 1, "t2", 5))
    assert where(told, begin) == {"bookmark": {"id": 7}, "generation": "g1", "starts": ENDS}


def test_only_begin_is_replied_to() -> None:
    """Other outcomes say all there is to say."""
    assert AGGREGATE.reply(ADVANCE, spec().state) is None


def test_a_held_bookmark_is_refused_to_another_run() -> None:
    """The refusal names the run to wait for."""
    spec(BEGUN, STARTED).when(replace(BEGIN, run="r2", attempt=9)).refused("held", "r1", "cancel it")


def test_a_newer_attempt_of_the_same_run_takes_over() -> None:
    """The older one was lost or failed."""
    newer = replace(BEGIN, attempt=2, token="t2")
    told = spec(BEGUN, STARTED).when(newer).then(BookmarkBegun("r1", 2, "t2", 5))
    told.when(ADVANCE).refused("stale_attempt", "attempt 2")


def test_an_older_attempt_is_refused() -> None:
    """Whether the newer one still holds the bookmark or not."""
    newer = BookmarkBegun("r1", 2, "t2", 5)
    spec(newer, STARTED).when(BEGIN).refused("stale_attempt", "stop attempt 1")
    spec(newer, STARTED, RELEASED).when(BEGIN).refused("stale_attempt", "stop attempt 1")


def test_an_attempt_has_one_token() -> None:
    """Two runners cannot both be attempt 1."""
    spec(BEGUN, STARTED).when(replace(BEGIN, token="other")).refused("stale_attempt", "another token")


def test_a_fenced_attempt_whose_lease_still_stands_begins_again() -> None:
    """It is told the bookmark as it is now."""
    told = spec(BEGUN, STARTED, ADVANCED).when(BEGIN).then()
    assert where(told, BEGIN)["bookmark"] == {"id": 7}


def test_an_attempt_lost_after_its_last_step_forward_is_followed_by_another() -> None:
    """The run still needs somebody to complete its step."""
    newer = replace(BEGIN, attempt=2, token="t2")
    spec(BEGUN, STARTED, ADVANCED, RELEASED).when(newer).then(BookmarkBegun("r1", 2, "t2", 5))


@pytest.mark.parametrize(
    "begin", [replace(BEGIN, run=""), replace(BEGIN, token=""), replace(BEGIN, generation="")]
)
def test_a_begin_says_who_and_for_what(begin: Begin) -> None:
    """An empty name would match other empty names."""
    spec().when(begin).refused("invalid", "run, token and generation")


def test_the_bookmark_advances_with_the_totals_of_its_generation() -> None:
    """Counts add up; the bookmark is replaced."""
    told = spec(BEGUN, STARTED).when(ADVANCE).then(ADVANCED, once=False)
    more = replace(ADVANCED, bookmark='{"id":9}', counts={"0": 1}, records=4)
    told.when(Advance("r1", 1, "t1", '{"id":9}', {"0": 1})).then(more, once=False)
    assert (told.state.value, told.state.records, told.state.rejected) == ('{"id":9}', 4, 1)


def test_the_last_step_forward_gives_the_bookmark_back() -> None:
    """Another run may begin at once."""
    told = spec(BEGUN, STARTED).when(replace(ADVANCE, final=True)).then(ADVANCED, RELEASED, once=False)
    told.when(replace(BEGIN, run="r2")).then(replace(BEGUN, run="r2"))


def test_a_step_that_moved_nothing_is_no_news() -> None:
    """Only giving it back is."""
    same = Advance("r1", 1, "t1", '{"id":7}', {"0": 0})
    spec(BEGUN, STARTED, ADVANCED).when(same).then()
    spec(BEGUN, STARTED, ADVANCED).when(replace(same, final=True)).then(RELEASED, once=False)


def test_nobody_advances_a_bookmark_that_they_do_not_hold() -> None:
    """Not before beginning, not after giving it back, not another run's."""
    spec().when(ADVANCE).refused("not_held", "begin first")
    spec(BEGUN, STARTED, RELEASED).when(ADVANCE).refused("not_held")
    spec(BEGUN, STARTED).when(replace(ADVANCE, run="r2")).refused("not_held")
    spec(BEGUN, STARTED).when(replace(ADVANCE, token="other")).refused("stale_attempt")


def test_a_bookmark_is_json_and_counts_are_counts() -> None:
    """What is stored can be told to the next attempt."""
    spec(BEGUN, STARTED).when(replace(ADVANCE, bookmark="{")).refused("invalid", "JSON")
    spec(BEGUN, STARTED).when(replace(ADVANCE, counts={"0": -1})).refused("invalid", "negative")
    spec(BEGUN, STARTED).when(replace(ADVANCE, rejected=-1)).refused("invalid", "negative")
    spec(BEGUN, STARTED, RELEASED).when(SetBookmark("{")).refused("invalid", "JSON")


def test_a_full_refresh_starts_a_generation_once_a_run() -> None:
    """A later attempt of the same run goes on where the first one stopped."""
    fresh = Begin("r2", 1, "t2", "g2", "topic-1", {"0": 9}, full_refresh=True)
    told = spec(BEGUN, STARTED, ADVANCED, RELEASED)
    told.when(fresh).then(
        BookmarkBegun("r2", 1, "t2", 5), GenerationStarted("g2", "topic-1", {"0": 9}, "r2", 5)
    )
    assert where(told, fresh) == {"bookmark": None, "generation": "g2", "starts": {"0": 9}}
    told.given(BookmarkAdvanced("r2", 1, '{"id":2}', {"0": 1}, 1, 0, 5))
    again = replace(fresh, attempt=2, token="t3", generation="g3")
    told.when(again).then(BookmarkBegun("r2", 2, "t3", 5))
    assert where(told, again) == {"bookmark": {"id": 2}, "generation": "g2", "starts": {"0": 9}}


def test_a_first_full_refresh_starts_one_generation() -> None:
    """Not one for being first and one for being full."""
    spec().when(replace(BEGIN, full_refresh=True)).then(BEGUN, STARTED)


def test_a_topic_that_was_made_anew_starts_a_generation() -> None:
    """Its offsets mean nothing any more, even to the attempt that holds the bookmark."""
    other = replace(BEGIN, topic_id="topic-2", generation="g2", ends={"0": 0})
    told = (
        spec(BEGUN, STARTED, ADVANCED).when(other).then(GenerationStarted("g2", "topic-2", {"0": 0}, "r1", 5))
    )
    assert (told.state.records, told.state.rejected, told.state.value) == (0, 0, None)


def test_a_reset_makes_the_next_run_read_everything() -> None:
    """In a new generation; asked twice, it is one reset."""
    told = spec(BEGUN, STARTED, ADVANCED, RELEASED).when(ResetBookmark()).then(BookmarkReset(5))
    told.when(Begin("r2", 1, "t2", "g2", "topic-1", ENDS)).then(
        BookmarkBegun("r2", 1, "t2", 5), GenerationStarted("g2", "topic-1", ENDS, "r2", 5)
    )


def test_a_bookmark_is_set_by_hand() -> None:
    """The next run goes on from there, in the same generation, even after a reset."""
    told = (
        spec(BEGUN, STARTED, ADVANCED, RELEASED)
        .when(SetBookmark('{"id":1}'))
        .then(BookmarkSet('{"id":1}', 5))
    )
    told.when(ResetBookmark()).then(BookmarkReset(5)).when(SetBookmark('{"id":1}')).then(
        BookmarkSet('{"id":1}', 5)
    )
    begin = Begin("r2", 1, "t2", "g2", "topic-1", ENDS)
    told.when(begin).then(BookmarkBegun("r2", 1, "t2", 5))
    assert where(told, begin)["bookmark"] == {"id": 1}


@pytest.mark.parametrize("body", [SetBookmark("{}"), ResetBookmark()])
def test_nobody_moves_a_bookmark_under_its_holder(body: object) -> None:
    """Or where nothing has been read."""
    spec(BEGUN, STARTED).when(body).refused("held", "r1")
    spec().when(body).refused("not_found", "nothing has been read")


def test_the_end_of_a_run_frees_what_it_held() -> None:
    """Cancelled, failed or done."""
    told = spec(BEGUN, STARTED).when(ReleaseBookmark("r1")).then(ENDED)
    told.when(replace(BEGIN, run="r2")).then(replace(BEGUN, run="r2"))


def test_the_end_of_a_run_leaves_another_runs_hold_alone() -> None:
    """It is one bookmark for all runs of the step."""
    told = spec(BEGUN, STARTED).when(ReleaseBookmark("r0")).then(BookmarkReleased("r0", 5, ended=True))
    assert told.state.held


def test_a_run_that_has_ended_cannot_begin() -> None:
    """A runner that slept through the end of its run would hold the bookmark for ever."""
    spec(ENDED).when(BEGIN).refused("stale_attempt", "has ended")
    spec(BEGUN, STARTED, RELEASED, ENDED).when(replace(BEGIN, attempt=9)).refused(
        "stale_attempt", "has ended"
    )
