"""Bounds of the edge: what is beyond them is refused at once, each kind by itself, and health always answers."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.api import create_api
from app.ports import Limits
from app.routes import Route


async def test_each_kind_of_request_has_its_own_bound() -> None:
    """429 problem+json with Retry-After beyond it; a place is free again when an answer is given."""
    go, inside = asyncio.Event(), 0

    async def held(_request: web.Request) -> web.Response:
        nonlocal inside
        inside += 1
        await go.wait()
        return web.json_response({})

    routes = (
        Route("GET", "/v1/things", held, "getThings", "Things", "things", response="Any"),
        Route("POST", "/v1/things", held, "postThings", "Things", "things", response="Any"),
        Route(
            "GET",
            "/v1/things/stream",
            held,
            "streamThings",
            "Things",
            "things",
            media_type="text/event-stream",
        ),
        Route("GET", "/health/live", held, "live", "Live", "health", response="Any"),
    )
    limits = Limits(in_flight_max=2, reads_max=1, streams_max=1)
    async with TestClient(TestServer(create_api(routes, limits))) as client:
        first = [
            asyncio.create_task(client.request(method, path, headers=headers))
            for method, path, headers in (
                ("POST", "/v1/things", {}),
                ("POST", "/v1/things", {}),
                ("GET", "/v1/things", {}),
                ("GET", "/v1/things", {"Flexcore-Forwarded": "another"}),
                ("GET", "/v1/things/stream", {}),
                ("GET", "/health/live", {}),
                ("GET", "/health/live", {}),
            )
        ]
        async with asyncio.timeout(60):
            while inside < len(first):  # noqa: ASYNC110 - a count is no event
                await asyncio.sleep(0.01)
        for method, path in (("POST", "/v1/things"), ("GET", "/v1/things"), ("GET", "/v1/things/stream")):
            answer = await client.request(method, path)
            assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
            assert answer.content_type == "application/problem+json"
            assert (await answer.json())["code"] == "overloaded"
        go.set()
        assert {answer.status for answer in await asyncio.gather(*first)} == {200}
        assert (await client.get("/v1/things")).status == 200
