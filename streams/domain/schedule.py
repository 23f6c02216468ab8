"""Schedule: when a pipeline starts by itself. Aggregate id: the pipeline's name."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, assert_never, get_args

from msgspec import Struct
from msgspec.structs import replace

from streams.domain import duration
from streams.domain.aggregate import Aggregate, Message, Rejected
from streams.domain.definition import compact
from streams.domain.identity import run_id, slot_key
from streams.domain.validation import NextSlot, schedule_problems


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class SetSchedule:
    """``spec`` is the definition's ``schedule`` as JSON text: cron + timezone + dst, or every; jitter; overlap; catch_up."""

    spec: str


@dataclass(frozen=True, slots=True)
class ClearSchedule:
    """The pipeline has no schedule any more."""


@dataclass(frozen=True, slots=True)
class PauseSchedule:
    """Fire no more."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeSchedule:
    """Fire again, from the next slot after now."""


@dataclass(frozen=True, slots=True)
class TriggerSchedule:
    """Fire once, now."""


@dataclass(frozen=True, slots=True)
class NoteRunEnded:
    """A run that this schedule started has ended, or was refused."""

    run_id: str


@dataclass(frozen=True, slots=True)
class ScheduleTick:
    """A slot has come."""

    due: int


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class ScheduleSet:
    """``next_slot`` (ms) is the first slot after ``at``; ``seed`` makes its delays differ from those of other schedules."""

    spec: str
    next_slot: int
    at: int
    seed: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleCleared:
    """The pipeline has no schedule any more."""

    at: int


@dataclass(frozen=True, slots=True)
class SchedulePaused:
    """No slot fires."""

    at: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleResumed:
    """Slots fire again, from ``next_slot`` on."""

    next_slot: int
    at: int


@dataclass(frozen=True, slots=True)
class SlotFired:
    """The slot starts run ``run_id`` (deterministic by tenant, pipeline and slot)."""

    slot: int
    run_id: str
    next_slot: int
    at: int
    manual: bool = False


@dataclass(frozen=True, slots=True)
class SlotKept:
    """An earlier run is still active: the slot fires when that has ended. With ``cancel_other`` those active are cancelled."""

    slot: int
    next_slot: int
    at: int


@dataclass(frozen=True, slots=True)
class SlotSkipped:
    """``reason`` is overlap (an earlier run is still active) | missed (older than the catch-up window) | replaced (it was
    kept, and then a later one was, or slots are kept no more).
    """

    slot: int
    reason: str
    next_slot: int
    at: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class ScheduledRunEnded:
    """A run of this schedule is over: it stands in no later slot's way."""

    run_id: str
    at: int


Command = (
    SetSchedule
    | ClearSchedule
    | PauseSchedule
    | ResumeSchedule
    | TriggerSchedule
    | NoteRunEnded
    | ScheduleTick
)
Event = (
    ScheduleSet
    | ScheduleCleared
    | SchedulePaused
    | ScheduleResumed
    | SlotFired
    | SlotKept
    | SlotSkipped
    | ScheduledRunEnded
)


# ---------------------------------------------------------------- state
ACTIVE_MAX = 1_000
KEPT_MAX: Mapping[str, int] = {"buffer_one": 1, "buffer_all": 1_000, "cancel_other": 1}
"""How many slots are kept, by the schedules' ``overlap``, while an earlier run is active."""
SLOTS_PER_TICK_MAX = 1_000
FIRED_PER_TICK_MAX = 100
ON_TIME_MS = 60_000


class Schedule(Struct, frozen=True, omit_defaults=True):
    """``spec`` is canonical JSON text, "" while there is none. ``active`` are runs it started that have not ended.

    ``kept`` are slots that fire one after the other when none is active. A slot fires up to ``jitter_ms`` after its time.
    """

    spec: str = ""
    next_slot: int = 0
    paused: bool = False
    active: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    jitter_ms: int = 0
    seed: str = ""

    @property
    def exists(self) -> bool:
        """Whether the pipeline has a schedule."""
        return self.spec != ""

    @property
    def overlap(self) -> str:
        """What becomes of a slot that comes while an earlier run is active."""
        return str(json.loads(self.spec).get("overlap", "skip"))

    def fires_at(self, slot: int) -> int:
        """Return when a slot fires: the same delay on every node, another one for each slot and schedule."""
        if not self.jitter_ms:
            return slot
        share = int.from_bytes(hashlib.sha256(f"{self.seed}/{slot}".encode()).digest()[:8])
        return slot + self.jitter_ms * share // 2**64


