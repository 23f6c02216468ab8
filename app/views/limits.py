"""Reads of limits."""

from aiohttp import web

from app.routes import Route
from app.security import principal
from app.views.answers import FRESHNESS, LISTING, complete, fresh, listing, many, one
from app.views.ports import ViewDependencies


class LimitViews:
    """Handlers of ``GET /v1/limits…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        return (
            Route(
                "GET", "/v1/limits", self.list, "listLimits", "Limits by name", "limits",
                query=(*LISTING, *FRESHNESS), response="LimitList",
            ),
            Route(
                "GET", "/v1/limits/{name}", self.get, "getLimit", "Which runs are in, and which wait", "limits",
                query=FRESHNESS, response="Limit", statuses=(200, 304),
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with limits by name."""
        limit, cursor = listing(request)
        await fresh(request, self._needs, "limit")
        page = await self._needs.store.limits(principal(request).tenant, limit, cursor)
        await complete(request, self._needs, "limit")
        return many(request, page)

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one limit."""
        name = request.match_info["name"]
        await fresh(request, self._needs, "limit")
        row = await self._needs.store.limit(principal(request).tenant, name)
        await complete(request, self._needs, "limit")
        return one(request, row, "limit", name)
