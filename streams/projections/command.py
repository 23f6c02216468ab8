"""What became of each command: its outcome, by command id."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, Text

from streams.projections.view import Row, View, versioned

TABLE = versioned(
    "command",
    [
        Column("tenant", Text, primary_key=True),
        Column("command_id", Text, primary_key=True),
        # The scope of a command id is its aggregate.
        Column("aggregate", Text, primary_key=True),
        Column("aggregate_id", Text, primary_key=True),
        Column("shard", Integer, primary_key=True),
        Column("command_type", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("reason", Text),
        Column("detail", Text),
        Column("first_version", BigInteger, nullable=False),
        Column("last_version", BigInteger, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("body_hash", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("stored", Boolean, nullable=False),
        Column("reply", Text),
    ],
    {},
)

_FIELDS = tuple(column.name for column in TABLE.columns)


def key(outcome: Mapping[str, Any], _meta: Any) -> tuple[Any, ...]:
    """Return tenant, command id, aggregate, aggregate id and shard."""
    names = ("tenant", "command_id", "aggregate", "aggregate_id", "shard")
    return tuple(outcome[name] for name in names)


def fold(row: Row | None, outcome: Mapping[str, Any], _meta: Any) -> Row | None:
    """Return the command's outcome: the stored one, once there is one.

    An answer that is not stored (the same id with another body, an overload) never takes its place.
    """
    if row is not None and row["stored"]:
        return None
    return {name: outcome[name] for name in _FIELDS}


VIEW = View(name="command", table=TABLE, source="outcomes", aggregates=None, key=key, fold=fold, typed=False)
