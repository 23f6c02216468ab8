"""Positions of loads, kept in the target database and moved in the transaction of the rows."""

from collections.abc import Mapping

from psycopg import Connection, sql

from connectors.builtin.postgres_table import Table
from connectors.sdk.errors import Superseded
from connectors.sdk.sink import Load

TABLE = "flexcore_positions"
_LOCK = 7_266_412_190_331_207


class Positions:
    """Where a load goes on, by tenant, pipeline, step, topic id, generation and partition.

    A position moves by compare-and-set: whoever finds another value than the one it last saw has been overtaken.
    """

    def __init__(self, beside: Table, load: Load) -> None:
        self._table = beside.named(TABLE)
        self._load = load
        self._key = (load.tenant, load.pipeline, load.step, load.topic_id, load.generation)

    def ensure(self, connection: Connection) -> None:
        """Make the table if it is not there. Part of the caller's transaction, one such at a time."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (tenant text, pipeline text, step text, topic_id text, generation text,"
                " partition int, next_offset bigint NOT NULL, run text NOT NULL, attempt int NOT NULL,"
                " PRIMARY KEY (tenant, pipeline, step, topic_id, generation, partition))"
            ).format(self._table.quoted)
        )

    def read(self, connection: Connection) -> dict[int, int]:
        """Return the stored position of every partition that has one."""
        rows = connection.execute(
            sql.SQL(
                "SELECT partition, next_offset FROM {} WHERE (tenant, pipeline, step, topic_id, generation)"
                " = (%s, %s, %s, %s, %s)"
            ).format(self._table.quoted),
            self._key,
        ).fetchall()
        return {int(partition): int(following) for partition, following in rows}

    def move(self, connection: Connection, known: Mapping[int, int], following: Mapping[int, int]) -> None:
        """Set new positions where the stored ones are still those ``known``; raise Superseded otherwise."""
        who = (self._load.run, self._load.attempt)
        for partition, to in following.items():
            if partition in known:
                done = connection.execute(
                    sql.SQL(
                        "UPDATE {} SET next_offset = %s, run = %s, attempt = %s"
                        " WHERE (tenant, pipeline, step, topic_id, generation) = (%s, %s, %s, %s, %s)"
                        " AND partition = %s AND next_offset = %s"
                    ).format(self._table.quoted),
                    (to, *who, *self._key, partition, known[partition]),
                )
            else:
                done = connection.execute(
                    sql.SQL(
                        "INSERT INTO {} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
                    ).format(self._table.quoted),
                    (*self._key, partition, to, *who),
                )
            if done.rowcount != 1:
                raise Superseded(
                    f"the position of {self._load.pipeline}/{self._load.step} was moved by another attempt: stop"
                )
