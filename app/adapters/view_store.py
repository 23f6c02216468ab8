"""The read store as the edge sees it: rows of views by key and by list, and how far they are.

Rows are what the projections wrote, with ``position`` added where an aggregate stands behind them; times are
milliseconds since the epoch. Methods that return one row say None when it is not there; whether the view is complete
at all is asked by :meth:`ViewStore.require`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, Text, and_, cast, func, or_, select, tuple_

from app.adapters import view_cursor
from app.adapters.view_database import ViewDatabase
from app.adapters.view_positions import Positions, ViewPositions
from app.errors import problem
from app.ports import Row
from streams.domain.definition import named_by
from streams.domain.run.state import RUN_ENDED
from streams.projections import alert, bookmark, command, event, pipeline, quarantine, run, schedule
from streams.projections import limit as limits
from streams.projections.view import View, position
from streams.projections.views import CHECKPOINT, PROJECTION_ERROR, VIEW_TABLE, VIEWS, by_name

Page = tuple[list[Row], str | None]

_HISTORY_MAX = 1_000_000
_USERS_MAX = 5
_EVENT_ORDER = ("at", "aggregate", "shard", "sequence", "log_offset")


class ViewStore:
    """Reads for the API; no method writes. Nothing connects before it is asked. Call :meth:`close` at the end."""

    def __init__(self, postgres_url: str, schema_name: str = "flexcore") -> None:
        self._database = ViewDatabase(postgres_url, schema_name)
        self._positions = ViewPositions(self._database)

    async def close(self) -> None:
        """Close every connection."""
        await self._positions.close()
        await self._database.close()

    async def ping(self) -> str | None:
        """Return what is wrong with the database in one sentence, or None."""
        return await self._database.ping()

    # ---------------------------------------------------------------- how far the views are
    async def wait_for(self, aggregate: str, shard: int, sequence: int, timeout_s: float) -> bool:
        """Wait until rows of ``aggregate`` reflect ``sequence``; False when they do not in time."""
        return await self._positions.reached(aggregate, shard, sequence, timeout_s)

    async def positions(self) -> Positions:
        """Return the last event sequence that every view has folded, by aggregate and shard."""
        return await self._positions.read()

    async def changed(self, seen: Positions, timeout_s: float) -> bool:
        """Wait until the positions differ from ``seen``; False when they did not in time."""
        return await self._positions.changed(seen, timeout_s)

    async def require(self, name: str) -> None:
        """Raise ``unavailable`` while the view is being filled: what it says now may be old or missing."""
        view = by_name(name)
        if view is None or not await self._database.complete(view):
            raise problem(
                "unavailable", f"The view {name} is being filled from the log.", headers={"Retry-After": "1"}
            )

    async def status(self) -> list[Row]:
        """Return, for each view, its table, whether it is complete, how far it is, and what it could not take."""
        marks = await self._database.rows(select(CHECKPOINT))
        tables = {row["table_name"]: row for row in await self._database.rows(select(VIEW_TABLE))}
        counted = select(PROJECTION_ERROR.c.view, func.count().label("n")).group_by(PROJECTION_ERROR.c.view)
        errors = {row["view"]: row["n"] for row in await self._database.rows(counted)}
        return [_status(view, marks, tables, errors) for view in VIEWS]

    # ---------------------------------------------------------------- one row
    async def pipeline(self, tenant: str, name: str) -> Row | None:
        """Return the pipeline, deleted or not."""
        return await self._one(pipeline.VIEW, tenant=tenant, name=name)

    async def users(self, tenant: str, name: str) -> list[str]:
        """Return what uses the pipeline, in words: some runs of it that have not ended, and others that name it."""
        runs, others = run.TABLE, pipeline.TABLE
        at_work = (
            select(runs.c.id, runs.c.status)
            .where(runs.c.tenant == tenant, runs.c.pipeline == name, runs.c.status.not_in(RUN_ENDED))
            .order_by(runs.c.created_at)
            .limit(_USERS_MAX)
        )
        mention = cast(others.c.definition, Text).contains(f'"{name}"', autoescape=True)
        mentioning = (
            select(others.c.name, others.c.definition)
            .where(others.c.tenant == tenant, others.c.name != name, others.c.status != "deleted", mention)
            .order_by(others.c.name)
        )
        found = [f"run {row['id']} is {row['status']}" for row in await self._database.rows(at_work)]
        naming = [
            row["name"]
            for row in await self._database.rows(mentioning)
            if name in named_by(row["definition"])
        ]
        return found + [f"pipeline {other} names it" for other in naming[:_USERS_MAX]]

    async def run(self, tenant: str, run_id: str) -> Row | None:
        """Return the run."""
        return await self._one(run.VIEW, tenant=tenant, id=run_id)

    async def schedule(self, tenant: str, pipeline: str) -> Row | None:
        """Return the schedule of a pipeline."""
        return await self._one(schedule.VIEW, tenant=tenant, pipeline=pipeline)

    async def alert(self, tenant: str, pipeline: str) -> Row | None:
        """Return the rules and incidents of a pipeline."""
        return await self._one(alert.VIEW, tenant=tenant, pipeline=pipeline)

    async def limit(self, tenant: str, name: str) -> Row | None:
        """Return the limit."""
        return await self._one(limits.VIEW, tenant=tenant, name=name)

    async def bookmark(self, tenant: str, pipeline: str, step: str) -> Row | None:
        """Return the bookmark of a step."""
        return await self._one(bookmark.VIEW, tenant=tenant, pipeline=pipeline, step=step)

    async def command(self, tenant: str, command_id: str) -> Row | None:
        """Return the outcome of a command: the stored one, where several aggregates were sent the same id the newest."""
        table = command.TABLE
        statement = (
            select(table)
            .where(table.c.tenant == tenant, table.c.command_id == command_id)
            .order_by(table.c.stored.desc(), table.c.at.desc(), table.c.aggregate, table.c.aggregate_id)
            .limit(1)
        )
        found = await self._database.rows(statement)
        return found[0] if found else None

    async def event(self, tenant: str, event_id: str) -> Row | None:
        """Return the event."""
        table = event.TABLE
        found = await self._database.rows(
            select(table).where(table.c.event_id == event_id, table.c.tenant == tenant).limit(1)
        )
        return _positioned(event.VIEW, found[0]) if found else None

    async def quarantined(self, tenant: str, places: Sequence[tuple[str, int, int]]) -> list[Row]:
        """Return the quarantined records that came from these places, as far as they are the tenant's or nobody's."""
        table = quarantine.TABLE
        place = tuple_(table.c.source_topic, table.c.source_partition, table.c.source_offset)
        mine = table.c.tenant.in_([tenant, ""])
        return await self._behind(await self._database.rows(select(table).where(place.in_(places), mine)))

    async def _behind(self, rows: list[Row]) -> list[Row]:
        """Return quarantined rows, each with the id of the record that it waits ``behind`` now, or None."""
        columns = quarantine.TABLE.c
        keys = {(row["aggregate"], row["original_key"]) for row in rows if row["parked"] == "behind"}
        firsts: dict[tuple[str, str], str] = {}
        if keys:
            held_up = tuple_(columns.aggregate, columns.original_key).in_(sorted(keys))
            found = await self._database.rows(
                select(quarantine.TABLE).where(held_up, columns.parked == "first")
            )
            firsts = {(one["aggregate"], one["original_key"]): quarantine.place_of(one) for one in found}
        return [
            {
                **row,
                "behind": firsts.get((row["aggregate"], row["original_key"]))
                if row["parked"] == "behind"
                else None,
            }
            for row in rows
        ]

    # ---------------------------------------------------------------- lists
    async def pipelines(self, tenant: str, status: str | None, limit: int, cursor: str | None) -> Page:
        """Return pipelines by name; deleted ones only when that status is asked for."""
        table = pipeline.TABLE
        wanted = table.c.status == status if status else table.c.status != "deleted"
        # Of some it is only known who would start after them.
        where = [table.c.tenant == tenant, wanted, table.c.number > 0]
        return await self._page(pipeline.VIEW, where, ("name",), limit, cursor)

    async def runs(
        self,
        tenant: str,
        pipeline_name: str | None,
        status: str | None,
        limit: int,
        cursor: str | None,
        since: int | None = None,
    ) -> Page:
        """Return runs, the newest first; ``since``: those created at this time (ms) or later."""
        table = run.TABLE
        where = [table.c.tenant == tenant]
        where += [table.c.pipeline == pipeline_name] if pipeline_name else []
        where += [table.c.status == status] if status else []
        where += [] if since is None else [table.c.created_at >= since]
        return await self._page(run.VIEW, where, ("created_at", "id"), limit, cursor, newest_first=True)

    async def schedules(self, tenant: str, limit: int, cursor: str | None) -> Page:
        """Return schedules by pipeline; cleared ones are left out."""
        table = schedule.TABLE
        where = [table.c.tenant == tenant, table.c.status != "cleared"]
        return await self._page(schedule.VIEW, where, ("pipeline",), limit, cursor)

    async def alerts(self, tenant: str, unresolved: bool, limit: int, cursor: str | None) -> Page:
        """Return alerts by pipeline; ``unresolved``: only those with an incident that is not resolved."""
        table = alert.TABLE
        where: list[ColumnElement[bool]] = [table.c.tenant == tenant]
        where += [table.c.unresolved > 0] if unresolved else []
        return await self._page(alert.VIEW, where, ("pipeline",), limit, cursor)

    async def limits(self, tenant: str, limit: int, cursor: str | None) -> Page:
        """Return limits by name."""
        return await self._page(limits.VIEW, [limits.TABLE.c.tenant == tenant], ("name",), limit, cursor)

    async def bookmarks(
        self, tenant: str, pipeline_name: str | None, with_dataset: bool, limit: int, cursor: str | None
    ) -> Page:
        """Return bookmarks by pipeline and step; ``with_dataset``: only of steps that have written a dataset."""
        table = bookmark.TABLE
        where: list[ColumnElement[bool]] = [table.c.tenant == tenant]
        where += [table.c.pipeline == pipeline_name] if pipeline_name else []
        where += [table.c.topic_id != ""] if with_dataset else []
        return await self._page(bookmark.VIEW, where, ("pipeline", "step"), limit, cursor)

    async def quarantine(
        self, tenant: str, filters: Mapping[str, str | None], limit: int, cursor: str | None
    ) -> Page:
        """Return quarantined records, the newest first: the tenant's and those whose key names no tenant.

        ``filters``: columns with the value they must have, and ``since`` (RFC 3339, UTC, to the millisecond).
        """
        columns = quarantine.TABLE.c
        where: list[ColumnElement[bool]] = [columns.tenant.in_([tenant, ""])]
        for name, value in filters.items():
            if value is not None:
                where.append(columns.at >= value if name == "since" else columns[name] == value)
        order = ("at", "source_topic", "source_partition", "source_offset")
        rows, more = await self._page(quarantine.VIEW, where, order, limit, cursor, newest_first=True)
        return await self._behind(rows), more

    async def events(
        self,
        tenant: str,
        filters: Mapping[str, Any],
        limit: int,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> Page:
        """Return events by time.

        ``filters``: columns with the value they must have, ``after`` (positions), ``since`` and ``until`` (ms, inclusive).
        """
        where = [event.TABLE.c.tenant == tenant, *_event_filters(filters)]
        return await self._page(event.VIEW, where, _EVENT_ORDER, limit, cursor, newest_first)

    async def events_between(
        self,
        tenant: str,
        filters: Mapping[str, Any],
        shard: tuple[str, int],
        after: int,
        upto: int,
        limit: int,
    ) -> list[Row]:
        """Return events of one shard in their order, after one sequence up to another."""
        table = event.TABLE
        statement = (
            select(table)
            .where(
                table.c.tenant == tenant,
                table.c.aggregate == shard[0],
                table.c.shard == shard[1],
                table.c.sequence > after,
                table.c.sequence <= upto,
                *_event_filters(filters),
            )
            .order_by(table.c.sequence, table.c.log_offset)
            .limit(limit)
        )
        return [_positioned(event.VIEW, row) for row in await self._database.rows(statement)]

    async def history(
        self, tenant: str, aggregate: str, aggregate_id: str, version: int | None, at: int | None
    ) -> list[Row]:
        """Return an aggregate's events by version, up to a version or a time (ms); all when neither is given."""
        table = event.TABLE
        where = [
            table.c.tenant == tenant, table.c.aggregate == aggregate, table.c.aggregate_id == aggregate_id,
        ]  # fmt: skip
        where += [table.c.version <= version] if version is not None else []
        where += [table.c.at <= at] if at is not None else []
        statement = select(table).where(*where).order_by(table.c.version).limit(_HISTORY_MAX)
        return [_positioned(event.VIEW, row) for row in await self._database.rows(statement)]

    # ---------------------------------------------------------------- how it is asked
    async def _one(self, view: View, **key: Any) -> Row | None:
        columns = view.table.c
        found = await self._database.rows(
            select(view.table).where(*(columns[name] == value for name, value in key.items()))
        )
        return _positioned(view, found[0]) if found else None

    async def _page(
        self,
        view: View,
        where: Sequence[ColumnElement[bool]],
        order: tuple[str, ...],
        limit: int,
        cursor: str | None,
        newest_first: bool = False,
    ) -> Page:
        """Return at most ``limit`` rows and the cursor of the next page; the sort key is unique within the list."""
        statement = _ordered(view.table, select(view.table).where(*where), order, cursor, newest_first)
        rows = await self._database.rows(statement.limit(limit + 1))
        more = view_cursor.encode([rows[limit - 1][name] for name in order]) if len(rows) > limit else None
        return [_positioned(view, row) for row in rows[:limit]], more


