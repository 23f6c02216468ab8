"""A worker, a schema registry over HTTP and runners in one process: enough of a node to run pipelines."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from connectors.runners.runner import Runner
from connectors.runners.settings import RunnerSettings
from connectors.sdk.commands import CommandClient
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.parsing import parse_text, text_of
from schemas.registry import MemoryRegistry
from schemas.topics import Topics
from streams.aggregates import builtin
from streams.domain.definition import canonical
from streams.provision import provision
from streams.reactors import REACTORS
from streams.settings import WorkerSettings
from streams.worker import create_worker
from tests.support.truth import read

SHARDS = 4


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class RegistryServer:
    """A memory registry behind the few routes that ``HttpRegistry`` asks."""

    def __init__(self, registry: MemoryRegistry) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = [unquote(part) for part in self.path.split("/")]
                if parts[1] == "schemas":
                    return self._say(200, {"schema": text_of(registry.schema(int(parts[3])))})
                found = registry.latest(parts[2])
                if found is None:
                    return self._say(404, {"error_code": 40401, "message": "no such subject"})
                return self._say(200, {"id": found[0], "schema": text_of(found[1])})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                subject = unquote(self.path.split("/")[2])
                self._say(200, {"id": registry.register(subject, parse_text(body["schema"], {}))})

            def _say(self, status: int, answer: dict[str, Any]) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
                """Say nothing."""

        self.server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Platform:
    """What a test may do with it."""

    bootstrap: str
    prefix: str
    folder: Path
    codec: Codec
    registry_url: str
    client: CommandClient
    environ: dict[str, str]
    runners: list[Runner] = field(default_factory=list)

    @property
    def project(self) -> Path:
        """The user's project folder."""
        return self.folder / "project"

    def settings(self, node: str = "n1", **more: Any) -> RunnerSettings:
        """The settings of a runner."""
        return RunnerSettings(
            kafka={"bootstrap.servers": self.bootstrap},
            cluster=self.prefix,
            node=node,
            registry_url=self.registry_url,
            project_dir=self.project,
            plugins_dir=self.folder / "data" / "plugins",
            prefix=self.prefix,
            shards=SHARDS,
            environ=self.environ,
            **{"kill_grace_s": 1.0, **more},
        )

    async def runner(self, node: str = "n1", **more: Any) -> Runner:
        """Start a runner; it is stopped with the platform."""
        runner = Runner(self.settings(node, **more), self.codec)
        await runner.start()
        self.runners.append(runner)
        return runner

    async def apply(self, name: str, *steps: dict[str, Any]) -> None:
        """Apply a pipeline of these steps."""
        document = {
            "apiVersion": "flexcore/v1",
            "kind": "Pipeline",
            "metadata": {"name": name},
            "spec": {"steps": list(steps)},
        }
        outcome = await self.client.ask(
            "pipeline", name, "ApplyPipeline", {"definition": canonical(document)}, timeout_s=30
        )
        assert outcome is not None
        assert outcome["status"] == "accepted", outcome

    async def start(self, pipeline: str, run: str, **more: Any) -> None:
        """Start a run with this id."""
        outcome = await self.client.ask(
            "pipeline", pipeline, "StartRun", {"run_id": run, **more}, timeout_s=30
        )
        assert outcome is not None
        assert outcome["status"] == "accepted", outcome

    async def ended(self, run: str, timeout_s: float = 60.0) -> dict[str, dict[str, Any]]:
        """Wait until the run has ended; return its last event by step, and its end as ``run``."""
        async with asyncio.timeout(timeout_s):
            while True:
                seen = await asyncio.to_thread(self.events, run)
                if "run" in seen:
                    return seen
                await asyncio.sleep(0.2)

    def events(self, run: str) -> dict[str, dict[str, Any]]:
        """Return the newest event of each step of a run, and RunEnded as ``run``."""
        found: dict[str, dict[str, Any]] = {}
        for record in read(self.bootstrap, Topics(self.prefix).events("run"), SHARDS):
            if record.key.split(b"/")[1] == run.encode():
                name, event = self.codec.decode(record.value)
                kind = name.rpartition(".")[2]
                if "output" in event:
                    event["output"] = orjson.loads(event["output"] or "{}")
                if kind == "RunEnded":
                    found["run"] = {"type": kind, **event}
                elif "step" in event:
                    found[event["step"]] = {"type": kind, **event}
        return found

    async def done(self, run: str, timeout_s: float = 60.0) -> dict[str, dict[str, Any]]:
        """Wait for a run that must succeed."""
        seen = await self.ended(run, timeout_s)
        assert seen["run"]["status"] == "succeeded", seen
        return seen

    def records(self, topic: str, partitions: int = 4) -> list[Any]:
        """Return all committed records of a topic."""
        return read(self.bootstrap, topic, partitions)


@asynccontextmanager
async def platform(bootstrap: str, prefix: str, folder: Path) -> AsyncIterator[Platform]:
    """Start a worker and everything a runner needs."""
    (folder / "project").mkdir(parents=True, exist_ok=True)
    settings = WorkerSettings(
        kafka={"bootstrap.servers": bootstrap},
        cluster=prefix,
        node="w1",
        data_dir=folder / "worker",
        prefix=prefix,
        shards=SHARDS,
    )
    registry, aggregates, catalogue = MemoryRegistry(), builtin(), Catalogue.load()
    await asyncio.to_thread(provision, settings, aggregates)
    worker = create_worker(settings, registry, catalogue, aggregates, REACTORS)
    server = RegistryServer(registry)
    codec = Codec(registry)
    client = CommandClient(
        settings.kafka, codec, Topics(prefix), SHARDS, [aggregate.name for aggregate in aggregates], "test"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("FLEXCORE_")}
    held = Platform(bootstrap, prefix, folder, codec, server.url, client, environ)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    await worker.app.start()
    try:
        await client.start()
        yield held
    finally:
        for runner in held.runners:
            await runner.stop(0.0)
        await client.stop()
        await worker.app.stop()
        server.stop()
