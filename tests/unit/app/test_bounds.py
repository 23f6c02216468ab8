"""What waits behind the edge is bounded too: records from Kafka, and bytes for a stream that nobody reads."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from app.adapters.record_reader import RecordReader
from app.errors import Problem
from app.views import events
from schemas.topics import Topics


async def test_a_reader_of_records_lets_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four at once, 32 that wait; the next is told to come back."""
    reader, go = RecordReader({}, Topics(), 8), threading.Event()

    def work(_self: RecordReader, _call: Callable[..., Any]) -> dict[int, tuple[int, int]]:
        go.wait(60)
        return {}

    monkeypatch.setattr(RecordReader, "_work", work)
    asked = [asyncio.create_task(reader.ranges("dataset.x")) for _ in range(36)]
    await asyncio.sleep(0.05)
    with pytest.raises(Problem) as refused:
        await reader.ranges("dataset.x")
    assert (refused.value.code, refused.value.headers["Retry-After"]) == ("overloaded", "1")
    go.set()
    assert await asyncio.gather(*asked) == [{}] * 36
    assert await reader.ranges("dataset.x") == {}


async def test_a_stream_lets_go_of_a_client_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is free again; it may resume where it was."""
    monkeypatch.setattr(events, "_TAKEN_S", 0.3)
    ended = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await events._write(request, response, b"x" * 1_000_000)
        except ConnectionResetError:
            ended.set()
            return response

    app = web.Application()
    app.router.add_get("/", stream)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2], limit=1_000)
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await asyncio.wait_for(ended.wait(), 60)
    writer.close()
    assert reader is not None
    await runner.cleanup()
