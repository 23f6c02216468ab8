"""The limits as they are now: who is in, and who waits."""

from typing import assert_never

from sqlalchemy import JSON, BigInteger, Column, Integer, Text

from streams.domain.limit import Event, LimitAcquired, LimitQueued, LimitReleased
from streams.projections.view import Meta, Row, View, versioned

TABLE = versioned(
    "limit",
    [
        Column("tenant", Text, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("max", Integer, nullable=False),
        Column("holders", JSON, nullable=False),
        Column("waiting", JSON, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("shard", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
    ],
    {},
)


def fold(row: Row | None, event: Event, meta: Meta) -> Row | None:
    """Return the limit after ``event``; both lists hold run ids in the order of their coming."""
    before = row or {"tenant": meta.tenant, "name": meta.aggregate_id, "max": 0, "holders": [], "waiting": []}
    place = {"updated_at": meta.at, "version": meta.version, "shard": meta.shard, "sequence": meta.sequence}
    holders = [run for run in before["holders"] if run != event.run_id]
    waiting = [run for run in before["waiting"] if run != event.run_id]
    match event:
        case LimitQueued():
            changes: Row = {"max": event.max, "waiting": [*waiting, event.run_id]}
        case LimitAcquired():
            changes = {"max": event.max, "holders": [*holders, event.run_id], "waiting": waiting}
        case LimitReleased():
            changes = {"holders": holders, "waiting": waiting}
        case _:
            assert_never(event)
    return {**before, **changes, **place}


VIEW = View(
    name="limit",
    table=TABLE,
    source="events",
    aggregates=("limit",),
    key=lambda _event, meta: (meta.tenant, meta.aggregate_id),
    fold=fold,
)
