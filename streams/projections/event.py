"""Every event of every aggregate, as a row that can be searched: audit, history and time travel."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Integer, Text

from streams.projections.view import Meta, Row, View, versioned

TABLE = versioned(
    "event",
    [
        # A position (aggregate, shard, sequence) belongs to one record; the offset keeps a foreign record that claims
        # the same position from hiding it.
        Column("aggregate", Text, primary_key=True),
        Column("shard", Integer, primary_key=True),
        Column("sequence", BigInteger, primary_key=True),
        Column("log_offset", BigInteger, primary_key=True),
        Column("topic", Text, nullable=False),
        Column("event_id", Text, nullable=False),
        Column("tenant", Text, nullable=False),
        Column("aggregate_id", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("type", Text, nullable=False),
        Column("command_id", Text, nullable=False),
        Column("causation_id", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("writer", Text, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("body", JSON, nullable=False),
        Column("redacted", Text),
    ],
    {
        "history": ("tenant", "aggregate", "aggregate_id", "version"),
        "time": ("tenant", "at", "aggregate", "shard", "sequence"),
        "correlation": ("tenant", "correlation_id"),
        "id": ("event_id",),
    },
)


def key(_body: Mapping[str, Any], meta: Meta) -> tuple[str, int, int, int]:
    """Return the place in the log."""
    return meta.aggregate, meta.shard, meta.sequence, meta.offset


def fold(_row: Row | None, body: Mapping[str, Any], meta: Meta) -> Row | None:
    """Return the event's row; ``body`` is the record without its envelope, ``redacted`` by whom and why it is another one."""
    return {
        "aggregate": meta.aggregate,
        "shard": meta.shard,
        "sequence": meta.sequence,
        "log_offset": meta.offset,
        "topic": meta.topic,
        "event_id": meta.event_id,
        "tenant": meta.tenant,
        "aggregate_id": meta.aggregate_id,
        "version": meta.version,
        "type": meta.type,
        "command_id": meta.command_id,
        "causation_id": meta.causation_id,
        "correlation_id": meta.correlation_id,
        "actor": meta.actor,
        "writer": meta.writer,
        "at": meta.at,
        "body": body,
        "redacted": meta.redacted,
    }


VIEW = View(
    name="event",
    table=TABLE,
    source="events",
    aggregates=None,
    key=key,
    fold=fold,
    typed=False,
    append=True,
    same=("aggregate", "shard", "sequence", "event_id"),
)
