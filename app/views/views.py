"""The views themselves: how far each is, and folding one anew."""

from aiohttp import web

from app.errors import not_found, problem
from app.ports import Row
from app.routes import Route
from app.views.answers import json_answer
from app.views.ports import ViewDependencies


class ViewViews:
    """Handlers of ``/v1/views…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        return (
            Route(
                "GET", "/v1/views", self.list, "listViews", "The views and how far each is", "views",
                response="ViewList",
            ),
            Route(
                "POST", "/v1/views/{name}/rebuild", self.rebuild, "rebuildView",
                "Fold a view anew from the log; answers when it is switched", "views", response="View",
                statuses=(200, 202), one_command=False,
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with all views."""
        return json_answer({"items": await self._needs.store.status()})

    async def rebuild(self, request: web.Request) -> web.Response:
        """Fold the view anew beside the table in use, then switch; readers notice nothing."""
        name = request.match_info["name"]
        await self._status(name)
        if self._needs.rebuild is None:
            raise problem("unavailable", "This node has no projector; ask a node with the role worker.")
        done = await self._needs.rebuild(name)
        return json_answer(await self._status(name), status=200 if done else 202)

    async def _status(self, name: str) -> Row:
        found = next((view for view in await self._needs.store.status() if view["name"] == name), None)
        if found is None:
            raise not_found("view", name)
        return found
