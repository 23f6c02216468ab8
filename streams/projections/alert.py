"""What somebody wants to be told about a pipeline, and the incidents there were."""

import json
from typing import Any, assert_never

from sqlalchemy import JSON, BigInteger, Column, Integer, Text

from streams.domain.alert import (
    INCIDENTS_MAX,
    AlertsSet,
    Event,
    IncidentAcknowledged,
    IncidentOpened,
    IncidentRepeated,
    IncidentResolved,
    Notified,
    RunSeen,
)
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
        Column("incidents", JSON, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("shard", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
    ],
    {},
)

_EMPTY: Row = {"rules": [], "unresolved": 0, "last_run": None, "last_status": None, "incidents": []}


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
            return {"last_run": event.run_id, "last_status": event.status}
        case IncidentOpened():
            opened: dict[str, Any] = {
                "id": event.incident,
                "on": event.on,
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
            seen = {"status": "acknowledged", "acknowledged_by": meta.actor, "note": event.note}
            return _changed(before, event.incident, lambda _: seen)
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
