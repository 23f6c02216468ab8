"""Running many runs again: named one by one, a page at a time, so the caller sets the pace."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web

from app.commands.bodies import RerunManyBody, read_body
from app.errors import problem
from app.ports import Order, Row, WriteDependencies
from app.routes import Route
from app.security import Principal, principal
from streams.domain import identity
from streams.domain.run.state import RUN_ENDED

RUNS_MAX = 500
_AT_ONCE = 16
_FAILED = ("failed", "timed_out", "cancelled")


class RerunCommands:
    """Handler of ``POST /v1/runs/rerun``."""

    def __init__(self, needs: WriteDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the route."""
        return (
            Route(
                "POST", "/v1/runs/rerun", self.rerun_many, "rerunRuns",
                "Run up to 500 runs again, each once however often it is asked", "runs", body="RerunMany",
                response="Reruns", one_command=False,
            ),
        )  # fmt: skip

    async def rerun_many(self, request: web.Request) -> web.Response:
        """Run the named runs again; those that go on, or were run again by this before, are held back."""
        body = await read_body(request, RerunManyBody)
        if len(body.runs) > RUNS_MAX:
            raise problem("invalid", f"{len(body.runs)} runs are named; at most {RUNS_MAX} go at once.")
        if body.from_step is not None and body.from_failed:
            raise problem("invalid", "Either from or from_failed, not both.")
        who, turns = principal(request), asyncio.Semaphore(_AT_ONCE)

        async def one(run_id: str) -> Row:
            async with turns:
                return await self._rerun(who, run_id, body)

        items = await asyncio.gather(*(one(run_id) for run_id in dict.fromkeys(body.runs)))
        return web.json_response({"items": items})

    async def _rerun(self, who: Principal, run_id: str, body: RerunManyBody) -> Row:
        command_id = str(uuid5(NAMESPACE_URL, f"{who.tenant}/{run_id}/rerun-of-many"))
        new = identity.run_id(who.tenant, run_id, command_id)
        row = await self._needs.resources.run(who.tenant, run_id)
        again = await self._needs.resources.run(who.tenant, new)
        begin = failed_step(row) if row and body.from_failed else body.from_step
        why_not = held_back(row, begin, again)
        if not why_not and not body.dry_run:
            order = Order(
                "run", run_id, "RerunRun", {"run_id": new, "from_step": begin}, command_id, who.tenant, who.actor
            )  # fmt: skip
            outcome = await self._needs.bus.ask(order, self._needs.limits.wait_default_s)
            if outcome is not None and outcome["status"] != "accepted":
                why_not = outcome["detail"] or outcome["reason"] or outcome["status"]
        done = not why_not and not body.dry_run
        return {
            "id": run_id,
            "done": done,
            "why_not": why_not or None,
            "run": new if done or again else None,
            "from": begin,
        }


def failed_step(run: Mapping[str, Any]) -> str | None:
    """Return the first step that failed; None when none did. What succeeded beside it is kept, what failed is not."""
    return next((step["name"] for step in run["steps"] if step["status"] in _FAILED), None)


def held_back(run: Row | None, begin: str | None, again: Row | None) -> str:
    """Return why a run is not run again, or nothing."""
    if run is None:
        return "there is no such run"
    if run["status"] not in RUN_ENDED:
        return f"it is still {run['status']}"
    if again is not None:
        return f"it was run again already, as {again['id']}"
    if begin is not None and all(step["name"] != begin for step in run["steps"]):
        return f"it has no step {begin!r}"
    return ""
