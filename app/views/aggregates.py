"""The state of any aggregate, now or then (time travel)."""

from aiohttp import web

from app.errors import problem
from app.routes import Query, Route
from app.security import principal
from app.views.answers import FRESHNESS, complete, fresh, moment, number, one
from app.views.ports import ViewDependencies


class AggregateViews:
    """Handler of ``GET /v1/aggregates/{type}/{id}``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the route; an aggregate's id may hold a slash (a bookmark's does)."""
        then = (
            Query("version", "After this version", "integer"),
            Query("at", "At this time: RFC 3339, or ms since the epoch"),
        )
        return (
            Route(
                "GET", "/v1/aggregates/{type}/{id:.+}", self.get, "getAggregate",
                "The state of an aggregate, now or then", "aggregates",
                query=(*then, *FRESHNESS), response="AggregateState", statuses=(200, 304),
            ),
        )  # fmt: skip

    async def get(self, request: web.Request) -> web.Response:
        """Answer with the state, the event it is after, and the node that owns the shard."""
        kind, aggregate_id = request.match_info["type"], request.match_info["id"]
        version, at = number(request, "version", None, 1, 10**18), moment(request, "at")
        if version is not None and at is not None:
            raise problem("bad_request", "version and at exclude each other.")
        await fresh(request, self._needs, "event")
        await complete(request, self._needs, "event")
        state = await self._needs.history.state(principal(request).tenant, kind, aggregate_id, version, at)
        return one(request, {**state, "owner": self._owner(state["shard"])}, kind, aggregate_id)

    def _owner(self, shard: int) -> str | None:
        alive = (node for node in self._needs.cluster.members() if node.get("status") == "alive")
        return next((str(node["node"]) for node in alive if shard in node.get("shards", ())), None)
