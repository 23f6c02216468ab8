"""A view folded anew on request, in the background of the node that was asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from confluent_kafka import KafkaException

from app.errors import problem
from streams.agents.projection_rebuild import RebuildRefused

_PATIENCE_S = 20.0


class ViewRebuild:
    """Calls ``rebuild`` (a projector's), and waits for it as long as a request may last."""

    def __init__(self, rebuild: Callable[[str], Awaitable[Any]]) -> None:
        self._rebuild = rebuild
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(self, name: str) -> bool:
        """Fold the view anew; True when it is done, False when it goes on after 20 s. Raises ``unavailable``."""
        task = asyncio.create_task(self._run(name))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait([task], timeout=_PATIENCE_S)
        if done:
            task.result()
        return bool(done)

    async def _run(self, name: str) -> None:
        try:
            await self._rebuild(name)
        except (RebuildRefused, psycopg.Error, KafkaException) as error:
            raise problem("unavailable", f"The view {name} could not be folded anew: {error}") from error
