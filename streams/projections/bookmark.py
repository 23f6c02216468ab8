"""The bookmarks as they are now: how far each step has read its source, and the generation of its dataset."""

import json
from typing import Any, assert_never

from sqlalchemy import JSON, BigInteger, Column, Integer, Text

from streams.domain.bookmark import (
    BookmarkAdvanced,
    BookmarkBegun,
    BookmarkReleased,
    BookmarkReset,
    BookmarkSet,
    Event,
    GenerationStarted,
)
from streams.projections.view import Meta, Row, View, versioned

TABLE = versioned(
    "bookmark",
    [
        Column("tenant", Text, primary_key=True),
        Column("pipeline", Text, primary_key=True),
        Column("step", Text, primary_key=True),
        Column("bookmark", JSON(none_as_null=True)),
        Column("generation", Text),
        Column("topic_id", Text),
        Column("starts", JSON, nullable=False),
        Column("counts", JSON, nullable=False),
        Column("records", BigInteger, nullable=False),
        Column("rejected", BigInteger, nullable=False),
        Column("generation_run", Text),
        Column("generation_at", BigInteger),
        Column("holder_run", Text),
        Column("holder_attempt", BigInteger),
        Column("updated_at", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("shard", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
    ],
    {},
)

_EMPTY: Row = {
    "bookmark": None,
    "generation": None,
    "topic_id": None,
    "starts": {},
    "counts": {},
    "records": 0,
    "rejected": 0,
    "generation_run": None,
    "generation_at": None,
    "holder_run": None,
    "holder_attempt": None,
}


def key(_event: Any, meta: Meta) -> tuple[str, str, str]:
    """Return tenant, pipeline and step: the aggregate id is ``<pipeline>/<step>``."""
    pipeline, _, step = meta.aggregate_id.partition("/")
    return meta.tenant, pipeline, step


def fold(row: Row | None, event: Event, meta: Meta) -> Row | None:
    """Return the bookmark after ``event``; ``counts`` are records per partition of the present generation."""
    tenant, pipeline, step = key(event, meta)
    before = row or {"tenant": tenant, "pipeline": pipeline, "step": step, **_EMPTY}
    place = {"updated_at": meta.at, "version": meta.version, "shard": meta.shard, "sequence": meta.sequence}
    return {**before, **_changes(before, event), **place}


def _changes(before: Row, event: Event) -> Row:
    match event:
        case BookmarkBegun():
            return {"holder_run": event.run, "holder_attempt": event.attempt}
        case GenerationStarted():
            return {
                "bookmark": None,
                "generation": event.generation,
                "topic_id": event.topic_id,
                "starts": event.starts,
                "counts": {},
                "records": 0,
                "rejected": 0,
                "generation_run": event.run,
                "generation_at": event.at,
            }
        case BookmarkAdvanced():
            counts = dict(before["counts"])
            for partition, count in sorted(event.counts.items()):
                counts[partition] = counts.get(partition, 0) + count
            return {
                "bookmark": json.loads(event.bookmark),
                "counts": counts,
                "records": event.records,
                "rejected": event.rejected,
            }
        case BookmarkReleased():
            # A run may end while another one holds the bookmark.
            return {"holder_run": None, "holder_attempt": None} if event.run == before["holder_run"] else {}
        case BookmarkSet():
            return {"bookmark": json.loads(event.bookmark)}
        case BookmarkReset():
            return {"bookmark": None}
        case _:
            assert_never(event)


VIEW = View(name="bookmark", table=TABLE, source="events", aggregates=("bookmark",), key=key, fold=fold)
