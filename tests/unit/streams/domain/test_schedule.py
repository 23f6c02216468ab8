"""The rules of a schedule."""

from dataclasses import replace

import pytest

from streams.cron import next_slot
from streams.domain.identity import run_id, slot_key
from streams.domain.schedule import (
    ClearSchedule,
    NoteRunEnded,
    PauseSchedule,
    ResumeSchedule,
    ScheduleCleared,
    ScheduledRunEnded,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSet,
    ScheduleTick,
    SetSchedule,
    SlotFired,
    SlotKept,
    SlotSkipped,
    TriggerSchedule,
    aggregate,
)
from tests.support.spec import TENANT, Spec

NAME = "customers"
MINUTE = 60_000
HOUR = 60 * MINUTE


def fired(slot: int, at: int, following: int) -> SlotFired:
    """Return the firing of a slot."""
    return SlotFired(slot, run_id(TENANT, NAME, slot_key(slot)), following, at)


def spec(*events: object) -> Spec:
    """Return the schedule after these events, at 1 s."""
    return Spec(aggregate(next_slot), NAME).given(*events).at(1_000)


def every(interval: str, more: str = "") -> ScheduleSet:
    """Return a schedule set at 1 s."""
    text = f'{{"every":"{interval}"{more}}}'
    keys = sorted(text[1:-1].split(","))
    first = next_slot({"every": interval}, 1_000)
    return ScheduleSet("{" + ",".join(keys) + "}", first, 1_000)


MINUTELY = every("1m")
ALLOWED = every("1m", ',"overlap":"allow"')


def test_a_schedule_is_set_to_its_first_slot_after_now() -> None:
    """The past does not fire."""
    told = spec().when(SetSchedule('{"every": "1m"}')).then(MINUTELY)
    assert told.aggregate.due(told.state) == MINUTE


def test_the_same_schedule_changes_nothing() -> None:
    """Even written differently; a new version of the pipeline must not move the slots."""
    spec(MINUTELY).at(5 * MINUTE).when(SetSchedule('{ "every":"1m" }')).then()


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"every": "soon"}', '{"cron": "* * *"}', '{"every": "5s", "catch_up": "x"}']
)
def test_a_schedule_that_cannot_be_used_is_refused(text: str) -> None:
    """A timer that fails each time would never get out of the way."""
    spec().when(SetSchedule(text)).refused("invalid")


@pytest.mark.parametrize("body", [PauseSchedule(), ResumeSchedule(), TriggerSchedule()])
def test_there_must_be_a_schedule(body: object) -> None:
    """To pause, resume or trigger it."""
    spec().when(body).refused("not_found", NAME)


def test_clearing_what_is_not_there_is_no_news() -> None:
    """Every pipeline without a schedule asks for it."""
    spec().when(ClearSchedule()).then()
    spec(MINUTELY).when(ClearSchedule()).then(ScheduleCleared(1_000))


def test_a_cleared_schedule_waits_for_nothing() -> None:
    """A timer that was on its way finds nothing to do."""
    told = spec(MINUTELY, ScheduleCleared(1_000)).at(MINUTE)
    assert told.aggregate.due(told.state) is None
    told.when(ScheduleTick(MINUTE)).then()


def test_a_slot_fires_once() -> None:
    """The same timer again finds the slot gone."""
    told = (
        spec(MINUTELY).at(MINUTE + 3).when(ScheduleTick(MINUTE)).then(fired(MINUTE, MINUTE + 3, 2 * MINUTE))
    )
    told.at(2 * MINUTE).when(ScheduleTick(MINUTE)).then()


def test_a_timer_never_fires_early() -> None:
    """Whatever the clock of the sender says."""
    spec(MINUTELY).at(MINUTE - 1).when(ScheduleTick(MINUTE)).then()


def test_a_slots_run_has_the_same_id_on_every_node() -> None:
    """So two firings could only ever make one run."""
    assert fired(MINUTE, 1, 2).run_id == run_id("default", NAME, "slot/60000")


def test_a_slot_is_skipped_while_an_earlier_run_is_active() -> None:
    """Until that run has ended; skip is what happens unless told."""
    told = spec(MINUTELY)
    first = fired(MINUTE, MINUTE, 2 * MINUTE)
    assert told.tick(MINUTE) == (first,)
    assert told.tick(2 * MINUTE) == (SlotSkipped(2 * MINUTE, "overlap", 3 * MINUTE, 2 * MINUTE),)
    told.when(NoteRunEnded(first.run_id)).then(ScheduledRunEnded(first.run_id, 2 * MINUTE))
    assert told.tick(3 * MINUTE) == (fired(3 * MINUTE, 3 * MINUTE, 4 * MINUTE),)


def test_overlap_may_be_allowed() -> None:
    """Then every slot fires."""
    told = spec(ALLOWED)
    assert [event.slot for event in told.tick(MINUTE) + told.tick(2 * MINUTE)] == [MINUTE, 2 * MINUTE]
    assert len(told.state.active) == 2