# ---------------------------------------------------------------- decide
Decision = tuple[Event, ...] | Rejected


def decide(message: Message, schedule: Schedule, next_slot: NextSlot) -> Decision:
    """Return what the command causes: nothing, when it is already so."""
    command: Command = message.body
    if isinstance(command, SetSchedule):
        return _set(message, command, schedule, next_slot)
    if isinstance(command, NoteRunEnded):
        return _ended(message, command, schedule)
    if not schedule.exists:
        gone = isinstance(command, ScheduleTick | ClearSchedule)
        return () if gone else Rejected("not_found", f"pipeline {message.aggregate_id} has no schedule")
    match command:
        case ScheduleTick():
            return _tick(message, command, schedule, next_slot)
        case ClearSchedule():
            return (ScheduleCleared(message.now),)
        case PauseSchedule():
            return () if schedule.paused else (SchedulePaused(message.now, command.reason),)
        case ResumeSchedule():
            return _resumed(message, schedule, next_slot) if schedule.paused else ()
        case TriggerSchedule():
            return _by_hand(message, schedule, next_slot)
        case _:
            assert_never(command)


def _set(message: Message, command: SetSchedule, schedule: Schedule, next_slot: NextSlot) -> Decision:
    try:
        spec = json.loads(command.spec)
    except (ValueError, RecursionError) as error:
        return Rejected("invalid", f"spec is not JSON: {error}")
    if problems := schedule_problems(spec):
        return Rejected("invalid", "\n".join(map(str, problems)))
    try:
        slot = next_slot(spec, message.now)
    except ValueError as error:
        return Rejected("invalid", f"the schedule cannot be used: {error}")
    text = compact(spec)
    if text == schedule.spec:
        return ()
    seed = f"{message.tenant}/{message.aggregate_id}" if "jitter" in spec else ""
    events: list[Event] = [ScheduleSet(text, slot, message.now, seed)]
    if lost := schedule.kept[KEPT_MAX.get(spec.get("overlap", "skip"), 0) :]:
        events.append(SlotSkipped(lost[-1], "replaced", slot, message.now, len(lost)))
    return tuple(events)


def _resumed(message: Message, schedule: Schedule, next_slot: NextSlot) -> tuple[Event, ...]:
    resumed = ScheduleResumed(next_slot(json.loads(schedule.spec), message.now), message.now)
    return (resumed, *_kept(message, evolve(schedule, resumed)))


def _ended(message: Message, command: NoteRunEnded, schedule: Schedule) -> tuple[Event, ...]:
    """Note the end of a run; if it was the last one, the next slot that was kept fires."""
    if command.run_id not in schedule.active:
        return ()
    ended = ScheduledRunEnded(command.run_id, message.now)
    return (ended, *_kept(message, evolve(schedule, ended)))


def _kept(message: Message, schedule: Schedule) -> tuple[Event, ...]:
    if schedule.active or schedule.paused or not schedule.kept:
        return ()
    return (_fired(message, schedule.kept[0], schedule.next_slot),)


def _fired(message: Message, slot: int, following: int, *, manual: bool = False) -> SlotFired:
    new_id = run_id(message.tenant, message.aggregate_id, slot_key(slot))
    return SlotFired(slot, new_id, following, message.now, manual)


def _by_hand(message: Message, schedule: Schedule, next_slot: NextSlot) -> tuple[Event, ...]:
    """Fire now; in the millisecond of a slot, in the next one: that slot has a run of its own, which may have ended."""
    slot = message.now
    if next_slot(json.loads(schedule.spec), slot - 1) == slot:
        slot += 1
    fired = _fired(message, slot, schedule.next_slot, manual=True)
    return () if fired.run_id in schedule.active else (fired,)


