"""Writes on schedules: trigger, pause, resume."""

from functools import partial
from typing import Any

from aiohttp import web

from app.commands.bodies import EmptyBody, ReasonBody, read_body
from app.commands.submit import Submitter, command_id
from app.ports import Order, WriteDependencies
from app.routes import Route
from app.security import principal


class ScheduleCommands:
    """Handlers of ``POST /v1/schedules/{pipeline}/…``."""

    def __init__(self, needs: WriteDependencies, submitter: Submitter) -> None:
        self._needs = needs
        self._submitter = submitter

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        one = "/v1/schedules/{pipeline}"
        changed = partial(Route, "POST", tag="schedules", response="Schedule", statuses=(200, 202))
        return (
            changed(f"{one}/trigger", self.trigger, "triggerSchedule", "Fire once, now", body="Empty"),
            changed(f"{one}/pause", self.pause, "pauseSchedule", "Fire no more", body="Reason"),
            changed(
                f"{one}/resume", self.resume, "resumeSchedule", "Fire again from the next slot", body="Empty"
            ),
        )

    async def trigger(self, request: web.Request) -> web.Response:
        """Fire once, now."""
        await read_body(request, EmptyBody)
        return await self._change(request, "TriggerSchedule", {})

    async def pause(self, request: web.Request) -> web.Response:
        """Fire no more."""
        return await self._change(
            request, "PauseSchedule", {"reason": (await read_body(request, ReasonBody)).reason}
        )

    async def resume(self, request: web.Request) -> web.Response:
        """Fire again, from the next slot after now."""
        await read_body(request, EmptyBody)
        return await self._change(request, "ResumeSchedule", {})

    async def _change(self, request: web.Request, kind: str, body: dict[str, Any]) -> web.Response:
        pipeline, tenant = request.match_info["pipeline"], principal(request).tenant
        return await self._submitter.answer(
            request,
            Order("schedule", pipeline, kind, body, command_id(request)),
            lambda: self._needs.resources.schedule(tenant, pipeline),
        )
