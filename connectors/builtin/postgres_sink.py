"""Loading a dataset into PostgreSQL, exactly once: the position moves in the transaction of the rows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict

from connectors.builtin import postgres_table
from connectors.builtin.postgres_positions import Positions
from connectors.builtin.postgres_table import Table
from connectors.sdk.errors import ConnectorError, InvalidSpec, Refused, Unavailable
from connectors.sdk.record import Batch, DatasetRecord, StreamSchema
from connectors.sdk.sink import Destination, Load

MODES = ("append", "upsert", "overwrite")
_KEYS = ("url", "table", "mode", "batch_records")
_CONNECT_TIMEOUT_S = 10
_SESSION = (
    "-c idle_in_transaction_session_timeout=60s -c lock_timeout=15s -c statement_timeout=600s -c timezone=UTC"
)
_WAIT = ("40", "53", "55", "57", "58", "08")  # classes of SQLSTATE after which the same work may succeed
_NAME_BYTES_MAX = 63


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """Where rows go. ``table`` may hold ``{stream}``, and must when the dataset has several streams."""

    url: str
    table: str
    mode: str

    @staticmethod
    def parse(config: Mapping[str, Any]) -> "PostgresConfig":
        """Raise InvalidSpec for a setting that is missing, unknown, or means nothing."""
        unknown = sorted(set(config) - set(_KEYS))
        if unknown:
            raise InvalidSpec(f"sink postgres does not know {unknown[0]!r}; it knows {', '.join(_KEYS)}")
        for name in ("url", "table"):
            if not isinstance(config.get(name), str) or not config[name]:
                raise InvalidSpec(f"sink postgres needs {name}")
        mode = config.get("mode", "upsert")
        if mode not in MODES:
            raise InvalidSpec(f"sink postgres does not know mode {mode!r}; it knows {', '.join(MODES)}")
        return PostgresConfig(config["url"], config["table"], mode)


@dataclass(slots=True)
class _Target:
    """What one stream is written into: ``table`` itself, or its shadow."""

    table: Table
    into: Table
    key: tuple[str, ...]
    columns: dict[str, str]
    statement: sql.Composed


class PostgresSink:
    """Writes streams into tables.

    - ``append``: every record is a row.
    - ``upsert``: one row for each primary key, the newest record wins.
    - ``overwrite``: the table holds what the dataset's generation holds; readers see the old rows until the new ones
      are complete.

    Tables are made from the stream's JSON schema; new fields become new columns; existing columns keep their types.
    Exactly once: rows and position commit together, and the position moves by compare-and-set.
    """

    keeps_position = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = PostgresConfig.parse(config)
        self._connection: Connection | None = None
        self._targets: dict[str, _Target] = {}
        self._destinations: dict[str, Destination] = {}
        self._known: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._load: Load
        self._positions: Positions
        self._idle = False

    def open(self, load: Load) -> Mapping[int, int]:
        """Connect, make tables and columns, and return the stored positions."""
        self._load = load
        tables = {name: self._table_of(name) for name in load.streams}
        beside = next(iter(tables.values()), Table.parse(self._config.table.replace("{stream}", "_")))
        self._positions = Positions(beside, load)
        with self._work("prepare the tables") as connection:
            self._positions.ensure(connection)
            self._known = self._positions.read(connection)
            self._idle = all(
                self._known.get(part, load.starts.get(part, 0)) >= end for part, end in load.ends.items()
            )
            for name, schema in load.streams.items():
                self._prepare(connection, tables[name], schema)
            self._destinations = _destinations(
                connection, {name: target.table for name, target in self._targets.items()}
            )
        return {} if self._config.mode == "overwrite" and not self._idle else dict(self._known)

    def destinations(self) -> Mapping[str, Destination]:
        """Return the table of each stream that has one."""
        return self._destinations

    def write(self, batch: Batch) -> int:
        """Insert the batch and move the position, in one transaction."""
        streams: dict[str, list[DatasetRecord]] = {}
        for record in batch.records:
            streams.setdefault(record.stream, []).append(record)
        what = f"take the records {batch.start} to {batch.end - 1} of partition {batch.partition}"
        with self._work(what) as connection:
            for stream, records in streams.items():
                self._insert(connection, stream, records)
            if self._config.mode != "overwrite":
                self._positions.move(connection, self._known, {batch.partition: batch.end})
        if self._config.mode != "overwrite":
            self._known[batch.partition] = batch.end
        self._written[batch.partition] = batch.end
        return len(batch.records)

    def finish(self) -> None:
        """For ``overwrite``: put the new rows in place and move the position, in one transaction."""
        if self._config.mode != "overwrite" or self._idle:
            return
        with self._work("replace the table's rows") as connection:
            self._positions.move(connection, self._known, self._load.ends)
            for target in self._targets.values():
                columns = postgres_table.names(target.columns)
                connection.execute(sql.SQL("TRUNCATE {}").format(target.table.quoted))
                connection.execute(
                    sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
                        target.table.quoted, columns, columns, target.into.quoted
                    )
                )
                connection.execute(sql.SQL("DROP TABLE {}").format(target.into.quoted))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _table_of(self, stream: str) -> Table:
        pattern = self._config.table
        if "{stream}" not in pattern and len(self._load.streams) > 1:
            named = ", ".join(self._load.streams)
            raise InvalidSpec(f"the dataset has the streams {named}: write table: {pattern}_{{stream}}")
        return Table.parse(pattern.replace("{stream}", stream))

    def _prepare(self, connection: Connection, table: Table, schema: StreamSchema) -> None:
        key = schema.key_properties
        if self._config.mode == "upsert" and not key:
            raise InvalidSpec(
                f"stream {schema.stream} has no primary key, which mode upsert needs: use append"
            )
        wanted = postgres_table.columns_of(schema.schema)
        if not wanted:
            # Nothing was ever written to this stream, so nothing is known of its fields: there is nothing to load.
            return
        missing = [name for name in key if name not in wanted]
        if missing:
            raise InvalidSpec(
                f"stream {schema.stream} has no field {missing[0]!r}, which is part of its primary key"
            )
        columns = postgres_table.ensure(
            connection, table, wanted, () if self._config.mode == "append" else key
        )
        used = {name: columns[name] for name in wanted}
        into = table
        if self._config.mode == "overwrite" and not self._idle:
            into = self._shadow(connection, table, used, key)
        by_key = key if self._config.mode != "append" else ()
        self._targets[schema.stream] = _Target(
            table, into, by_key, used, postgres_table.insert(into, used, by_key)
        )

    def _shadow(
        self, connection: Connection, table: Table, columns: Mapping[str, str], key: tuple[str, ...]
    ) -> Table:
        """Make the table that is filled before it takes over; those of attempts before are dropped."""
        stem = table.name.encode()[: _NAME_BYTES_MAX - 30].decode("utf-8", "ignore")
        old = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE %s AND relnamespace ="
            " (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(%s))",
            (f"{_escaped(stem)}\\_\\_shadow\\_%", table.quoted.as_string(connection)),
        ).fetchall()
        for (name,) in old:
            connection.execute(sql.SQL("DROP TABLE {}").format(table.named(name).quoted))
        shadow = table.named(f"{stem}__shadow_{self._load.run[:8]}_{self._load.attempt}")
        postgres_table.ensure(connection, shadow, columns, key, unlogged=True)
        return shadow

    def _insert(self, connection: Connection, stream: str, records: list[DatasetRecord]) -> None:
        target = self._targets.get(stream)
        if target is None:
            raise InvalidSpec(f"the dataset has records of a stream {stream!r} that it does not describe")
        if target.key:
            # One statement may touch a row once: of several records with one key the last is the newest.
            values = list({record.key: record.value for record in records}.values())
        else:
            values = [record.value for record in records]
        connection.execute(target.statement, ((b"[" + b",".join(values) + b"]").decode(),))

    @contextmanager
    def _work(self, what: str) -> Iterator[Connection]:
        """Give the connection inside a transaction; turn what PostgreSQL says into the family of errors."""
        try:
            connection = self._connected()
            with connection.transaction():
                yield connection
        except ConnectorError:
            raise
        except psycopg.Error as error:
            raise self._told(error, what) from error

    def _connected(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = psycopg.connect(
                    self._config.url,
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    options=_SESSION,
                    application_name=f"flexcore/{self._load.pipeline}/{self._load.step}",
                    autocommit=True,
                )
            except psycopg.ProgrammingError as error:
                raise InvalidSpec(f"the url of sink postgres is no PostgreSQL URL: {error}") from error
        return self._connection

    def _told(self, error: psycopg.Error, what: str) -> ConnectorError:
        said = (error.diag.message_primary or str(error)).strip().splitlines()[0]
        state = error.sqlstate or ""
        if state == "42P10":
            said = "the table has no primary key or unique index over the stream's primary key; add one"
        if state and not state.startswith(_WAIT):
            return Refused(f"PostgreSQL at {self._where()} cannot {what}: {said}")
        return Unavailable(f"PostgreSQL at {self._where()} cannot {what}: {said}")

    def _where(self) -> str:
        parts = conninfo_to_dict(self._config.url)
        return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _destinations(connection: Connection, tables: Mapping[str, Table]) -> dict[str, Destination]:
    told = connection.info
    host = "localhost" if told.host.startswith("/") else told.host
    row = connection.execute("SELECT current_schema()").fetchone()
    here = row[0] if row else None
    return {
        stream: Destination(
            f"postgres://{host}:{told.port}", f"{told.dbname}.{table.schema or here}.{table.name}"
        )
        for stream, table in tables.items()
    }


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