def overlapping(overlap: str) -> Spec:
    """Return a schedule whose first run goes on while two more slots come; every event is in its log."""
    told = spec(every("1m", f',"overlap":"{overlap}"'))
    for minute in (1, 2, 3):
        told.tick(minute * MINUTE)
    return told


def end(told: Spec, slot: int) -> list[object]:
    """Let the run of a slot end at once, and return what follows behind that."""
    return list(told.do(NoteRunEnded(run_id(TENANT, NAME, slot_key(slot))))[1:])


def test_one_slot_may_be_kept_until_the_run_in_its_way_has_ended() -> None:
    """The first that meets it; later ones are skipped."""
    told = overlapping("buffer_one")
    assert [type(event) for event in told.log[2:]] == [SlotKept, SlotSkipped]
    assert end(told, MINUTE) == [fired(2 * MINUTE, 3 * MINUTE, 4 * MINUTE)]
    assert end(told, 2 * MINUTE) == []
    assert told.tick(4 * MINUTE) == (fired(4 * MINUTE, 4 * MINUTE, 5 * MINUTE),)


def test_all_slots_may_be_kept_and_fire_one_after_the_other() -> None:
    """In their order, each when the run before has ended; so many that nothing grows without end."""
    told = overlapping("buffer_all")
    assert end(told, MINUTE) == [fired(2 * MINUTE, 3 * MINUTE, 4 * MINUTE)]
    assert told.tick(4 * MINUTE) == (SlotKept(4 * MINUTE, 5 * MINUTE, 4 * MINUTE),)
    assert [end(told, slot * MINUTE)[0].slot for slot in (2, 3)] == [3 * MINUTE, 4 * MINUTE]  # type: ignore[attr-defined]  # they fired
    full = spec(every("1s", ',"overlap":"buffer_all"'))
    for second in range(2, 1_100, 40):
        full.tick(second * 1_000)
    assert len(full.state.kept) == 1_000


def test_the_newest_slot_may_take_the_place_of_what_is_in_its_way() -> None:
    """It fires when that has ended; one that waited for the same is skipped."""
    told = overlapping("cancel_other")
    assert told.log[3:] == [
        SlotSkipped(2 * MINUTE, "replaced", 3 * MINUTE, 3 * MINUTE),
        SlotKept(3 * MINUTE, 4 * MINUTE, 3 * MINUTE),
    ]
    assert end(told, MINUTE) == [fired(3 * MINUTE, 3 * MINUTE, 4 * MINUTE)]


def test_a_kept_slot_waits_for_the_end_of_a_pause_and_is_told_when_slots_are_kept_no_more() -> None:
    """Nothing is lost without a word."""
    told = overlapping("buffer_all").when(PauseSchedule()).then(SchedulePaused(3 * MINUTE))
    assert end(told, MINUTE) == []
    resumed = ScheduleResumed(4 * MINUTE, 3 * MINUTE)
    told.when(ResumeSchedule()).then(resumed, fired(2 * MINUTE, 3 * MINUTE, 4 * MINUTE))
    told.do(SetSchedule('{"every":"1m","overlap":"skip"}'))
    assert told.log[-1] == SlotSkipped(3 * MINUTE, "replaced", 4 * MINUTE, 3 * MINUTE)
    assert end(told, 2 * MINUTE) == []


def test_jitter_delays_each_slot_and_moves_none() -> None:
    """By the same on every node, by another time for another pipeline, never beyond what the schedule says."""
    text = '{"every":"1m","jitter":"30s"}'
    told = spec().when(SetSchedule(text)).then(ScheduleSet(text, MINUTE, 1_000, f"{TENANT}/{NAME}"))
    other = Spec(aggregate(next_slot), "orders").at(1_000)
    other.do(SetSchedule(text))
    due = told.aggregate.due(told.state)
    assert due is not None
    assert MINUTE < due < MINUTE + 30_000
    assert due != other.aggregate.due(other.state)
    told.at(due - 1).when(ScheduleTick(due - 1)).then()
    assert told.tick(due) == (fired(MINUTE, due, 2 * MINUTE),)


def test_the_end_of_a_run_that_is_not_its_own_is_no_news() -> None:
    """Or of one it has forgotten."""
    spec(MINUTELY).when(NoteRunEnded("r1")).then()
    spec().when(NoteRunEnded("r1")).then()


def test_slots_of_the_last_minute_are_on_time() -> None:
    """So long may a take-over last: each of them fires."""
    told = spec(every("20s", ',"overlap":"allow"'))
    assert [event.slot for event in told.tick(70_000)] == [20_000, 40_000, 60_000]


def test_older_slots_are_missed_when_others_are_on_time() -> None:
    """One event says how many."""
    told = spec(every("20s", ',"overlap":"allow"'))
    missed, *rest = told.tick(130_000)
    assert missed == SlotSkipped(60_000, "missed", 80_000, 130_000, count=3)
    assert [event.slot for event in rest] == [80_000, 100_000, 120_000]


