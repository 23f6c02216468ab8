"""The rows of the view of runs, as the read store has them at one moment."""

from collections.abc import Callable, Mapping

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from streams.agents.projection_tables import Tables, connect
from streams.projections.run import TABLE
from streams.proof.derived import Rows

_BATCH = 1_000


class Unreadable(Exception):
    """The view cannot be compared with the log; the message says why."""


def read_rows(
    url: str, schema: str, topic: str, topic_id: str, begin: Callable[[Mapping[int, int]], Rows]
) -> Rows:
    """Hand all rows to what ``begin`` makes of how far each shard of ``topic`` had been read, and return it. Blocking.

    Raises :class:`Unreadable` when the database cannot be used, or its view is of another topic than ``topic_id``.
    """
    try:
        with connect(url, "flexcore-verify") as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            tables = Tables(schema)
            checkpoints = {
                place[2]: found
                for place, found in tables.checkpoints(connection, [TABLE.name]).items()
                if place[1] == topic
            }
            if not checkpoints or any(one.topic_id != topic_id for one in checkpoints.values()):
                raise Unreadable("there is no view of these runs in the database yet")
            rows = begin({shard: found.next_offset for shard, found in checkpoints.items()})
            with connection.cursor("rows", row_factory=dict_row) as cursor:
                cursor.itersize = _BATCH
                for row in cursor.execute(sql.SQL("SELECT * FROM {}").format(tables.name(TABLE.name))):
                    rows.row(row)
    except psycopg.Error as error:
        raise Unreadable(f"the database cannot be read: {str(error).strip().splitlines()[0]}") from None
    return rows
