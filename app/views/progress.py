"""How far the steps at work are: heartbeats are no events, so only the memory of the run's owner knows."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from app.ports import Memory, Row
from app.security import principal
from app.views.owner import OwnerReads

_PATIENCE_S = 0.3
_FIELDS = ("records_in", "records_out", "records_rejected", "bytes", "percent")


class LiveProgress:
    """Adds to a run's row what its owner heard last. A run without owner is shown as its events tell it."""

    def __init__(self, memory: Memory, owner: OwnerReads) -> None:
        self._memory = memory
        self._owner = owner

    async def added(self, request: web.Request, row: Row) -> Row:
        """Return the row with the newest counts of the steps at work; the row itself when there are none.

        Takes at most 0.3 s, when the owner does not answer.
        """
        working = [step["name"] for step in row["steps"] if step["status"] == "running"]
        if not working or row["ended_at"] is not None:
            return row
        known = await self._known(request, row["id"], working)
        steps = [_advanced(step, known.get(step["name"])) for step in row["steps"]]
        return {**row, "steps": steps}

    async def _known(self, request: web.Request, run_id: str, names: list[str]) -> Mapping[str, Any]:
        held = self._memory.held(principal(request).tenant, "run", run_id)
        if held is not None and not held.stale:
            steps = {} if held.state is None else held.state.steps
            shown: Mapping[str, Any] = self._memory.shown({one: steps[one] for one in names if one in steps})
            return shown
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        try:
            async with asyncio.timeout_at(deadline):
                reply = await self._owner.ask(
                    request, "run", run_id, f"/v1/aggregates/run/{run_id}", deadline
                )
        except TimeoutError:
            return {}
        if reply is None or reply.status != web.HTTPOk.status_code:
            return {}
        found: Mapping[str, Any] = orjson.loads(reply.body)["state"]["steps"]
        return found


def _advanced(step: Row, known: Mapping[str, Any] | None) -> Row:
    """Return the step as far as it is known to be, if it is the same attempt that both speak of."""
    if known is None or (known["status"], known["attempt"]) != (step["status"], step["attempt"]):
        return step
    return {**step, **{field: known[field] for field in _FIELDS}, "progress": known["progress"] or None}
