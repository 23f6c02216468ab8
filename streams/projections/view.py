"""What every view declares, and what its fold is given.

A row depends on the records of one aggregate (or one record) only, and on no clock or serial number: folding the log
again yields equal rows. A view's table carries the hash of its shape in its name, so a changed shape is a new table.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Column, Index, MetaData, Table
from sqlalchemy.dialects import postgresql

Row = dict[str, Any]
Source = Literal["events", "outcomes", "quarantine"]


class Meta(NamedTuple):
    """Where an event comes from: its envelope, and its place in the log.

    ``at`` is in ms since the epoch. ``offset`` is the record's in ``topic``, whose partition is the shard. ``redacted`` is by
    whom and why, None for an event as it was written.
    """

    tenant: str
    aggregate: str
    aggregate_id: str
    version: int
    sequence: int
    event_id: str
    type: str
    command_id: str
    causation_id: str
    correlation_id: str
    actor: str
    at: int
    writer: str
    topic: str
    shard: int
    offset: int
    redacted: str | None = None


def meta_of(envelope: Row, kind: str, place: tuple[str, int, int], redacted: str | None = None) -> Meta:
    """Return it for the event ``kind`` that has this envelope and stands at ``place``: topic, partition, offset."""
    return Meta(
        envelope["tenant"],
        envelope["aggregate"],
        envelope["aggregate_id"],
        envelope["version"],
        envelope["sequence"],
        envelope["event_id"],
        kind,
        envelope["command_id"],
        envelope["causation_id"],
        envelope["correlation_id"],
        envelope["actor"],
        envelope["at"],
        envelope["writer"],
        *place,
        redacted,
    )


@dataclass(frozen=True, slots=True)
class View:
    """One view: where its rows come from, how a row is found, and how it is folded.

    - ``aggregates``: the aggregates whose records it folds; None: of all.
    - ``key(event, meta)``: the values of the table's primary key.
    - ``fold(row, event, meta)``: the row after the event; None leaves the row as it is. It never changes the row it
      is given. The event is the domain's dataclass where ``typed``, else the decoded record (without envelope).
    - ``append``: a record makes a row of its own; the earlier row is neither read nor replaced.
    - ``same``: the columns that a redacted event has in common with the row it replaces. Other views are not given
      redacted events: what those did is done.
    - ``revision``: raised by hand when the fold's meaning changes though the columns don't: rows are made anew.
    """

    name: str
    table: Table
    source: Source
    aggregates: tuple[str, ...] | None
    key: Callable[[Any, Any], tuple[Any, ...]]
    fold: Callable[[Row | None, Any, Any], Row | None]
    typed: bool = True
    append: bool = False
    same: tuple[str, ...] = ()
    revision: int = 1

    def folds(self, source: Source, aggregate: str) -> bool:
        """Return whether records of this source and aggregate concern the view."""
        return source == self.source and (self.aggregates is None or aggregate in self.aggregates)


def versioned(
    name: str, columns: list[Column[Any]], indexes: Mapping[str, tuple[str, ...]], revision: int = 1
) -> Table:
    """Return the table of a view, named ``<name>_v<hash of its shape>``, with indexes ``<table>_<suffix>``."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects unannotated
    shape = [f"{c.name} {c.type.compile(dialect)} {c.nullable} {c.primary_key}" for c in columns]
    shape += [f"{suffix}{fields}" for suffix, fields in indexes.items()]
    digest = hashlib.sha256("\n".join([*shape, str(revision)]).encode()).hexdigest()[:6]
    table = Table(f"{name}_v{digest}", MetaData(), *columns)
    for suffix, fields in indexes.items():
        Index(f"{table.name}_{suffix}", *(table.c[field] for field in fields))
    return table


def position(aggregate: str, shard: int, sequence: int) -> str:
    """Return the position token ``<aggregate>:<shard>:<sequence>``."""
    return f"{aggregate}:{shard}:{sequence}"