def test_without_catch_up_the_latest_missed_slot_fires() -> None:
    """A nightly run that nobody could start at night starts in the morning, once."""
    told = spec(every("1h"))
    assert told.tick(4 * HOUR + 10 * MINUTE) == (
        SlotSkipped(3 * HOUR, "missed", 4 * HOUR, 4 * HOUR + 10 * MINUTE, count=3),
        fired(4 * HOUR, 4 * HOUR + 10 * MINUTE, 5 * HOUR),
    )


def test_one_missed_slot_fires_without_ado() -> None:
    """There is nothing to skip."""
    assert spec(every("1h")).tick(HOUR + 10 * MINUTE) == (fired(HOUR, HOUR + 10 * MINUTE, 2 * HOUR),)


def test_catch_up_fires_what_it_reaches_back_to() -> None:
    """And skips what is older, even if that is everything."""
    now = 4 * HOUR + 10 * MINUTE
    told = spec(every("1h", ',"catch_up":"2h","overlap":"allow"')).tick(now)
    assert told == (
        SlotSkipped(2 * HOUR, "missed", 3 * HOUR, now, count=2),
        fired(3 * HOUR, now, 4 * HOUR),
        fired(4 * HOUR, now, 5 * HOUR),
    )
    strict = spec(every("1h", ',"catch_up":"5m"')).tick(now)
    assert strict == (SlotSkipped(4 * HOUR, "missed", 5 * HOUR, now, count=4),)


def test_caught_up_slots_heed_the_overlap() -> None:
    """The first one runs, the others meet it."""
    kinds = [type(event) for event in spec(every("1h", ',"catch_up":"1d"')).tick(3 * HOUR)]
    assert kinds == [SlotFired, SlotSkipped, SlotSkipped]


def test_a_long_absence_is_worked_off_in_bounded_steps() -> None:
    """A day of seconds is counted, a thousand at a time; the last minute fires."""
    told = spec(every("1s", ',"overlap":"allow"'))
    now = 24 * HOUR
    first = told.at(now).do(ScheduleTick(2_000))
    assert first == (SlotSkipped(1_001_000, "missed", 1_002_000, now, count=1_000),)
    events = told.tick(now)
    assert (
        sum(event.count for event in (*first, *events) if isinstance(event, SlotSkipped)) == now // 1000 - 62
    )
    assert [event.slot for event in events if isinstance(event, SlotFired)] == list(
        range(now - MINUTE, now + 1, 1_000)
    )


def test_catching_up_fires_so_many_at_a_time() -> None:
    """One transaction does not carry a thousand starts."""
    told = spec(every("1s", ',"overlap":"allow","catch_up":"1h"')).at(10 * MINUTE)
    assert len(told.do(ScheduleTick(2_000))) == 100
    told.tick(10 * MINUTE)
    assert len(told.state.active) == 599


def test_a_paused_schedule_waits_for_nothing() -> None:
    """A timer that was on its way finds it paused."""
    told = spec(MINUTELY).when(PauseSchedule("night")).then(SchedulePaused(1_000, "night"))
    assert told.aggregate.due(told.state) is None
    told.at(MINUTE).when(ScheduleTick(MINUTE)).then()


def test_a_resumed_schedule_goes_on_from_the_next_slot() -> None:
    """What came while it was paused is not caught up."""
    told = spec(MINUTELY, SchedulePaused(1_000)).at(10 * MINUTE + 1)
    told.when(ResumeSchedule()).then(ScheduleResumed(11 * MINUTE, 10 * MINUTE + 1))
    assert told.tick(11 * MINUTE) == (fired(11 * MINUTE, 11 * MINUTE, 12 * MINUTE),)


def test_a_trigger_fires_at_once_and_moves_no_slot() -> None:
    """Paused or not, whatever else runs."""
    told = spec(MINUTELY, SchedulePaused(1_000)).when(TriggerSchedule())
    told.then(replace(fired(1_000, 1_000, MINUTE), manual=True))


def test_a_trigger_in_the_millisecond_of_a_slot_has_a_run_of_its_own() -> None:
    """The slot's may have ended: started once more, it would not come, and stand in the way of later slots for ever."""
    slot = fired(MINUTE, MINUTE, 2 * MINUTE)
    told = spec(MINUTELY, slot, ScheduledRunEnded(slot.run_id, MINUTE)).at(MINUTE).when(TriggerSchedule())
    told.then(replace(fired(MINUTE + 1, MINUTE, 2 * MINUTE), manual=True))


def test_a_changed_schedule_stays_paused() -> None:
    """Whoever paused it decides."""
    told = spec(MINUTELY, SchedulePaused(1_000)).when(SetSchedule('{"every":"1h"}')).then(every("1h"))
    assert told.state.paused


def test_active_runs_outlive_their_schedule() -> None:
    """A schedule that comes back does not overlap them."""
    told = spec(
        MINUTELY,
        fired(MINUTE, MINUTE, 2 * MINUTE),
        ScheduleCleared(MINUTE),
        replace(MINUTELY, next_slot=MINUTE),
    )
    assert [type(event) for event in told.tick(MINUTE)] == [SlotSkipped]
