"""Reads of pipelines."""

from aiohttp import web

from app.routes import Query, Route
from app.security import principal
from app.views.answers import FRESHNESS, LISTING, complete, fresh, listing, many, one
from app.views.ports import ViewDependencies

_STATUSES = ("active", "paused", "deleted")


class PipelineViews:
    """Handlers of ``GET /v1/pipelines…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        status = Query(
            "status", "Only in this status; deleted pipelines are shown only so", choices=_STATUSES
        )
        return (
            Route(
                "GET", "/v1/pipelines", self.list, "listPipelines", "Pipelines by name", "pipelines",
                query=(status, *LISTING, *FRESHNESS), response="PipelineList",
            ),
            Route(
                "GET", "/v1/pipelines/{name}", self.get, "getPipeline", "One pipeline with its definition",
                "pipelines", query=FRESHNESS, response="Pipeline", statuses=(200, 304),
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with pipelines by name."""
        limit, cursor = listing(request)
        await fresh(request, self._needs, "pipeline")
        tenant, status = principal(request).tenant, request.query.get("status")
        page = await self._needs.store.pipelines(tenant, status, limit, cursor)
        await complete(request, self._needs, "pipeline")
        return many(request, page)

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one pipeline; a deleted one is not there."""
        name = request.match_info["name"]
        await fresh(request, self._needs, "pipeline")
        row = await self._needs.store.pipeline(principal(request).tenant, name)
        await complete(request, self._needs, "pipeline")
        return one(request, row if row is None or row["status"] != "deleted" else None, "pipeline", name)
