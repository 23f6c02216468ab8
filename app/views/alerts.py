"""Reads of alerts."""

from aiohttp import web

from app.errors import problem
from app.routes import Query, Route
from app.security import principal
from app.views.answers import FRESHNESS, LISTING, complete, fresh, listing, many, one
from app.views.ports import ViewDependencies

_STATUS = Query("status", "unresolved: only pipelines with something to look after", choices=("unresolved",))


class AlertViews:
    """Handlers of ``GET /v1/alerts…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        return (
            Route(
                "GET", "/v1/alerts", self.list, "listAlerts", "Rules and incidents by pipeline", "alerts",
                query=(*LISTING, _STATUS, *FRESHNESS), response="AlertList",
            ),
            Route(
                "GET", "/v1/alerts/{pipeline}", self.get, "getAlert", "Rules and incidents of a pipeline",
                "alerts", query=FRESHNESS, response="Alert", statuses=(200, 304),
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with rules and incidents by pipeline."""
        limit, cursor = listing(request)
        status = request.query.get("status")
        if status not in (None, "unresolved"):
            raise problem("invalid", "status may be `unresolved`, or be left out.")
        await fresh(request, self._needs, "alert")
        tenant = principal(request).tenant
        page = await self._needs.store.alerts(tenant, status is not None, limit, cursor)
        await complete(request, self._needs, "alert")
        return many(request, page)

    async def get(self, request: web.Request) -> web.Response:
        """Answer with the rules and the latest incidents of one pipeline, the newest first."""
        pipeline = request.match_info["pipeline"]
        await fresh(request, self._needs, "alert")
        row = await self._needs.store.alert(principal(request).tenant, pipeline)
        await complete(request, self._needs, "alert")
        return one(request, row, "alert", pipeline)
