"""The state of any aggregate: now by its owner, or then (time travel) by its history."""

from aiohttp import web

from app.errors import Problem, problem
from app.ports import Limits, Memory, Peers
from app.routes import Query, Route
from app.security import principal
from app.views.answers import FRESHNESS, complete, fresh, moment, number, one, positions_of
from app.views.owner import STALE_HEADER, OwnerReads
from app.views.ports import ViewDependencies


class AggregateViews:
    """Handler of ``GET /v1/aggregates/{type}/{id}``. Without ``needs`` (a node that has no read store): only now."""

    def __init__(
        self, memory: Memory, peers: Peers, limits: Limits, needs: ViewDependencies | None = None
    ) -> None:
        self._memory = memory
        self._owner = OwnerReads(memory, peers, limits)
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the route; an aggregate's id may hold a slash (a bookmark's does)."""
        asked = (
            Query("version", "After this version", "integer"),
            Query("at", "At this time: RFC 3339, or ms since the epoch"),
            Query(
                "stale-ok", "Whatever is nearest, marked Flexcore-Stale if it may be old", choices=("true",)
            ),
        )
        return (
            Route(
                "GET", "/v1/aggregates/{type}/{id:.+}", self.get, "getAggregate",
                "The state of an aggregate, now or then", "aggregates",
                query=(*asked, *FRESHNESS), response="AggregateState", statuses=(200, 304),
            ),
        )  # fmt: skip

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer with the state and its position: the owner's newest, the nearest (``stale-ok``), or an old one."""
        kind, aggregate_id = request.match_info["type"], request.match_info["id"]
        version, at = number(request, "version", None, 1, 10**18), moment(request, "at")
        if version is not None and at is not None:
            raise problem("bad_request", "version and at exclude each other.")
        if version is not None or at is not None:
            return await self._folded(request, kind, aggregate_id, version, at)
        if "stale-ok" in request.query:
            return await self._nearest(request, kind, aggregate_id)
        await self._others(request, kind, aggregate_id)
        return await self._owner.answer(request, kind, aggregate_id)

    async def _nearest(self, request: web.Request, kind: str, aggregate_id: str) -> web.StreamResponse:
        """Answer from this node's memory, else from the read store, else by the owner."""
        if (found := self._owner.near(request, kind, aggregate_id)) is not None:
            return found
        if self._needs is not None:
            try:
                response = await self._folded(request, kind, aggregate_id, None, None)
            except Problem as fault:
                if fault.code not in ("unavailable", "overloaded"):
                    raise
            else:
                response.headers[STALE_HEADER] = "true"
                return response
        return await self._owner.answer(request, kind, aggregate_id)

    async def _folded(
        self, request: web.Request, kind: str, aggregate_id: str, version: int | None, at: int | None
    ) -> web.StreamResponse:
        needs = self._with_store()
        await fresh(request, needs, "event")
        await complete(request, needs, "event")
        state = await needs.history.state(principal(request).tenant, kind, aggregate_id, version, at)
        return one(request, {**state, "owner": self._owner.name(state["shard"])}, kind, aggregate_id)

    async def _others(self, request: web.Request, kind: str, aggregate_id: str) -> None:
        """Wait for positions of other slices, which the owner of this one cannot judge: the views know all."""
        token = request.query.get("min-position", "")
        mine = (kind, self._memory.shard_of(principal(request).tenant, kind, aggregate_id))
        if any(slice_ != mine for slice_ in positions_of(token)):
            await fresh(request, self._with_store(), "event")

    def _with_store(self) -> ViewDependencies:
        if self._needs is None:
            raise problem("unavailable", "This node has no read store; ask a node with the role api.")
        return self._needs
