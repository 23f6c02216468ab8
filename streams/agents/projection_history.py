"""A row folded anew from the events of its aggregate as they are stored now, redacted ones included."""

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from streams.agents.projection_tables import Connection, Tables
from streams.domain.redaction import EventRedacted
from streams.projections import event as events
from streams.projections.view import Meta, Row, View
from streams.translation import from_record

_COLUMNS = [{"offset": "log_offset"}.get(name, name) for name in Meta.__annotations__]


def folded(view: View, row: Row | None, event: Any, meta: Meta) -> Row | None:
    """Return the row after an event. That another one was redacted shows in nothing but the place of the last event."""
    if not isinstance(event, EventRedacted):
        return view.fold(row, event, meta) or row
    place = {"version": meta.version, "shard": meta.shard, "sequence": meta.sequence}
    return None if row is None else {**row, **place}


def refolded(
    connection: Connection, tables: Tables, view: View, kinds: Mapping[str, type], last: Meta
) -> Row | None:
    """Return the row after the event ``last``, which redacts an earlier one of its aggregate.

    None while one of the events before it is not stored: it was redacted too, and its record is still to come.
    """
    query = sql.SQL(
        "SELECT body, {} FROM {} WHERE tenant = %s AND aggregate = %s AND aggregate_id = %s AND version <= %s"
        " ORDER BY version"
    ).format(sql.SQL(", ").join(map(sql.Identifier, _COLUMNS)), tables.name(events.TABLE.name))
    of = (last.tenant, last.aggregate, last.aggregate_id, last.version)
    row, version = None, 0
    for body, *place in connection.execute(query, of):
        meta = Meta(*place)
        if meta.version != version + 1:
            return None
        version += 1
        row = folded(view, row, from_record(kinds[meta.type], body), meta)
    return row if version == last.version else None
