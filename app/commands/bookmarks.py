"""Writes on bookmarks by an operator: set, reset."""

import json
from functools import partial
from typing import Any

from aiohttp import web

from app.commands.bodies import BookmarkBody, EmptyBody, read_body
from app.commands.submit import Submitter, command_id
from app.ports import Order, WriteDependencies
from app.routes import Route
from app.security import principal


class BookmarkCommands:
    """Handlers of ``PUT|POST /v1/bookmarks/{pipeline}/{step}…``."""

    def __init__(self, needs: WriteDependencies, submitter: Submitter) -> None:
        self._needs = needs
        self._submitter = submitter

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        one = "/v1/bookmarks/{pipeline}/{step}"
        changed = partial(Route, tag="bookmarks", response="Bookmark", statuses=(200, 202))
        reset = "Make the next run read everything, in a new generation"
        return (
            changed("PUT", one, self.set, "setBookmark", "Move the bookmark by hand", body="SetBookmark"),
            changed("POST", f"{one}/reset", self.reset, "resetBookmark", reset, body="Empty"),
        )

    async def set(self, request: web.Request) -> web.Response:
        """Move the bookmark by hand."""
        bookmark = (await read_body(request, BookmarkBody)).bookmark
        text = json.dumps(bookmark, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return await self._change(request, "SetBookmark", {"bookmark": text})

    async def reset(self, request: web.Request) -> web.Response:
        """Make the next run read everything, in a new generation."""
        await read_body(request, EmptyBody)
        return await self._change(request, "ResetBookmark", {})

    async def _change(self, request: web.Request, kind: str, body: dict[str, Any]) -> web.Response:
        pipeline, step = request.match_info["pipeline"], request.match_info["step"]
        tenant = principal(request).tenant
        return await self._submitter.answer(
            request,
            Order("bookmark", f"{pipeline}/{step}", kind, body, command_id(request)),
            lambda: self._needs.resources.bookmark(tenant, pipeline, step),
        )
