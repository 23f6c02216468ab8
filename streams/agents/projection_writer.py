"""One batch of decoded records into the read store: checkpoints and rows in one database transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import JSON, Column
from sqlalchemy.dialects import postgresql

from streams.agents.projection_history import refolded
from streams.agents.projection_literals import clean, literal_of
from streams.agents.projection_log import Spot
from streams.agents.projection_records import Item, Origin
from streams.agents.projection_tables import Checkpoint, Connection, Place, Tables
from streams.domain.redaction import EventRedacted
from streams.projections.view import Row, View
from streams.projections.views import CHECKPOINT, PROJECTION_ERROR

_CACHED_ROWS_MAX = 5_000
_CAUSE_CHARS_MAX = 2_000


class CheckpointMoved(Exception):
    """Somebody else has moved a checkpoint: nothing was written. Load the checkpoints and go on from there."""


class Failed(NamedTuple):
    """A record that a view could not take."""

    item: Item
    view: str
    cause: str


@dataclass(frozen=True, slots=True)
class Target:
    """A view and the table its rows go to: its own, or the one that is built beside it."""

    view: View
    table: str


class Statements:
    """The statements of one target, made once."""

    def __init__(self, target: Target, tables: Tables) -> None:
        columns = list(target.view.table.columns)
        self.names = tuple(column.name for column in columns)
        self.literals = tuple(literal_of(column) for column in columns)
        keys = [column.name for column in target.view.table.primary_key.columns]
        types = [_array_type(column) for column in columns]
        name, fields = tables.name(target.table), _names(self.names)
        values = sql.SQL(", ").join(
            sql.SQL("u.{}::json").format(sql.Identifier(column.name))
            if isinstance(column.type, JSON)
            else sql.SQL("u.{}").format(sql.Identifier(column.name))
            for column in columns
        )
        arrays = sql.SQL(", ").join(sql.SQL("%s::{}[]").format(sql.SQL(kind)) for kind in types)
        changed = [name for name in self.names if name not in keys]
        conflict = (
            sql.SQL("NOTHING")
            if target.view.append
            else sql.SQL("UPDATE SET {}").format(
                sql.SQL(", ").join(
                    sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in changed
                )
            )
        )
        self.insert = sql.SQL(
            "INSERT INTO {} ({}) SELECT {} FROM unnest({}) AS u ({}) ON CONFLICT ({}) DO {}"
        ).format(name, fields, values, arrays, fields, _names(keys), conflict)
        key_types = [_array_type(target.view.table.c[key]) for key in keys]
        key_arrays = sql.SQL(", ").join(sql.SQL("%s::{}[]").format(sql.SQL(kind)) for kind in key_types)
        self.select = sql.SQL("SELECT {} FROM {} JOIN unnest({}) AS k ({}) USING ({})").format(
            fields, name, key_arrays, _names(keys), _names(keys)
        )
        self.key_literals = tuple(literal_of(target.view.table.c[key]) for key in keys)
        self.key_places = tuple(self.names.index(key) for key in keys)
        equal = [sql.SQL("{} = %s").format(sql.Identifier(column)) for column in target.view.same]
        self.replace = sql.SQL("DELETE FROM {} WHERE {}").format(name, sql.SQL(" AND ").join(equal))


class BatchWriter:
    """Folds records into tables. Not thread-safe; belongs to whoever owns the connection.

    ``checkpoints`` holds how far each table is; a batch moves them by compare-and-set, so two writers of the same
    partitions cannot both succeed. After :class:`CheckpointMoved` or a database error nothing of the batch is written
    and :meth:`adopt` must be called with the checkpoints read anew.
    """

    def __init__(
        self, targets: Sequence[Target], tables: Tables, origins: Iterable[Origin], channel: str = ""
    ) -> None:
        # Events first: rows that depend on a redacted one are folded anew from there.
        self.targets = tuple(sorted(targets, key=lambda target: target.view.typed))
        self._kinds = {origin.aggregate: origin.events for origin in origins if origin.source == "events"}
        self.checkpoints: dict[Place, Checkpoint] = {}
        self._tables = tables
        self._channel = channel
        self._statements = {target.table: Statements(target, tables) for target in targets}
        self._rows: dict[str, dict[tuple[Any, ...], Row]] = {target.table: {} for target in targets}
        self._move = sql.SQL(
            "UPDATE {} c SET next_offset = n.next, sequence = n.sequence"
            " FROM unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])"
            " AS n (table_name, topic, partition, topic_id, old, next, sequence)"
            " WHERE c.table_name = n.table_name AND c.topic = n.topic AND c.partition = n.partition"
            " AND c.topic_id = n.topic_id AND c.next_offset = n.old"
        ).format(tables.name(CHECKPOINT.name))
        self._fail = sql.SQL(
            "INSERT INTO {} (topic, partition, log_offset, topic_id, view, cause) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING"
        ).format(tables.name(PROJECTION_ERROR.name))

    def adopt(self, checkpoints: Mapping[Place, Checkpoint]) -> None:
        """Take over checkpoints read from the database; whatever was remembered of rows is forgotten."""
        self.checkpoints = dict(checkpoints)
        self.forget()

    def forget(self) -> None:
        """Forget remembered rows."""
        for rows in self._rows.values():
            rows.clear()

    def write(
        self, connection: Connection, items: Sequence[Item], ends: Mapping[tuple[str, int], int]
    ) -> list[Failed]:
        """Fold ``items`` (in the log's order within a partition) and move the checkpoints to ``ends``.

        ``ends`` is, by topic and partition, the offset to go on from. Blocking. Returns the records that some view
        could not take, which are in the table of errors now; a record whose data the database refuses is found by
        halving the batch. Raises :class:`CheckpointMoved` or ``psycopg.Error``.
        """
        try:
            return self._write(connection, items, ends, refused=None)
        except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, psycopg.IntegrityError) as error:
            self.forget()
            if not items:
                raise
            if len(items) == 1:
                return self._write(connection, items, ends, refused=error)
            middle = len(items) // 2
            first = {(item.topic, item.partition): item.offset + 1 for item in items[:middle]}
            return [
                *self.write(connection, items[:middle], first),
                *self.write(connection, items[middle:], ends),
            ]

    def _write(
        self,
        connection: Connection,
        items: Sequence[Item],
        ends: Mapping[tuple[str, int], int],
        refused: psycopg.Error | None,
    ) -> list[Failed]:
        """Write in one transaction. With ``refused`` the only item is tried view by view, to find who refuses it."""
        sequences: dict[tuple[str, int], int] = {}
        for item in items:
            if item.sequence:
                spot = (item.topic, item.partition)
                sequences[spot] = max(sequences.get(spot, 0), item.sequence)
        moved = self._moved(ends, sequences)
        failed = [Failed(item, "", item.cause) for item in items if item.cause]
        groups: dict[Spot, list[Item]] = {}
        for item in items:
            if not item.cause:
                groups.setdefault((item.topic, item.partition), []).append(item)
        with connection.transaction():
            self._move_checkpoints(connection, moved)
            for target in self.targets:
                mine = self._concerning(target, groups)
                if not mine:
                    continue
                if refused is None:
                    failed += self._fold(connection, target, mine)
                    continue
                try:
                    with connection.transaction():
                        failed += self._fold(connection, target, mine)
                except (
                    psycopg.DataError,
                    psycopg.errors.ProgramLimitExceeded,
                    psycopg.IntegrityError,
                ) as error:
                    failed.append(Failed(mine[0], target.view.name, f"{type(error).__name__}: {error}"))
                    self.forget()
            for item, view, cause in failed:
                topic_id = self._topic_id(item.topic, item.partition)
                what = (
                    item.topic,
                    item.partition,
                    item.offset,
                    topic_id,
                    view,
                    clean(cause)[:_CAUSE_CHARS_MAX],
                )
                connection.execute(self._fail, what)
            if self._channel:
                connection.execute("SELECT pg_notify(%s, '')", (self._channel,))
        for place, _, new in moved:
            self.checkpoints[place] = new
        return failed

    def _topic_id(self, topic: str, partition: int) -> str:
        places = (place for place in self.checkpoints if place[1:] == (topic, partition))
        found = next(places, None)
        return self.checkpoints[found].topic_id if found else ""

    def _moved(
        self, ends: Mapping[tuple[str, int], int], sequences: Mapping[tuple[str, int], int]
    ) -> list[tuple[Place, Checkpoint, Checkpoint]]:
        moved = []
        for (topic, partition), end in ends.items():
            for target in self.targets:
                place = (target.table, topic, partition)
                old = self.checkpoints.get(place)
                if old is not None and end > old.next_offset:
                    sequence = max(old.sequence, sequences.get((topic, partition), 0))
                    moved.append((place, old, Checkpoint(old.topic_id, end, sequence, old.target)))
        return sorted(moved)

    def _move_checkpoints(
        self, connection: Connection, moved: list[tuple[Place, Checkpoint, Checkpoint]]
    ) -> None:
        # First in the transaction: whoever comes second waits here, holding no lock on any row of a view.
        columns = (
            [place[0] for place, _, _ in moved],
            [place[1] for place, _, _ in moved],
            [place[2] for place, _, _ in moved],
            [old.topic_id for _, old, _ in moved],
            [old.next_offset for _, old, _ in moved],
            [new.next_offset for _, _, new in moved],
            [new.sequence for _, _, new in moved],
        )
        if moved and connection.execute(self._move, columns).rowcount != len(moved):
            raise CheckpointMoved

    def _concerning(self, target: Target, groups: Mapping[Spot, Sequence[Item]]) -> list[Item]:
        found: list[Item] = []
        for spot, items in groups.items():
            known = self.checkpoints.get((target.table, *spot))
            # A table without a checkpoint here does not fold this topic; one that is ahead has folded some of it.
            if known is None:
                continue
            if items[0].offset >= known.next_offset:
                found += items
            else:
                found += [item for item in items if item.offset >= known.next_offset]
        if not target.view.same:
            found = [item for item in found if not item.redacted]
        return [item for item in found if item.event is not None] if target.view.typed else found

    def _fold(self, connection: Connection, target: Target, items: Sequence[Item]) -> list[Failed]:
        view, statements, failed = target.view, self._statements[target.table], []
        keyed: list[tuple[tuple[Any, ...], Any, Item]] = []
        for item in items:
            event = item.event if view.typed else item.record
            try:
                keyed.append((view.key(event, item.meta), event, item))
            except Exception as error:  # noqa: BLE001 - a fold that cannot take a record must not stop the others
                failed.append(Failed(item, view.name, f"{type(error).__name__}: {error}"))
        known = self._rows[target.table]
        if not view.append:
            self._read(connection, statements, known, {key for key, _, _ in keyed})
        changed: dict[tuple[Any, ...], Row] = {}
        for key, event, item in keyed:
            try:
                if isinstance(event, EventRedacted) and item.meta is not None:
                    kinds = self._kinds[item.aggregate]
                    row = refolded(connection, self._tables, view, kinds, item.meta)
                else:
                    row = view.fold(changed.get(key) or known.get(key), event, item.meta)
            except Exception as error:  # noqa: BLE001 - as above: reported, and the row stays as it was
                failed.append(Failed(item, view.name, f"{type(error).__name__}: {error}"))
                continue
            if row is not None:
                if item.redacted:
                    self._replace(connection, target, changed, row)
                changed[key] = row
        if changed:
            connection.execute(statements.insert, _arrays(statements, changed.values()))
        if not view.append:
            known.update(changed)
        return failed

    def _replace(
        self, connection: Connection, target: Target, changed: dict[tuple[Any, ...], Row], row: Row
    ) -> None:
        """Take away what a redacted event's row replaces, from the table and from this batch."""
        same = tuple(row[name] for name in target.view.same)
        connection.execute(self._statements[target.table].replace, same)
        for key in [
            key for key, one in changed.items() if tuple(one[name] for name in target.view.same) == same
        ]:
            del changed[key]

    def _read(
        self,
        connection: Connection,
        statements: Statements,
        known: dict[tuple[Any, ...], Row],
        keys: set[tuple[Any, ...]],
    ) -> None:
        missing = [key for key in keys if key not in known]
        if len(known) + len(missing) > _CACHED_ROWS_MAX:
            known.clear()
            missing = list(keys)
        if not missing:
            return
        # A key is found again under the text that PostgreSQL could hold.
        held = {tuple(clean(part) if isinstance(part, str) else part for part in key): key for key in missing}
        columns = zip(*held, strict=True)
        arrays = [literal(column) for literal, column in zip(statements.key_literals, columns, strict=True)]
        for values in connection.execute(statements.select, arrays):
            row = dict(zip(statements.names, values, strict=True))
            known[held[tuple(values[place] for place in statements.key_places)]] = row


def _arrays(statements: Statements, rows: Iterable[Row]) -> list[str]:
    taken = list(rows)
    return [
        literal([row[name] for row in taken])
        for name, literal in zip(statements.names, statements.literals, strict=True)
    ]


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)


def _array_type(column: Column[Any]) -> Any:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects unannotated
    return "text" if isinstance(column.type, JSON) else column.type.compile(dialect)
