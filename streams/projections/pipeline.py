"""The pipelines as they are now: definition, version, state."""

import json
from typing import assert_never

from sqlalchemy import JSON, BigInteger, Column, Integer, Text

from streams.domain.listeners import ListenersCalled, ListenerSet
from streams.domain.pipeline import Event, PipelineApplied, PipelineDeleted, PipelinePaused, PipelineResumed
from streams.domain.starts import RunRecalled, RunRefused, RunRequested
from streams.projections.view import Meta, Row, View, versioned

TABLE = versioned(
    "pipeline",
    [
        Column("tenant", Text, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("status", Text, nullable=False),
        Column("reason", Text),
        Column("number", BigInteger, nullable=False),
        Column("definition", JSON, nullable=False),
        Column("definition_hash", Text, nullable=False),
        Column("schedule", JSON),
        Column("triggers", JSON, nullable=False),
        Column("listeners", JSON, nullable=False),
        Column("last_run", Text),
        Column("last_run_at", BigInteger),
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("shard", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
    ],
    {},
)

_EMPTY: Row = {
    "status": "deleted",
    "reason": None,
    "number": 0,
    "definition": {},
    "definition_hash": "",
    "schedule": None,
    "triggers": [],
    "listeners": {},
    "last_run": None,
    "last_run_at": None,
}


def fold(row: Row | None, event: Event, meta: Meta) -> Row | None:
    """Return the pipeline after ``event``; ``version`` follows the aggregate, so that it can serve as ETag."""
    before = (
        dict(row)
        if row
        else {"tenant": meta.tenant, "name": meta.aggregate_id, "created_at": meta.at, **_EMPTY}
    )
    if isinstance(event, PipelineApplied) and event.number == 1:
        before["created_at"] = meta.at  # others may have begun to listen before it was there
    place = {"updated_at": meta.at, "version": meta.version, "shard": meta.shard, "sequence": meta.sequence}
    return {**before, **_changes(before, event), **place}


def _changes(before: Row, event: Event) -> Row:
    match event:
        case PipelineApplied():
            definition = json.loads(event.definition)
            spec = definition.get("spec") or {}
            return {
                # A paused pipeline stays paused when it gets a new version.
                "status": "paused" if before["status"] == "paused" else "active",
                "number": event.number,
                "definition": definition,
                "definition_hash": event.definition_hash,
                "schedule": spec.get("schedule"),
                "triggers": spec.get("triggers") or [],
            }
        case PipelinePaused():
            return {"status": "paused", "reason": event.reason}
        case PipelineResumed():
            return {"status": "active", "reason": None}
        case PipelineDeleted():
            return {"status": "deleted", "reason": None, "schedule": None, "triggers": []}
        case RunRequested():
            return {"last_run": event.run_id, "last_run_at": event.at}
        case ListenerSet():
            return {"listeners": _listeners(before["listeners"], event)}
        case RunRefused() | RunRecalled() | ListenersCalled():
            return {}
        case _:
            assert_never(event)


def _listeners(before: Row, event: ListenerSet) -> Row:
    others = {name: ends for name, ends in before.items() if name != event.pipeline}
    return {**others, event.pipeline: list(event.status)} if event.status else others


VIEW = View(
    name="pipeline",
    table=TABLE,
    source="events",
    aggregates=("pipeline",),
    key=lambda _event, meta: (meta.tenant, meta.aggregate_id),
    fold=fold,
)
