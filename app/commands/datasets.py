"""Taking up again what a step rejected: a rerun from that step, which reads its rejects too."""

from typing import Any

from aiohttp import web

from app.commands.bodies import RedriveDatasetBody, read_body
from app.commands.submit import Submitter, command_id, pending, prefer
from app.errors import not_found
from app.ports import Order, WriteDependencies
from app.routes import Route
from app.security import principal
from streams.domain import identity


class DatasetCommands:
    """Handler of ``POST /v1/datasets/{pipeline}/{step}/redrive``."""

    def __init__(self, needs: WriteDependencies, submitter: Submitter) -> None:
        self._needs = needs
        self._submitter = submitter

    def routes(self) -> tuple[Route, ...]:
        """Return the route."""
        return (
            Route(
                "POST", "/v1/datasets/{pipeline}/{step}/redrive", self.redrive, "redriveDataset",
                "Take rejected records up again, into the same generation", "datasets", body="RedriveDataset",
                response="DatasetRedrive", statuses=(200, 201, 202),
            ),
        )  # fmt: skip

    async def redrive(self, request: web.Request) -> web.Response:
        """Run again from the step, with its rejects; nothing is begun when none wait, or with ``dry_run``.

        Asked for again under its key it answers with the same run; what waits is counted anew.
        """
        body = await read_body(request, RedriveDatasetBody)
        tenant, pipeline, step = self._place(request)
        row = await self._needs.resources.bookmark(tenant, pipeline, step)
        if row is None or not row["topic_id"]:
            raise not_found("dataset", f"{pipeline}/{step}")
        found, complete = await self._needs.rejects.waiting(tenant, pipeline, step, row["generation"])
        waiting = {run: count for run, count in found.items() if body.run in (None, run)}
        told: dict[str, Any] = {
            "dataset": f"{pipeline}/{step}",
            "generation": row["generation"],
            "records": sum(waiting.values()),
            "complete": complete,
            "runs": [{"id": run, "records": count} for run, count in waiting.items()],
            "run": None,
        }
        chosen = command_id(request)
        # Not by which runs have rejects now: asked for again under its key, it is the same run.
        new = identity.run_id(tenant, f"{pipeline}/{step}", f"{chosen}/{body.run or 'all'}")
        if body.dry_run:
            return web.json_response(told)
        if "Idempotency-Key" in request.headers and await self._needs.resources.run(tenant, new):
            return _begun(told, new)
        if not waiting:
            return web.json_response(told)
        # The newest of the runs: what it read before this step is the dataset as it is now.
        old = body.run or list(waiting)[-1]
        which = {"from_step": step, "redrive": "run" if body.run else "all"}
        order = Order("run", old, "RerunRun", {"run_id": new, **which}, chosen)
        preference = prefer(request, self._needs)
        if await self._submitter.outcome(request, order, preference) is None:
            return pending(order, preference)
        return _begun(told, new)

    @staticmethod
    def _place(request: web.Request) -> tuple[str, str, str]:
        return principal(request).tenant, request.match_info["pipeline"], request.match_info["step"]


def _begun(told: dict[str, Any], run: str) -> web.Response:
    return web.json_response({**told, "run": run}, status=201, headers={"Location": f"/v1/runs/{run}"})
