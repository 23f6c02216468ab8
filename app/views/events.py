"""Reads of events: search, one event, and the stream of what happens (server-sent events)."""

import asyncio
import heapq
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from app.errors import not_found, problem
from app.ports import Row
from app.routes import Query, Route
from app.security import principal
from app.views.answers import (
    FRESHNESS,
    LISTING,
    complete,
    dumps,
    fresh,
    json_answer,
    listing,
    many,
    moment,
    positions_of,
)
from app.views.ports import Positions, ViewDependencies

_HEARTBEAT_S = 10.0
_TAKEN_S = 30.0
_PER_SHARD_MAX = 50
_WANTED = (
    Query("aggregate", "Only of this kind of aggregate"),
    Query("type", "Only this type of event"),
    Query("correlation", "Only of this correlation"),
    Query("id", "Only of the aggregate with this id"),
)


class EventViews:
    """Handlers of ``GET /v1/events…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        more = (
            Query("command", "Only of this command"),
            Query("actor", "Only of this actor"),
            Query("after", "Only after these positions, separated by commas"),
            Query("since", "Not before this time: RFC 3339, or ms since the epoch"),
            Query("until", "Not after this time"),
            Query("order", "By time, upwards or downwards", choices=("asc", "desc")),
        )
        streamed = (*_WANTED, Query("after", "Begin after these positions; `beginning` for all there is"))
        return (
            Route(
                "GET", "/v1/events", self.search, "searchEvents", "Search events (audit)", "events",
                query=(*_WANTED, *more, *LISTING, *FRESHNESS), response="EventList",
            ),
            Route(
                "GET", "/v1/events/stream", self.stream, "streamEvents",
                "Events as they happen; id is the position, Last-Event-ID resumes", "events",
                query=streamed, media_type="text/event-stream",
            ),
            Route(
                "GET", "/v1/events/{id}", self.get, "getEvent", "One event with its cause", "events",
                query=FRESHNESS, response="Event",
            ),
        )  # fmt: skip

    async def search(self, request: web.Request) -> web.Response:
        """Answer with events by time."""
        limit, cursor = listing(request)
        query = request.query
        if query.get("order", "asc") not in ("asc", "desc"):
            raise problem("bad_request", "order must be asc or desc.")
        filters = {
            **_filters(request),
            "command_id": query.get("command"),
            "actor": query.get("actor"),
            "after": positions_of(query["after"]) if "after" in query else None,
            "since": moment(request, "since"),
            "until": moment(request, "until"),
        }
        await fresh(request, self._needs, "event")
        newest_first = query.get("order") == "desc"
        page = await self._needs.store.events(principal(request).tenant, filters, limit, cursor, newest_first)
        await complete(request, self._needs, "event")
        return many(request, page)

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one event."""
        event_id = request.match_info["id"]
        await fresh(request, self._needs, "event")
        row = await self._needs.store.event(principal(request).tenant, event_id)
        await complete(request, self._needs, "event")
        if row is None:
            raise not_found("event", event_id)
        # An event never changes, so no ETag: its version is its aggregate's.
        return json_answer(row, {"Flexcore-Position": row["position"]})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send events as they happen, until the client leaves.

        Each has the positions reached so far as its id, so that nothing is sent twice or left out after a
        reconnection. A slow client is sent less often, not less: what it has not read waits in the read store. One
        that reads nothing for half a minute is let go.
        """
        tenant, filters = principal(request).tenant, _filters(request)
        reached = await self._begin(request)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        await _write(request, response, b"retry: 1000\n" + _heartbeat(reached))
        try:
            while True:
                now = await self._needs.store.positions()
                rows, whole = await self._read(tenant, filters, reached, now)
                for row in rows:
                    shard = (row["aggregate"], row["shard"])
                    reached[shard] = max(reached.get(shard, 0), row["sequence"])
                    await _write(request, response, _sent(row, reached))
                if whole:
                    reached.update({shard: max(reached.get(shard, 0), end) for shard, end in now.items()})
                    if not await self._needs.store.changed(now, _HEARTBEAT_S):
                        await _write(request, response, _heartbeat(reached))
        except (ConnectionResetError, asyncio.CancelledError):
            return response

    async def _begin(self, request: web.Request) -> Positions:
        """Return where the client wants to go on; shards it does not name begin now, or at their beginning."""
        text = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        if text == "beginning":
            return {}
        return {**await self._needs.store.positions(), **positions_of(text)}

    async def _read(
        self, tenant: str, filters: Mapping[str, Any], after: Positions, upto: Positions
    ) -> tuple[list[Row], bool]:
        """Return what came up to ``upto`` by time, each shard in its order, and whether that is all of it."""
        parts: list[list[Row]] = []
        for shard, end in upto.items():
            begin = after.get(shard, 0)
            if end > begin and filters.get("aggregate") in (None, shard[0]):
                parts.append(
                    await self._needs.store.events_between(tenant, filters, shard, begin, end, _PER_SHARD_MAX)
                )
        rows = list(heapq.merge(*parts, key=lambda row: row["at"]))
        return rows, all(len(part) < _PER_SHARD_MAX for part in parts)


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Write, and wait until the client has room for more. Raises ``ConnectionResetError`` when it takes nothing."""
    try:
        async with asyncio.timeout(_TAKEN_S):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client reads nothing") from None


def _filters(request: web.Request) -> dict[str, Any]:
    names = {"aggregate": "aggregate", "type": "type", "correlation": "correlation_id", "id": "aggregate_id"}
    return {column: request.query.get(name) or None for name, column in names.items()}


def _id(reached: Positions) -> str:
    return ",".join(
        f"{aggregate}:{shard}:{sequence}" for (aggregate, shard), sequence in sorted(reached.items())
    )


def _sent(row: Row, reached: Positions) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (_id(reached).encode(), row["type"].encode(), dumps(row))


def _heartbeat(reached: Positions) -> bytes:
    # An id without data moves what the client will resume from, and nothing else.
    return b": alive\nid: %b\n\n" % _id(reached).encode()