def _ordered(
    table: Table, statement: Select[Any], order: tuple[str, ...], cursor: str | None, newest_first: bool
) -> Select[Any]:
    columns = [table.c[name] for name in order]
    if cursor:
        last = tuple_(*view_cursor.decode(cursor, [column.type.python_type for column in columns]))
        statement = statement.where(tuple_(*columns) < last if newest_first else tuple_(*columns) > last)
    return statement.order_by(*(column.desc() if newest_first else column for column in columns))


def _event_filters(filters: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    columns = event.TABLE.c
    where: list[ColumnElement[bool]] = []
    for name, value in filters.items():
        if value is None:
            continue
        if name == "after":
            for (aggregate, shard), sequence in value.items():
                elsewhere = or_(columns.aggregate != aggregate, columns.shard != shard)
                where.append(or_(elsewhere, columns.sequence > sequence))
        elif name in ("since", "until"):
            where.append(columns.at >= value if name == "since" else columns.at <= value)
        else:
            where.append(and_(columns[name] == value))
    return where


def _positioned(view: View, row: Row) -> Row:
    if "sequence" not in row:
        return row
    aggregate = row.get("aggregate", view.name)
    return {**row, "position": position(aggregate, row["shard"], row["sequence"])}


def _status(view: View, marks: Sequence[Row], tables: Mapping[str, Row], errors: Mapping[str, int]) -> Row:
    name = view.table.name
    mine = [mark for mark in marks if mark["table_name"] == name]
    partitions = tables[name]["partitions"] if name in tables else 0
    done = sum(1 for mark in mine if mark["next_offset"] >= mark["target"])
    return {
        "name": view.name,
        "table": name,
        "complete": bool(partitions) and done >= partitions,
        "partitions": partitions,
        "partitions_complete": done,
        "lag": sum(max(0, mark["target"] - mark["next_offset"]) for mark in mine),
        "errors": errors.get(view.name, 0) + errors.get("", 0),
        "positions": {f"{mark['topic']}/{mark['partition']}": mark["next_offset"] for mark in mine},
    }
