"""Writes on runs and their steps: cancel, pause, resume, rerun, signals, approvals, skips."""

from functools import partial
from typing import Any

from aiohttp import web

from app.commands.bodies import CancelBody, EmptyBody, NoteBody, ReasonBody, RerunBody, SignalBody, read_body
from app.commands.submit import Submitter, command_id
from app.ports import Order, WriteDependencies
from app.routes import Route
from app.security import principal
from streams.domain import identity
from streams.domain.definition import compact


class RunCommands:
    """Handlers of ``POST /v1/runs/{id}/…``."""

    def __init__(self, needs: WriteDependencies, submitter: Submitter) -> None:
        self._needs = needs
        self._submitter = submitter

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        one = "/v1/runs/{id}"
        changed = partial(Route, "POST", tag="runs", response="Run", statuses=(200, 202))
        again = partial(Route, "POST", tag="runs", response="Run", statuses=(201, 202))
        return (
            changed(
                f"{one}/cancel",
                self.cancel,
                "cancelRun",
                "Stop the run and everything it executes",
                body="Cancel",
            ),
            changed(f"{one}/pause", self.pause, "pauseRun", "Offer no further steps", body="Reason"),
            changed(f"{one}/resume", self.resume, "resumeRun", "Offer steps again", body="Empty"),
            again(f"{one}/rerun", self.rerun, "rerunRun", "Run it again, whole or from a step", body="Rerun"),
            changed(f"{one}/signal", self.signal, "signalRun", "Tell it what a step waits for", body="Signal"),
            changed(
                f"{one}/signals/{{name}}", self.signal_named, "signalRunByName",
                "Tell it what a step waits for; the body is the payload", body="Any",
            ),
            changed(f"{one}/steps/{{step}}/approve", self.approve, "approveStep", "Let it go on", body="Note"),
            changed(f"{one}/steps/{{step}}/reject", self.reject, "rejectStep", "Refuse: the step fails", body="Note"),
            changed(f"{one}/steps/{{step}}/skip", self.skip, "skipStep", "Leave it out, and go on", body="Reason"),
        )  # fmt: skip

    async def cancel(self, request: web.Request) -> web.Response:
        """Stop the run and everything it executes; its ``finally`` steps are done, unless that too is stopped."""
        body = await read_body(request, CancelBody)
        return await self._change(request, "CancelRun", {"reason": body.reason, "now": body.now})

    async def pause(self, request: web.Request) -> web.Response:
        """Offer no further steps."""
        return await self._change(
            request, "PauseRun", {"reason": (await read_body(request, ReasonBody)).reason}
        )

    async def resume(self, request: web.Request) -> web.Response:
        """Offer steps again."""
        await read_body(request, EmptyBody)
        return await self._change(request, "ResumeRun", {})

    async def rerun(self, request: web.Request) -> web.Response:
        """Make a new run of an ended one; the answer is the new run."""
        body = await read_body(request, RerunBody)
        old, tenant, chosen = request.match_info["id"], principal(request).tenant, command_id(request)
        new = identity.run_id(tenant, old, chosen)
        return await self._submitter.answer(
            request,
            Order("run", old, "RerunRun", {"run_id": new, "from_step": body.from_step}, chosen),
            lambda: self._needs.resources.run(tenant, new),
            created=lambda _outcome: True,
            location=f"/v1/runs/{new}",
            other=True,
        )

    async def signal(self, request: web.Request) -> web.Response:
        """Tell the run that something has happened which a step waits for, or will wait for."""
        body = await read_body(request, SignalBody)
        return await self._signal(request, body.name, body.payload)

    async def signal_named(self, request: web.Request) -> web.Response:
        """Do the same, for a caller whose body is its own: a web hook."""
        payload = await read_body(request, dict[str, Any])
        return await self._signal(request, request.match_info["name"], payload)

    async def _signal(self, request: web.Request, name: str, payload: dict[str, Any]) -> web.Response:
        return await self._change(request, "SignalRun", {"name": name, "payload": compact(payload)})

    async def approve(self, request: web.Request) -> web.Response:
        """Let the run go on past a step that asks for it."""
        return await self._decide(request, "ApproveStep")

    async def reject(self, request: web.Request) -> web.Response:
        """Refuse: the step fails."""
        return await self._decide(request, "RejectStep")

    async def skip(self, request: web.Request) -> web.Response:
        """Leave a step out that is not at its end; the run goes on as if it were done."""
        reason = (await read_body(request, ReasonBody)).reason
        return await self._change(request, "SkipStep", {"step": request.match_info["step"], "reason": reason})

    async def _decide(self, request: web.Request, kind: str) -> web.Response:
        note = (await read_body(request, NoteBody)).note
        return await self._change(request, kind, {"step": request.match_info["step"], "note": note})

    async def _change(self, request: web.Request, kind: str, body: dict[str, Any]) -> web.Response:
        run_id, tenant = request.match_info["id"], principal(request).tenant
        return await self._submitter.answer(
            request,
            Order("run", run_id, kind, body, command_id(request)),
            lambda: self._needs.resources.run(tenant, run_id),
        )
