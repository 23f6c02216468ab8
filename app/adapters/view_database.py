"""Statements on the read store: a pool of connections, and what goes wrong with it as a problem or as nothing there."""

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Executable, func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolBusy
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.errors import Problem, problem
from app.ports import Row
from streams.projections.view import View
from streams.projections.views import CHECKPOINT, VIEW_TABLE

_POOL_SIZE = 8
_POOL_WAIT_S = 10
_STATEMENT_TIMEOUT = "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=30000"
_MISSING = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)


class ViewDatabase:
    """One database schema, read. Connects when first asked; ``postgres_url`` is a libpq URL."""

    def __init__(self, postgres_url: str, schema_name: str) -> None:
        self.schema = schema_name
        self.url = postgres_url
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self.connect,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=_POOL_SIZE,
            max_overflow=0,
            pool_timeout=_POOL_WAIT_S,
            isolation_level="AUTOCOMMIT",
            execution_options={"schema_translate_map": {None: schema_name}},
        )

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """Return a connection of its own."""
        return await psycopg.AsyncConnection.connect(
            self.url,
            application_name="flexcore-views",
            connect_timeout=5,
            options=_STATEMENT_TIMEOUT,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=10_000,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def rows(self, statement: Executable, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Return the rows; none when the tables are not there (being made anew).

        Raises ``overloaded`` when no connection is free in time, ``unavailable`` when the database does not answer; a connection that broke meanwhile is tried anew once.
        """
        for attempt in (1, 2):
            try:
                async with self._engine.connect() as connection:
                    result = await connection.execute(statement, dict(values or {}))
                    return [dict(row) for row in result.mappings()]
            except DBAPIError as error:
                if isinstance(error.orig, _MISSING):
                    return []
                if attempt == 2 or not error.connection_invalidated:
                    raise _away(error.orig or error) from error
            except PoolBusy as error:
                raise problem(
                    "overloaded",
                    f"All {_POOL_SIZE} connections to the read store were busy for {_POOL_WAIT_S} s.",
                    headers={"Retry-After": "1"},
                ) from error
            except (SQLAlchemyError, OSError, psycopg.Error) as error:
                raise _away(error) from error
        raise AssertionError("unreachable")

    async def ping(self) -> str | None:
        """Return what is wrong with the database in one sentence, or None."""
        try:
            async with asyncio.timeout(5):
                await self.rows(text("SELECT 1"))
        except TimeoutError:
            return "PostgreSQL does not answer within 5 s"
        except Problem as fault:
            return fault.detail
        return None

    async def complete(self, view: View) -> bool:
        """Return whether the view's table has folded everything that was in the log when it was begun."""
        name = view.table.name
        done = (
            select(func.count())
            .select_from(CHECKPOINT)
            .where(CHECKPOINT.c.table_name == name, CHECKPOINT.c.next_offset >= CHECKPOINT.c.target)
            .scalar_subquery()
        )
        found = await self.rows(
            select(VIEW_TABLE.c.partitions, done.label("done")).where(VIEW_TABLE.c.table_name == name)
        )
        return bool(found) and found[0]["done"] >= found[0]["partitions"] > 0


def _away(error: BaseException) -> Problem:
    said = " ".join(str(error).split()) or type(error).__name__
    return problem(
        "unavailable", f"The read store does not answer: {said[:300]}", headers={"Retry-After": "1"}
    )
