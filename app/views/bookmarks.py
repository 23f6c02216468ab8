"""Reads of bookmarks."""

from aiohttp import web

from app.routes import Query, Route
from app.security import principal
from app.views.answers import FRESHNESS, LISTING, complete, fresh, listing, many, one
from app.views.ports import ViewDependencies


class BookmarkViews:
    """Handlers of ``GET /v1/bookmarks…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        return (
            Route(
                "GET", "/v1/bookmarks", self.list, "listBookmarks", "Bookmarks by pipeline and step", "bookmarks",
                query=(Query("pipeline", "Only of this pipeline"), *LISTING, *FRESHNESS), response="BookmarkList",
            ),
            Route(
                "GET", "/v1/bookmarks/{pipeline}/{step}", self.get, "getBookmark",
                "How far a step has read its source", "bookmarks",
                query=FRESHNESS, response="Bookmark", statuses=(200, 304),
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with bookmarks by pipeline and step."""
        limit, cursor = listing(request)
        await fresh(request, self._needs, "bookmark")
        tenant, pipeline = principal(request).tenant, request.query.get("pipeline")
        page = await self._needs.store.bookmarks(tenant, pipeline, False, limit, cursor)
        await complete(request, self._needs, "bookmark")
        return many(request, page)

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one bookmark."""
        pipeline, step = request.match_info["pipeline"], request.match_info["step"]
        await fresh(request, self._needs, "bookmark")
        row = await self._needs.store.bookmark(principal(request).tenant, pipeline, step)
        await complete(request, self._needs, "bookmark")
        return one(request, row, "bookmark", f"{pipeline}/{step}")
