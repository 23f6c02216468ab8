"""Reads of runs: lists, one run, its events, what its programs printed."""

from collections.abc import Sequence

from aiohttp import web

from app.errors import not_found
from app.ports import Row
from app.routes import Query, Route
from app.security import principal
from app.views.answers import FRESHNESS, LIMIT_MAX, LISTING, complete, fresh, listing, many, moment, one
from app.views.lineage import lineage
from app.views.owner import OwnerReads
from app.views.ports import ViewDependencies
from app.views.progress import LiveProgress
from app.views.report import page, report
from app.views.waiting import with_waiting


class RunViews:
    """Handlers of ``GET /v1/runs…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs
        self._progress = LiveProgress(needs.memory, OwnerReads(needs.memory, needs.peers, needs.limits))

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        wanted = (Query("pipeline", "Only of this pipeline"), Query("status", "Only in this status"),
                  Query("since", "Not before this time: RFC 3339, or ms since the epoch"))  # fmt: skip
        path = "/v1/runs/{id}"
        return (
            Route(
                "GET", "/v1/runs", self.list, "listRuns", "Runs, the newest first", "runs",
                query=(*wanted, *LISTING, *FRESHNESS), response="RunList",
            ),
            Route(
                "GET", path, self.get, "getRun", "One run with its steps", "runs",
                query=FRESHNESS, response="Run", statuses=(200, 304),
            ),
            Route(
                "GET", f"{path}/events", self.events, "listRunEvents", "What happened to the run, in order", "runs",
                query=(*LISTING, *FRESHNESS), response="EventList",
            ),
            Route(
                "GET", f"{path}/logs", self.logs, "listRunLogs", "What the programs of the run printed", "runs",
                query=(
                    Query("step", "Only of this step"),
                    Query("contains", "Only lines with this text, in capitals or not"),
                    *LISTING,
                ),
                response="LogList",
            ),
            Route(
                "GET", f"{path}/lineage", self.lineage, "getRunLineage",
                "What the run read and wrote, as OpenLineage events and as a graph", "runs", query=FRESHNESS,
                response="RunLineage",
            ),
            Route(
                "GET", f"{path}/report", self.report, "getRunReport",
                "What the run moved, what it cost, what went wrong", "runs", query=FRESHNESS, response="RunReport",
            ),
            Route(
                "GET", f"{path}/report.html", self.report_page, "getRunReportPage", "The same as a page to be kept",
                "runs", query=FRESHNESS, media_type="text/html",
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with runs, the newest first."""
        limit, cursor = listing(request)
        await fresh(request, self._needs, "run")
        pipeline, status = request.query.get("pipeline"), request.query.get("status")
        since = moment(request, "since")
        page = await self._needs.store.runs(principal(request).tenant, pipeline, status, limit, cursor, since)
        await complete(request, self._needs, "run")
        return many(request, page)

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one run; how far its steps at work are is the newest that its owner has heard.

        Steps on offer say which runner they wait for, if they ask for labels, or if there is none.
        """
        row = await self._run(request)
        shown = with_waiting(await self._progress.added(request, row), self._needs.members())
        return one(request, shown, "run", row["id"], live=shown is not row)

    async def events(self, request: web.Request) -> web.Response:
        """Answer with the run's events by version."""
        limit, cursor = listing(request)
        await self._run(request)
        filters = {"aggregate": "run", "aggregate_id": request.match_info["id"]}
        page = await self._needs.store.events(principal(request).tenant, filters, limit, cursor)
        await complete(request, self._needs, "event")
        return many(request, page)

    async def logs(self, request: web.Request) -> web.Response:
        """Answer with lines of output, as long as they are kept (7 days)."""
        limit, cursor = listing(request)
        row = await self._run(request)
        page = await self._needs.records.logs(
            row["tenant"],
            row["id"],
            (request.query.get("step") or None, request.query.get("contains", "")),
            (row["created_at"], row["ended_at"]),
            limit,
            cursor,
        )
        return many(request, page)

    async def lineage(self, request: web.Request) -> web.Response:
        """Answer with the run's lineage, as far as it has gone."""
        return web.json_response(lineage(self._needs.names, *await self._history(request)))

    async def report(self, request: web.Request) -> web.Response:
        """Answer with the run's report."""
        return web.json_response(report(*await self._history(request)))

    async def report_page(self, request: web.Request) -> web.Response:
        """Answer with the run's report as HTML."""
        return web.Response(text=page(report(*await self._history(request))), content_type="text/html")

    async def _history(self, request: web.Request) -> tuple[Row, Sequence[Row]]:
        """Return the run and all its events, in order."""
        run = await self._run(request)
        tenant = principal(request).tenant
        filters = {"aggregate": "run", "aggregate_id": run["id"]}
        events: list[Row] = []
        cursor: str | None = None
        while True:
            found, cursor = await self._needs.store.events(tenant, filters, LIMIT_MAX, cursor)
            events += found
            if cursor is None:
                break
        await complete(request, self._needs, "event")
        return run, events

    async def _run(self, request: web.Request) -> Row:
        run_id = request.match_info["id"]
        await fresh(request, self._needs, "run")
        row = await self._needs.store.run(principal(request).tenant, run_id)
        await complete(request, self._needs, "run")
        if row is None:
            raise not_found("run", run_id)
        return row
