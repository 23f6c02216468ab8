"""How far the views are: one reader of the checkpoints for everybody who waits for a position."""

import asyncio
import contextlib
from typing import Any

import psycopg
from sqlalchemy import func, select

from app.adapters.view_database import ViewDatabase
from app.errors import Problem
from streams.projections.views import CHECKPOINT, VIEWS

_POLL_S = 0.1
_RECONNECT_S = 1.0
_SUFFIX = ".events"

Positions = dict[tuple[str, int], int]


class ViewPositions:
    """Knows, while somebody waits, the last event sequence that every view has folded, by aggregate and shard.

    A projector announces each commit (NOTIFY); without the announcements the checkpoints are polled.
    """

    def __init__(self, database: ViewDatabase) -> None:
        self._database = database
        self._changed = asyncio.Condition()
        self._round = 0
        self._waiting = 0
        self._wanted = asyncio.Event()
        self._announced = asyncio.Event()
        self._known: Positions = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def close(self) -> None:
        """End the tasks that follow."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def read(self) -> Positions:
        """Return the positions as they are now: a view that has not begun a shard keeps it out."""
        tables = [view.table.name for view in VIEWS if view.source == "events"]
        statement = (
            select(
                CHECKPOINT.c.topic,
                CHECKPOINT.c.partition,
                func.min(CHECKPOINT.c.sequence).label("sequence"),
                func.count().label("tables"),
            )
            .where(CHECKPOINT.c.table_name.in_(tables))
            .group_by(CHECKPOINT.c.topic, CHECKPOINT.c.partition)
        )
        found: Positions = {}
        for row in await self._database.rows(statement):
            aggregate = _aggregate(row["topic"])
            folding = sum(1 for view in VIEWS if view.folds("events", aggregate))
            if row["topic"].endswith(_SUFFIX) and row["tables"] >= folding:
                found[aggregate, row["partition"]] = row["sequence"]
        return found

    async def reached(self, aggregate: str, shard: int, sequence: int, timeout_s: float) -> bool:
        """Wait until the views have folded ``sequence`` of the shard; False when they have not in time."""
        if sequence <= 0:
            return True
        deadline = asyncio.get_running_loop().time() + timeout_s
        with contextlib.suppress(Problem):
            found = await self.read()
            if found.get((aggregate, shard), 0) >= sequence:
                return True
        while await self._read_again(deadline):
            if self._known.get((aggregate, shard), 0) >= sequence:
                return True
        return False

    async def changed(self, seen: Positions, timeout_s: float) -> bool:
        """Wait until the positions differ from ``seen``; False when they did not in time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while await self._read_again(deadline):
            if self._known != seen:
                return True
        return False

    async def _read_again(self, deadline: float) -> bool:
        """Wait until the checkpoints have been read once more; False at the deadline."""
        self._follow()
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout_at(deadline), self._changed:
                seen = self._round
                await self._changed.wait_for(lambda: self._round != seen)
            return True
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()

    def _follow(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll())]

    async def _poll(self) -> None:
        """While somebody waits: read the checkpoints whenever a commit is announced, and now and then anyway."""
        while True:
            await self._wanted.wait()
            with contextlib.suppress(Problem):
                found = await self.read()
                async with self._changed:
                    self._known, self._round = found, self._round + 1
                    self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._announced.wait()
            self._announced.clear()

    async def _listen(self) -> None:
        channel = f"{self._database.schema}_views"
        while True:
            connection: psycopg.AsyncConnection[Any] | None = None
            try:
                connection = await self._database.connect()
                await connection.set_autocommit(True)
                await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
                async for _ in connection.notifies():
                    self._announced.set()
            except (psycopg.Error, OSError):
                await asyncio.sleep(_RECONNECT_S)
            finally:
                if connection is not None:
                    await connection.close()


def _aggregate(topic: str) -> str:
    # Topics may carry a prefix, with dots of its own: the aggregate is the last word before the suffix.
    return topic.removesuffix(_SUFFIX).rpartition(".")[2]
