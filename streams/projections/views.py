"""Every view, and the bookkeeping beside them."""

import hashlib

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Table, Text

from streams.projections import alert, bookmark, command, event, limit, pipeline, quarantine, run, schedule
from streams.projections.view import View

VIEWS: tuple[View, ...] = (
    pipeline.VIEW,
    run.VIEW,
    schedule.VIEW,
    alert.VIEW,
    limit.VIEW,
    bookmark.VIEW,
    event.VIEW,
    command.VIEW,
    quarantine.VIEW,
)

_BOOKKEEPING = MetaData()

# How far each view's table has folded each partition. `target` is the partition's end when the table was begun:
# a table is complete when it has passed the target everywhere.
CHECKPOINT = Table(
    "checkpoint",
    _BOOKKEEPING,
    Column("table_name", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("topic_id", Text, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("target", BigInteger, nullable=False),
)

# Which tables exist, for how many partitions, and when a projector last used them: one unused for long is dropped.
VIEW_TABLE = Table(
    "view_table",
    _BOOKKEEPING,
    Column("table_name", Text, primary_key=True),
    Column("view", Text, nullable=False),
    Column("partitions", Integer, nullable=False),
    Column("used_at", DateTime(timezone=True), nullable=False),
)

# Records that could not be projected, by their place in the log.
PROJECTION_ERROR = Table(
    "projection_errors",
    _BOOKKEEPING,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("log_offset", BigInteger, primary_key=True),
    Column("topic_id", Text, primary_key=True),
    Column("view", Text, primary_key=True),
    Column("cause", Text, nullable=False),
)

BOOKKEEPING: tuple[Table, ...] = (CHECKPOINT, VIEW_TABLE, PROJECTION_ERROR)


def by_name(name: str) -> View | None:
    """Return the view of this name, or None."""
    return next((view for view in VIEWS if view.name == name), None)


def generation(views: tuple[View, ...] = VIEWS) -> str:
    """Return a short hash of all shapes: programs that agree on it can share the work of filling the tables."""
    return hashlib.sha256(" ".join(sorted(view.table.name for view in views)).encode()).hexdigest()[:6]
