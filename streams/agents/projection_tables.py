"""The tables of the read store: made when they are missing, made anew, switched, dropped when nobody uses them.

Every function takes part in the caller's transaction, or opens one. Table names are ours, never a caller's input.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import MetaData, Table, quoted_name
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from streams.projections.view import View
from streams.projections.views import BOOKKEEPING, CHECKPOINT, PROJECTION_ERROR, VIEW_TABLE

Connection = psycopg.Connection[tuple[Any, ...]]
Place = tuple[str, str, int]

# One number for all programs that change the schema, so that they do it one after the other.
_SCHEMA_LOCK = 0x464C4558
NEXT = "_next"


class Checkpoint(NamedTuple):
    """How far a table has folded a partition; ``target`` is where the partition ended when the table was begun."""

    topic_id: str
    next_offset: int
    sequence: int
    target: int


def connect(url: str, name: str) -> Connection:
    """Return a connection in autocommit mode that gives up on locks and dead peers instead of waiting for ever."""
    connection = psycopg.connect(
        url,
        autocommit=True,
        application_name=name,
        connect_timeout=5,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )
    # A lost tail after a crash of the database is no loss: rows and checkpoint go back together, the log has the rest.
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET lock_timeout = '10s'")
    connection.execute("SET idle_in_transaction_session_timeout = '30s'")
    return connection


class Tables:
    """The tables of one database schema."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def name(self, table: str) -> sql.Identifier:
        """Return the qualified name, quoted."""
        return sql.Identifier(self._schema, table)

    def ensure(self, connection: Connection, views: Iterable[View], partitions: Mapping[str, int]) -> None:
        """Make whatever is missing; ``partitions`` is, per view, how many partitions its table must have folded."""
        with connection.transaction():
            self._lock(connection)
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema)))
            for table in BOOKKEEPING:
                self._create(connection, table, table.name)
            for view in views:
                self._create(connection, view.table, view.table.name)
                self._use(connection, view, partitions.get(view.name, 0))

    def touch(self, connection: Connection, views: Iterable[View]) -> None:
        """Say that these tables are in use."""
        names = [view.table.name for view in views]
        query = sql.SQL("UPDATE {} SET used_at = now() WHERE table_name = ANY(%s)").format(
            self.name(VIEW_TABLE.name)
        )
        connection.execute(query, (names,))

    def reset(self, connection: Connection, views: Iterable[View]) -> None:
        """Empty the views' tables and forget how far they were: they are folded from the beginning again."""
        with connection.transaction():
            self._lock(connection)
            for view in views:
                self._forget(connection, view.table.name)
                connection.execute(sql.SQL("TRUNCATE {}").format(self.name(view.table.name)))

    def begin_next(self, connection: Connection, view: View) -> str:
        """Make an empty table beside the view's, and return its name; what an earlier try left is dropped."""
        table = view.table.name + NEXT
        with connection.transaction():
            self._lock(connection)
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.name(table)))
            self._forget(connection, table)
            self._create(connection, view.table, table)
        return table

    def switch(self, connection: Connection, view: View) -> None:
        """Put the table made by :meth:`begin_next` in the place of the view's, with its checkpoints.

        Whoever folds into the view meanwhile finds its checkpoint moved, and goes on from the new one.
        """
        live, following = view.table.name, view.table.name + NEXT
        with connection.transaction():
            self._forget(connection, live)
            query = sql.SQL("UPDATE {} SET table_name = %s WHERE table_name = %s").format(
                self.name(CHECKPOINT.name)
            )
            connection.execute(query, (live, following))
            connection.execute(sql.SQL("DROP TABLE {}").format(self.name(live)))
            rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
            connection.execute(rename.format(self.name(following), sql.Identifier(live)))
            rename = sql.SQL("ALTER INDEX {} RENAME TO {}")
            for old, new in zip(_index_names(view, following), _index_names(view, live), strict=True):
                connection.execute(rename.format(self.name(old), sql.Identifier(new)))

    def retire(self, connection: Connection, views: Iterable[View], unused_s: float) -> list[str]:
        """Drop tables of these views that have another shape and that nobody has used for ``unused_s`` seconds."""
        names = {view.name: view.table.name for view in views}
        registered = self.name(VIEW_TABLE.name)
        with connection.transaction():
            query = sql.SQL(
                "DELETE FROM {} WHERE view = ANY(%s) AND NOT table_name = ANY(%s)"
                " AND used_at < now() - make_interval(secs => %s) RETURNING table_name"
            ).format(registered)
            rows = connection.execute(query, (list(names), list(names.values()), unused_s)).fetchall()
            for (table,) in rows:
                self._forget(connection, table)
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.name(table)))
        return [table for (table,) in rows]

    def checkpoints(
        self, connection: Connection, tables: Iterable[str], lock: bool = False
    ) -> dict[Place, Checkpoint]:
        """Return how far the tables are, by table, topic and partition; ``lock`` keeps them there until the commit."""
        query = sql.SQL(
            "SELECT table_name, topic, partition, topic_id, next_offset, sequence, target FROM {}"
            " WHERE table_name = ANY(%s) ORDER BY 1, 2, 3 {}"
        ).format(self.name(CHECKPOINT.name), sql.SQL("FOR UPDATE" if lock else ""))
        rows = connection.execute(query, (list(tables),)).fetchall()
        return {(row[0], row[1], row[2]): Checkpoint(*row[3:]) for row in rows}

    def add_checkpoints(self, connection: Connection, places: Mapping[Place, Checkpoint]) -> None:
        """Write checkpoints that are missing; those that exist stay as they are."""
        query = sql.SQL(
            "INSERT INTO {} (table_name, topic, partition, topic_id, next_offset, sequence, target)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        ).format(self.name(CHECKPOINT.name))
        with connection.cursor() as cursor:
            cursor.executemany(query, [(*place, *checkpoint) for place, checkpoint in places.items()])

    def error_count(self, connection: Connection) -> int:
        """Return how many records could not be projected."""
        query = sql.SQL("SELECT count(*) FROM {}").format(self.name(PROJECTION_ERROR.name))
        row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def _lock(self, connection: Connection) -> None:
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_SCHEMA_LOCK, self._schema))

    def _use(self, connection: Connection, view: View, partitions: int) -> None:
        query = sql.SQL(
            "INSERT INTO {} (table_name, view, partitions, used_at) VALUES (%s, %s, %s, now())"
            " ON CONFLICT (table_name) DO UPDATE SET partitions = EXCLUDED.partitions, used_at = now()"
        ).format(self.name(VIEW_TABLE.name))
        connection.execute(query, (view.table.name, view.name, partitions))

    def _forget(self, connection: Connection, table: str) -> None:
        query = sql.SQL("DELETE FROM {} WHERE table_name = %s").format(self.name(CHECKPOINT.name))
        connection.execute(query, (table,))

    def _create(self, connection: Connection, table: Table, name: str) -> None:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects unannotated
        bare = table.to_metadata(MetaData(), schema=self._schema, name=name)
        statements = [str(CreateTable(bare, if_not_exists=True).compile(dialect=dialect))]
        for index in sorted(bare.indexes, key=lambda index: str(index.name)):
            index.name = quoted_name(name + str(index.name).removeprefix(table.name), quote=None)
            statements.append(str(CreateIndex(index, if_not_exists=True).compile(dialect=dialect)))
        for statement in statements:
            connection.execute(statement.encode())


def _index_names(view: View, table: str) -> list[str]:
    suffixes = sorted(str(index.name).removeprefix(view.table.name) for index in view.table.indexes)
    return [f"{table}_pkey", *(table + suffix for suffix in suffixes)]
