"""Writes on pipelines: apply, pause, resume, delete, start a run."""

import json
from functools import partial
from typing import Any

from aiohttp import web

from app.commands.bodies import EmptyBody, ReasonBody, StartRunBody, read_body, read_document
from app.commands.submit import Submitter, command_id
from app.errors import problem
from app.ports import Order, WriteDependencies
from app.routes import Query, Route
from app.security import principal
from streams.cron import mistake
from streams.domain import definition, identity
from streams.expressions import LANGUAGE

_TAG = "pipelines"


class PipelineCommands:
    """Handlers of ``POST|PUT|DELETE /v1/pipelines…``."""

    def __init__(self, needs: WriteDependencies, submitter: Submitter) -> None:
        self._needs = needs
        self._submitter = submitter

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        one = "/v1/pipelines/{name}"
        files = dict.fromkeys(("application/json", "application/yaml"), "PipelineFile")
        applied = partial(Route, tag=_TAG, bodies=files, response="Pipeline", statuses=(200, 201, 202))
        changed = partial(Route, tag=_TAG, response="Pipeline", statuses=(200, 202))
        started = partial(Route, tag="runs", body="StartRun", response="Run", statuses=(201, 202))
        summary = "Create a pipeline, or give it a new version"
        return (
            applied("POST", "/v1/pipelines", self.create, "createPipeline", summary),
            applied("PUT", one, self.apply, "applyPipeline", summary),
            changed(
                "DELETE",
                one,
                self.delete,
                "deletePipeline",
                "Forget a pipeline that is not in use; its runs stay",
                query=(
                    Query("force", "Also while runs of it are at work, or others name it", choices=("true",)),
                ),
            ),
            changed("POST", f"{one}/pause", self.pause, "pausePipeline", "Start no more runs", body="Reason"),
            changed("POST", f"{one}/resume", self.resume, "resumePipeline", "Start runs again", body="Empty"),
            started(
                "POST", f"{one}/runs", self.start, "startRun", "Start a run of the pipeline's current version"
            ),
        )

    async def create(self, request: web.Request) -> web.Response:
        """Apply the pipeline that the body names."""
        return await self._apply(request, await read_document(request), None)

    async def apply(self, request: web.Request) -> web.Response:
        """Apply the pipeline in the body under the name in the path."""
        return await self._apply(request, await read_document(request), request.match_info["name"])

    async def delete(self, request: web.Request) -> web.Response:
        """Forget the pipeline. While it is in use only with ``force``: a guard against mistakes, as the views know it."""
        name, tenant = request.match_info["name"], principal(request).tenant
        if "force" not in request.query and (users := await self._needs.resources.users(tenant, name)):
            raise problem("in_use", f"Pipeline {name} is in use: {'; '.join(users)}.")
        return await self._change(request, "DeletePipeline", {})

    async def pause(self, request: web.Request) -> web.Response:
        """Start no more runs."""
        return await self._change(
            request, "PausePipeline", {"reason": (await read_body(request, ReasonBody)).reason}
        )

    async def resume(self, request: web.Request) -> web.Response:
        """Start runs again."""
        await read_body(request, EmptyBody)
        return await self._change(request, "ResumePipeline", {})

    async def start(self, request: web.Request) -> web.Response:
        """Start a run; the answer is the run. Its id follows from the body's ``key``, else from the command id."""
        body = await read_body(request, StartRunBody)
        name, tenant = request.match_info["name"], principal(request).tenant
        if body.key is not None and not 0 < len(body.key) <= 200:
            raise problem(
                "invalid", "key must have 1 to 200 characters.", [{"pointer": "/key", "detail": "its length"}]
            )
        chosen = command_id(request)
        if body.key and "Idempotency-Key" not in request.headers:
            # A start under a key is one command, so that posting it again is answered by the first outcome.
            chosen = identity.run_id(tenant, name, body.key)
        run_id = identity.run_id(tenant, name, body.key or chosen)
        data = {
            "run_id": None,
            "key": body.key,
            "input": json.dumps(body.input, separators=(",", ":"), ensure_ascii=False),
            "full_refresh": body.full_refresh,
            "priority": body.priority,
            "trigger": "api",
            "slot": None,
        }
        return await self._submitter.answer(
            request,
            Order("pipeline", name, "StartRun", data, chosen),
            lambda: self._needs.resources.run(tenant, run_id),
            created=lambda _outcome: True,
            location=f"/v1/runs/{run_id}",
            other=True,
        )

    async def _apply(self, request: web.Request, document: Any, name: str | None) -> web.Response:
        faults = definition.problems(document, mistake, LANGUAGE)
        if faults:
            errors = [{"pointer": fault.path, "detail": fault.message, "fix": fault.fix} for fault in faults]
            count = "one mistake" if len(faults) == 1 else f"{len(faults)} mistakes"
            raise problem("invalid", f"The pipeline file has {count}.", errors)
        own = document["metadata"]["name"]
        if name is not None and name != own:
            error = {
                "pointer": "metadata.name",
                "detail": f"is {own!r}",
                "fix": f"write {name!r}, or change the path",
            }
            raise problem("invalid", f"The file is about {own!r}, the path about {name!r}.", [error])
        order = Order(
            "pipeline",
            own,
            "ApplyPipeline",
            {"definition": definition.canonical(document)},
            command_id(request),
        )
        tenant = principal(request).tenant
        return await self._submitter.answer(
            request,
            order,
            lambda: self._needs.resources.pipeline(tenant, own),
            created=lambda outcome: outcome["first_version"] == 1,
            location=f"/v1/pipelines/{own}",
        )

    async def _change(self, request: web.Request, kind: str, body: dict[str, Any]) -> web.Response:
        name, tenant = request.match_info["name"], principal(request).tenant
        return await self._submitter.answer(
            request,
            Order("pipeline", name, kind, body, command_id(request)),
            lambda: self._needs.resources.pipeline(tenant, name),
        )