def _tick(message: Message, command: ScheduleTick, schedule: Schedule, next_slot: NextSlot) -> Decision:
    """Fire what has come, in order, each slot once.

    A slot is on time for a minute: so long may it take until another node has taken the schedule over. Older slots
    (nobody was there) fire if ``catch_up`` reaches back to them; without ``catch_up`` only the latest one fires, and
    only if none is on time. The rest is skipped as missed, with one event for all. The walk is bounded: what is left
    over is due at once again.
    """
    if schedule.paused or min(command.due, message.now) < schedule.fires_at(schedule.next_slot):
        return ()
    spec = json.loads(schedule.spec)
    slots, after = _slots(schedule, spec, message.now, next_slot)
    window_ms = duration.parse(spec["catch_up"]) if "catch_up" in spec else 0
    oldest = message.now - max(window_ms, ON_TIME_MS)
    missed = [slot for slot in slots if schedule.fires_at(slot) < oldest]
    if "catch_up" not in spec and len(missed) == len(slots) and schedule.fires_at(after) > message.now:
        missed.pop()
    due = slots[len(missed) :]
    events: list[Event] = []
    if missed:
        following = due[0] if due else after
        events.append(SlotSkipped(missed[-1], "missed", following, message.now, len(missed)))
    for slot, following in list(pairwise([*due, after]))[:FIRED_PER_TICK_MAX]:
        for event in _came(message, schedule, slot, following):
            events.append(event)
            schedule = evolve(schedule, event)
    return tuple(events)


def _came(message: Message, schedule: Schedule, slot: int, following: int) -> tuple[Event, ...]:
    """Return what becomes of a slot: it fires, or meets a run that is still active."""
    overlap = schedule.overlap
    if overlap == "allow" or not (schedule.active or schedule.kept):
        return (_fired(message, slot, following),)
    kept = SlotKept(slot, following, message.now)
    if len(schedule.kept) < KEPT_MAX.get(overlap, 0):
        return (kept,)
    if overlap == "cancel_other":
        return (SlotSkipped(schedule.kept[0], "replaced", slot, message.now), kept)
    return (SlotSkipped(slot, "overlap", following, message.now),)


def _slots(
    schedule: Schedule, spec: Mapping[str, Any], now: int, next_slot: NextSlot
) -> tuple[list[int], int]:
    """Return the slots whose time to fire has come, at most so many, and the slot after them."""
    slots: list[int] = []
    slot = schedule.next_slot
    while schedule.fires_at(slot) <= now and len(slots) < SLOTS_PER_TICK_MAX:
        slots.append(slot)
        slot = next_slot(spec, slot)
    return slots, slot


# ---------------------------------------------------------------- evolve
def evolve(schedule: Schedule, event: Event) -> Schedule:
    """Return the schedule after the event; a fact is never refused."""
    match event:
        case SlotFired():
            active = (*schedule.active, event.run_id)[-ACTIVE_MAX:]
            kept = tuple(slot for slot in schedule.kept if slot != event.slot)
            return replace(schedule, active=active, kept=kept, next_slot=event.next_slot)
        case ScheduledRunEnded():
            return replace(schedule, active=tuple(run for run in schedule.active if run != event.run_id))
        case SlotKept():
            return replace(schedule, kept=(*schedule.kept, event.slot), next_slot=event.next_slot)
        case SlotSkipped():
            kept = schedule.kept[: -event.count] if event.reason == "replaced" else schedule.kept
            return replace(schedule, kept=kept, next_slot=event.next_slot)
        case ScheduleSet():
            jitter_ms = duration.parse(json.loads(event.spec).get("jitter", "0s"))
            return replace(
                schedule, spec=event.spec, next_slot=event.next_slot, jitter_ms=jitter_ms, seed=event.seed
            )
        case ScheduleCleared():
            return Schedule(active=schedule.active)
        case SchedulePaused():
            return replace(schedule, paused=True)
        case ScheduleResumed():
            return replace(schedule, paused=False, next_slot=event.next_slot)
        case _:
            assert_never(event)


# ---------------------------------------------------------------- declaration
def due(schedule: Schedule) -> int | None:
    """Return when the next slot fires; None while there is none, or it is paused."""
    return schedule.fires_at(schedule.next_slot) if schedule.exists and not schedule.paused else None


def aggregate(next_slot: NextSlot) -> Aggregate:
    """Return the declaration; ``next_slot`` knows cron and time zones."""
    return Aggregate(
        name="schedule",
        commands=get_args(Command),
        events=get_args(Event),
        initial=Schedule(),
        decide=partial(decide, next_slot=next_slot),
        evolve=evolve,
        due=due,
        tick=ScheduleTick,
        unindexed=(ScheduleTick,),
    )
