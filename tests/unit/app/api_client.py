"""The edge over the in-memory twin: what a test of a handler starts from."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.adapters.memory import MemoryPlatform, MemoryQuarantine, MemoryRejects
from app.api import create_api
from app.commands.routes import write_routes
from app.ports import Limits, WriteDependencies
from streams.aggregates import builtin
from streams.reactors import REACTORS
from streams.translation import vocabulary

Client = TestClient[web.Request, web.Application]


def pipeline_file(name: str = "copy", **spec: Any) -> dict[str, Any]:
    """Return a pipeline of two steps that only run programs."""
    steps = [
        {"name": "first", "command": {"argv": ["true"]}},
        {"name": "second", "after": ["first"], "command": {"argv": ["true"]}},
    ]
    return {
        "apiVersion": "flexcore/v1",
        "kind": "Pipeline",
        "metadata": {"name": name},
        "spec": {"steps": steps, **spec},
    }


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    quarantine: MemoryQuarantine | None = None,
    rejects: MemoryRejects | None = None,
) -> AsyncIterator[tuple[Client, MemoryPlatform]]:
    """Serve the writes over the twin."""
    aggregates = builtin()
    platform = MemoryPlatform(aggregates, REACTORS)
    limits = limits or Limits()
    needs = WriteDependencies(
        bus=platform,
        resources=platform,
        quarantine=quarantine or MemoryQuarantine(),
        rejects=rejects or MemoryRejects(),
        events=platform.events,
        vocabulary={aggregate.name: vocabulary(aggregate).commands for aggregate in aggregates},
        limits=limits,
    )
    api = create_api(write_routes(needs), limits)
    async with TestClient(TestServer(api)) as client:
        yield client, platform
