"""Reads over HTTP for tests: a log, the projector that folds it, the read store and the API over both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from app.adapters.owned import OwnedStates
from app.adapters.peers import HttpPeers
from app.adapters.record_reader import RecordReader
from app.adapters.time_travel import TimeTravel
from app.adapters.view_store import ViewStore
from app.api import create_api
from app.ports import Limits
from app.views.ports import ViewDependencies
from app.views.routes import read_routes
from streams.agents.project import Projector
from streams.aggregates import builtin
from streams.domain.run.events import RunCreated, RunEnded, StepClaimed, StepOffered
from streams.settings import ProjectorSettings
from tests.support.event_log import EventLog

DEFINITION = json.dumps(
    {
        "apiVersion": "flexcore/v1",
        "kind": "Pipeline",
        "metadata": {"name": "sync"},
        "spec": {"steps": [{"name": "read", "extract": {"source": "file", "config": {"path": "a.csv"}}}]},
    }
)


class _OneNode:
    def members(self) -> Sequence[Mapping[str, Any]]:
        return [{"node": "node-a", "url": "http://127.0.0.1:9", "status": "alive", "shards": [0, 1, 2, 3]}]


@dataclass
class ViewStack:
    """What a test of reads holds in its hands."""

    log: EventLog
    database: str
    projector: Projector
    store: ViewStore
    api: TestClient[Any, Any]

    async def get(self, path: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        """Return the body of an answer that must have this status."""
        response = await self.api.get(path, headers=headers)
        assert response.status == status, await response.text()
        return await response.json() if status != 304 else None

    async def ready(self) -> None:
        """Wait until every view is complete."""
        deadline = time.monotonic() + 30
        while not self.projector.ready:
            assert time.monotonic() < deadline, self.projector.problem
            await asyncio.sleep(0.02)

    async def until(self, path: str, check: Callable[[Any], Any]) -> Any:
        """Read ``path`` until it answers 200 with a body that ``check`` likes; return that body."""
        deadline, body = time.monotonic() + 30, None
        while time.monotonic() < deadline:
            response = await self.api.get(path)
            body = await response.json()
            if response.status == 200 and check(body):
                return body
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path}: {body}")


@contextlib.asynccontextmanager
async def open_stack(bootstrap: str, topic_prefix: str, database: str) -> AsyncIterator[ViewStack]:
    """Start everything over an empty log and an empty database."""
    log = EventLog(bootstrap, topic_prefix)
    log.create()
    settings = ProjectorSettings(log.kafka, topic_prefix, "node-a", database, topic_prefix, log.shards)
    projector = Projector(settings, log.codec, builtin())
    store = ViewStore(database)

    async def rebuild(view: str) -> bool:
        return bool(await projector.rebuild(view))

    needs = ViewDependencies(
        store=store,
        records=RecordReader(log.kafka, log.topics, log.shards),
        history=TimeTravel(store, builtin()),
        memory=OwnedStates("node-b", log.shards, [aggregate.name for aggregate in builtin()], lambda: None),
        peers=HttpPeers(_OneNode()),
        rebuild=rebuild,
    )
    await projector.start()
    async with TestClient(TestServer(create_api(read_routes(needs), Limits()))) as api:
        yield ViewStack(log, database, projector, store, api)
    await projector.stop()
    await store.close()


def a_run(
    log: EventLog, name: str, pipeline: str = "sync", tenant: str = "default", ended: bool = True
) -> str:
    """Produce the events of a failed run (or one that goes on); return its position."""
    at = log.clock
    events: list[Any] = [
        RunCreated(pipeline, DEFINITION, "h1", "{}", False, "manual", None, None, None, "{}", at),
        StepOffered("read", 1, "default", at),
        StepClaimed("read", 1, "t1", "node-a", at),
    ]
    events += [RunEnded("failed", "no file", pipeline, None, "manual", at)] if ended else []
    position = log.emit("run", name, *events, tenant=tenant, correlation=f"c-{name}")
    log.flush()
    return position
