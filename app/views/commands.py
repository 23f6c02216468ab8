"""What became of a command."""

from aiohttp import web

from app.routes import Route
from app.security import principal
from app.views.answers import complete, json_answer
from app.views.ports import ViewDependencies

_ID_CHARS_MAX = 1_000


class CommandViews:
    """Handler of ``GET /v1/commands/{id}``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the route."""
        return (
            Route(
                "GET", "/v1/commands/{id}", self.get, "getCommand",
                "The outcome of a command: accepted, rejected, failed, or pending", "commands", response="Outcome",
            ),
        )  # fmt: skip

    async def get(self, request: web.Request) -> web.Response:
        """Answer with the outcome; ``pending`` for every id that has none: nobody can tell it from one on its way."""
        command_id = request.match_info["id"][:_ID_CHARS_MAX]
        row = await self._needs.store.command(principal(request).tenant, command_id)
        if row is None:
            await complete(request, self._needs, "command")
            return json_answer({"command_id": command_id, "status": "pending"}, {"Retry-After": "1"})
        token = f"{row['aggregate']}:{row['shard']}:{row['position']}"
        return json_answer({**row, "position": token}, {"Flexcore-Position": token})
