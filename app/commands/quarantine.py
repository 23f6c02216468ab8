"""Writes on quarantine: send a record again."""

from aiohttp import web

from app.commands.bodies import EmptyBody, read_body
from app.errors import not_found
from app.ports import WriteDependencies
from app.routes import Route
from app.security import principal


class QuarantineCommands:
    """Handler of ``POST /v1/quarantine/{topic}/{partition}/{offset}/redrive``."""

    def __init__(self, needs: WriteDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        path = "/v1/quarantine/{topic}/{partition}/{offset}/redrive"
        summary = "Send the record again, under a new command id"
        return (
            Route(
                "POST", path, self.redrive, "redriveRecord", summary, "quarantine",
                body="Empty", response="Redrive", statuses=(202,),
            ),
        )  # fmt: skip

    async def redrive(self, request: web.Request) -> web.Response:
        """Send the record again; its new outcome is under the new command id."""
        await read_body(request, EmptyBody)
        who = principal(request)
        topic, partition, offset = (request.match_info[part] for part in ("topic", "partition", "offset"))
        if not (partition.isdigit() and offset.isdigit()):
            raise not_found("quarantined record", f"{topic}/{partition}/{offset}")
        sent = await self._needs.redriver.redrive((topic, int(partition), int(offset)), who.tenant, who.actor)
        return web.json_response(sent, status=202, headers={"Location": f"/v1/commands/{sent['command_id']}"})
