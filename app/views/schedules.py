"""Reads of schedules."""

from aiohttp import web

from app.routes import Route
from app.security import principal
from app.views.answers import FRESHNESS, LISTING, complete, fresh, listing, many, one
from app.views.ports import ViewDependencies


class ScheduleViews:
    """Handlers of ``GET /v1/schedules…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        return (
            Route(
                "GET", "/v1/schedules", self.list, "listSchedules", "Schedules by pipeline", "schedules",
                query=(*LISTING, *FRESHNESS), response="ScheduleList",
            ),
            Route(
                "GET", "/v1/schedules/{pipeline}", self.get, "getSchedule", "The schedule of a pipeline",
                "schedules", query=FRESHNESS, response="Schedule", statuses=(200, 304),
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with schedules by pipeline."""
        limit, cursor = listing(request)
        await fresh(request, self._needs, "schedule")
        page = await self._needs.store.schedules(principal(request).tenant, limit, cursor)
        await complete(request, self._needs, "schedule")
        return many(request, page)

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one schedule; one that was cleared is shown as such."""
        pipeline = request.match_info["pipeline"]
        await fresh(request, self._needs, "schedule")
        row = await self._needs.store.schedule(principal(request).tenant, pipeline)
        await complete(request, self._needs, "schedule")
        return one(request, row, "schedule", pipeline)
