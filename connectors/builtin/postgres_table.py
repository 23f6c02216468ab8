"""Tables of the PostgreSQL sink: made from JSON schemas, widened when fields are added."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

_FORMATS = {"date-time": "timestamptz", "date": "date", "time": "time"}
_PLAIN = {"string": "text", "integer": "bigint", "number": "numeric", "boolean": "boolean"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table by name: ``schema`` None means the first of the session's search path."""

    schema: str | None
    name: str

    @staticmethod
    def parse(text: str) -> "Table":
        """Return the table named ``name`` or ``schema.name``."""
        schema, dot, name = text.rpartition(".")
        return Table(schema if dot else None, name)

    @property
    def quoted(self) -> sql.Composable:
        """The name as SQL."""
        return sql.Identifier(self.schema, self.name) if self.schema else sql.Identifier(self.name)

    def named(self, name: str) -> "Table":
        """Return a table beside this one."""
        return Table(self.schema, name)


def column_type(spec: Any) -> str:
    """Return the PostgreSQL type for a property of a JSON schema; ``jsonb`` for what is not scalar, ``text`` if mixed."""
    if not isinstance(spec, Mapping):
        return "jsonb"
    declared = spec.get("type")
    if declared is None and isinstance(spec.get("anyOf"), Sequence):
        options = [column_type(option) for option in spec["anyOf"] if option.get("type") != "null"]
        return options[0] if len(set(options)) == 1 else "text"
    types = {declared} if isinstance(declared, str) else set(declared or ())
    types.discard("null")
    if types & {"object", "array"}:
        return "jsonb"
    if types == {"integer", "number"}:
        return "numeric"
    if len(types) != 1:
        return "text"
    if types == {"string"}:
        return _FORMATS.get(spec.get("format", ""), "text")
    return _PLAIN.get(types.pop(), "text")


def columns_of(schema: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns for a JSON schema of type object."""
    return {name: column_type(spec) for name, spec in schema.get("properties", {}).items()}


def existing(connection: Connection, table: Table) -> dict[str, str]:
    """Return the columns of a table as the database has them; nothing when there is no such table."""
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (table.quoted.as_string(connection),),
    ).fetchall()
    return {str(name): str(kind) for name, kind in rows}


def ensure(
    connection: Connection,
    table: Table,
    columns: Mapping[str, str],
    key: Sequence[str],
    unlogged: bool = False,
) -> dict[str, str]:
    """Make the table, or add the columns it lacks; return all its columns. Part of the caller's transaction."""
    present = existing(connection, table)
    if not present:
        parts: list[sql.Composable] = [_column(name, kind) for name, kind in columns.items()]
        if key:
            parts.append(sql.SQL("PRIMARY KEY ({})").format(names(key)))
        make = sql.SQL("CREATE {}TABLE IF NOT EXISTS {} ({})").format(
            sql.SQL("UNLOGGED " if unlogged else ""), table.quoted, sql.SQL(", ").join(parts)
        )
        connection.execute(make)
        return existing(connection, table)
    for name, kind in columns.items():
        if name not in present:
            add = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {}").format(
                table.quoted, _column(name, kind)
            )
            connection.execute(add)
            present[name] = kind
    return present


def names(columns: Iterable[str]) -> sql.Composable:
    """Return a comma-separated list of quoted names."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def insert(table: Table, columns: Mapping[str, str], key: Sequence[str]) -> sql.Composed:
    """Return the statement that inserts one JSON array of records, or updates by ``key`` if one is given."""
    definitions = sql.SQL(", ").join(_column(name, kind) for name, kind in columns.items())
    statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM json_to_recordset(%s::json) AS r({})").format(
        table.quoted, names(columns), names(columns), definitions
    )
    if not key:
        return statement
    others = [name for name in columns if name not in key]
    if not others:
        return statement + sql.SQL(" ON CONFLICT ({}) DO NOTHING").format(names(key))
    updates = sql.SQL(", ").join(
        sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in others
    )
    return statement + sql.SQL(" ON CONFLICT ({}) DO UPDATE SET {}").format(names(key), updates)


def _column(name: str, kind: str) -> sql.Composed:
    # A type is either one of the constants above or was told by the database itself.
    return sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
