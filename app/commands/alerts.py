"""Writes on alerts: somebody looks after an incident, or ends it."""

from functools import partial

from aiohttp import web

from app.commands.bodies import NoteBody, read_body
from app.commands.submit import Submitter, command_id
from app.ports import Order, WriteDependencies
from app.routes import Route
from app.security import principal


class AlertCommands:
    """Handlers of ``POST /v1/alerts/{pipeline}/incidents/{incident}/…``."""

    def __init__(self, needs: WriteDependencies, submitter: Submitter) -> None:
        self._needs = needs
        self._submitter = submitter

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        one = "/v1/alerts/{pipeline}/incidents/{incident}"
        changed = partial(Route, "POST", tag="alerts", response="Alert", body="Note", statuses=(200, 202))
        return (
            changed(f"{one}/acknowledge", self.acknowledge, "acknowledgeIncident", "Somebody looks after it"),
            changed(f"{one}/resolve", self.resolve, "resolveIncident", "It is over"),
        )

    async def acknowledge(self, request: web.Request) -> web.Response:
        """Somebody looks after it."""
        return await self._change(request, "AcknowledgeIncident")

    async def resolve(self, request: web.Request) -> web.Response:
        """It is over, says a person."""
        return await self._change(request, "ResolveIncident")

    async def _change(self, request: web.Request, kind: str) -> web.Response:
        note = (await read_body(request, NoteBody)).note
        pipeline, tenant = request.match_info["pipeline"], principal(request).tenant
        body = {"incident": request.match_info["incident"], "note": note}
        return await self._submitter.answer(
            request,
            Order("alert", pipeline, kind, body, command_id(request)),
            lambda: self._needs.resources.alert(tenant, pipeline),
        )
