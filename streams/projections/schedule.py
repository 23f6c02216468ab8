"""The schedules as they are now: when a pipeline starts next, and what became of the last slot."""

import json
from typing import assert_never

from sqlalchemy import JSON, BigInteger, Column, Integer, Text

from streams.domain.schedule import (
    Event,
    ScheduleCleared,
    ScheduledRunEnded,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSet,
    SlotFired,
    SlotKept,
    SlotSkipped,
)
from streams.projections.view import Meta, Row, View, versioned

TABLE = versioned(
    "schedule",
    [
        Column("tenant", Text, primary_key=True),
        Column("pipeline", Text, primary_key=True),
        Column("status", Text, nullable=False),
        Column("reason", Text),
        Column("spec", JSON),
        Column("next_slot", BigInteger),
        Column("last_slot", BigInteger),
        Column("last_run", Text),
        Column("fired", BigInteger, nullable=False),
        Column("skipped", BigInteger, nullable=False),
        Column("last_skip", Text),
        Column("active_runs", JSON, nullable=False),
        Column("kept_slots", JSON, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("shard", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
    ],
    {},
)

_EMPTY: Row = {
    "status": "cleared",
    "reason": None,
    "spec": None,
    "next_slot": None,
    "last_slot": None,
    "last_run": None,
    "fired": 0,
    "skipped": 0,
    "last_skip": None,
    "active_runs": [],
    "kept_slots": [],
}


def fold(row: Row | None, event: Event, meta: Meta) -> Row | None:
    """Return the schedule after ``event``; ``fired`` and ``skipped`` count slots since the first event."""
    before = row or {"tenant": meta.tenant, "pipeline": meta.aggregate_id, **_EMPTY}
    place = {"updated_at": meta.at, "version": meta.version, "shard": meta.shard, "sequence": meta.sequence}
    return {**before, **_changes(before, event), **place}


def _changes(before: Row, event: Event) -> Row:
    match event:
        case ScheduleSet():
            status = "paused" if before["status"] == "paused" else "active"
            return {"status": status, "spec": json.loads(event.spec), "next_slot": event.next_slot}
        case ScheduleCleared():
            return {"status": "cleared", "spec": None, "next_slot": None, "reason": None, "kept_slots": []}
        case SchedulePaused():
            return {"status": "paused", "reason": event.reason}
        case ScheduleResumed():
            return {"status": "active", "reason": None, "next_slot": event.next_slot}
        case SlotFired():
            return {
                "fired": before["fired"] + 1,
                "last_slot": event.slot,
                "last_run": event.run_id,
                "next_slot": event.next_slot,
                "active_runs": [*before["active_runs"], event.run_id],
                "kept_slots": [slot for slot in before["kept_slots"] if slot != event.slot],
            }
        case SlotKept():
            return {"kept_slots": [*before["kept_slots"], event.slot], "next_slot": event.next_slot}
        case SlotSkipped():
            return {
                "skipped": before["skipped"] + event.count,
                "last_skip": event.reason,
                "next_slot": event.next_slot,
                **(
                    {"kept_slots": before["kept_slots"][: -event.count]} if event.reason == "replaced" else {}
                ),
            }
        case ScheduledRunEnded():
            return {"active_runs": [run for run in before["active_runs"] if run != event.run_id]}
        case _:
            assert_never(event)


VIEW = View(
    name="schedule",
    table=TABLE,
    source="events",
    aggregates=("schedule",),
    key=lambda _event, meta: (meta.tenant, meta.aggregate_id),
    fold=fold,
)
