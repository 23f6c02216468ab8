"""What somebody wants to be told about a pipeline, and the incidents there were."""

import json
from typing import Any, assert_never

from sqlalchemy import JSON, BigInteger, Column, Integer, Text

from streams.domain.alert.events import (
    AlertsSet,
    Event,
    IncidentAcknowledged,
    IncidentOpened,
    IncidentRepeated,
    IncidentResolved,
    Notified,
    RunSeen,
)
from streams.domain.alert.evolve import INCIDENTS_MAX, SAMPLES_MAX
from streams.domain.alert.state import usual
from streams.projections.view import Meta, Row, View, versioned

TABLE = versioned(
    "alert",
    [
        Column("tenant", Text, primary_key=True),
        Column("pipeline", Text, primary_key=True),
        Column("rules", JSON, nullable=False),
        Column("unresolved", Integer, nullable=False),
        Column("last_run", Text),
        Column("last_status", Text),
        Column("usual", JSON, nullable=False),
        Column("incidents", JSON, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("shard", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
    ],
    {},
    revision=2,
)

_EMPTY: Row = {
    "rules": [],
    "unresolved": 0,
    "last_run": None,
    "last_status": None,
    "usual": {"took_ms": None, "records": None, "runs": []},
    "incidents": [],
}


def fold(row: Row | None, event: Event, meta: Meta) -> Row | None:
    """Return the alerts of the pipeline after ``event``; ``incidents`` are the latest, the newest first."""
    before = row or {"tenant": meta.tenant, "pipeline": meta.aggregate_id, **_EMPTY}
    place = {"updated_at": meta.at, "version": meta.version, "shard": meta.shard, "sequence": meta.sequence}
    return {**before, **_changes(before, event, meta), **place}


def _changes(before: Row, event: Event, meta: Meta) -> Row:
    match event:
        case AlertsSet():
            return {"rules": json.loads(event.rules)}
        case RunSeen():
            seen = {"last_run": event.run_id, "last_status": event.status}
            return {**seen, "usual": _usual(before["usual"], event)}
        case IncidentOpened():
            opened: dict[str, Any] = {
                "id": event.incident,
                "on": event.on,
                "notify": event.notify,
                "status": "open",
                "detail": event.detail,
                "run_id": event.run_id,
                "opened_at": event.at,
                "repeated": 0,
                "acknowledged_by": None,
                "note": None,
                "resolved_at": None,
                "resolution": None,
                "notified": [],
            }
            return _with([opened, *before["incidents"]][:INCIDENTS_MAX])
        case IncidentRepeated():
            return _changed(before, event.incident, lambda one: {"repeated": one["repeated"] + 1})
        case IncidentAcknowledged():
            taken = {"status": "acknowledged", "acknowledged_by": meta.actor, "note": event.note}
            return _changed(before, event.incident, lambda _: taken)
        case IncidentResolved():
            over = {"status": "resolved", "resolved_at": event.at, "resolution": event.reason}
            return _changed(before, event.incident, lambda _: over)
        case Notified():
            told = {
                "about": event.about,
                "channel": event.channel,
                "attempts": event.attempts,
                "error": event.error,
                "at": event.at,
            }
            return _changed(before, event.incident, lambda one: {"notified": [*one["notified"], told]})
        case _:
            assert_never(event)


def _usual(before: Row, event: RunSeen) -> Row:
    """Return what runs take and move, by the latest that succeeded: the rules judge by the same."""
    nothing = event.took_ms is None and event.records is None
    if event.status != "succeeded" or event.full_refresh or nothing:
        return before
    run = {"run_id": event.run_id, "took_ms": event.took_ms, "records": event.records}
    runs = [*before["runs"], run][-SAMPLES_MAX:]
    return {**{name: usual(run[name] for run in runs) for name in ("took_ms", "records")}, "runs": runs}


def _changed(before: Row, incident: str, changes: Any) -> Row:
    return _with([one | changes(one) if one["id"] == incident else one for one in before["incidents"]])


def _with(incidents: list[dict[str, Any]]) -> Row:
    return {"incidents": incidents, "unresolved": sum(one["status"] != "resolved" for one in incidents)}


VIEW = View(
    name="alert",
    table=TABLE,
    source="events",
    aggregates=("alert",),
    key=lambda _event, meta: (meta.tenant, meta.aggregate_id),
    fold=fold,
)
