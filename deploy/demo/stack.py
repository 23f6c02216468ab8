"""The demo's stack: `flexcore dev up` in a folder of its own, and how to reach and hurt it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from deploy.demo.outside import CheckFailed, Http, Kafka, check, eventually

PIPELINE = "customer-data-synchronization"
_PROJECT = Path(__file__).parent / "project"
_ENDED = ("succeeded", "failed", "cancelled", "timed_out")


class Stack:
    """A stack of two nodes, started by the product's own command. Everything it writes is below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.customers = folder / "customers.jsonl"
        self.crm_url = self.views_url = self.bootstrap = ""
        self._data = folder / "stack"
        self._client = Http("")

    def start(self) -> dict[str, Any]:
        """Start Kafka, PostgreSQL and the nodes, in a folder wiped of earlier demos; return where they listen."""
        if self._data.exists():
            self.flexcore("dev", "down", "--wipe", "--data-dir", str(self._data), allowed=(0, 1, 3))
        shutil.rmtree(self.project, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(_PROJECT, self.project)
        (self.project / "secrets").mkdir()
        self.flexcore(
            "dev", "up", "--nodes", "2", "--restart", "--detach", "--data-dir", str(self._data), show=True
        )
        status = self.status()
        self.bootstrap, self.views_url = status["kafka"]["bootstrap"], status["postgres"]["url"]
        return status

    def stop(self, wipe: bool) -> None:
        """Stop everything; with ``wipe`` its data and logs go too."""
        self.flexcore("dev", "down", *["--wipe"] * wipe, "--data-dir", str(self._data), allowed=(0, 1, 3))

    def secret(self, name: str, value: str) -> None:
        """Put a secret where the pipeline file refers to it."""
        (self.project / "secrets" / name).write_text(value, encoding="utf-8")

    def make_warehouse(self) -> None:
        """Create the database that the pipeline loads into; it is not the one of the platform's views."""
        with psycopg.connect(self.views_url, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS warehouse WITH (FORCE)")
            connection.execute("CREATE DATABASE warehouse")
        base, _, query = self.views_url.partition("?")
        self.crm_url = base.rsplit("/", 1)[0] + "/warehouse" + (f"?{query}" if query else "")
        self.secret("crm-url", self.crm_url)

    def flexcore(
        self, *words: str, allowed: tuple[int, ...] = (0,), show: bool = False, bootstrap: str = ""
    ) -> str:
        """Run the product's command as a user would; return its standard output."""
        environ = {**os.environ, "DEMO_CUSTOMERS": str(self.customers), "NO_COLOR": "1"}
        environ.pop("FLEXCORE_URL", None)
        if bootstrap:
            environ |= {"FLEXCORE_KAFKA_BOOTSTRAP": bootstrap, "FLEXCORE_REGISTRY_URL": self.registry().url}
        command = [sys.executable, "-m", "app", "--project", str(self.project), *words]
        done = subprocess.run(
            command,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            check=False,
            timeout=240,
        )
        if done.returncode not in allowed:
            said = "it says why above" if show else (done.stderr or done.stdout).strip()[-800:]
            raise CheckFailed(f"flexcore {' '.join(words)} ended with {done.returncode}: {said}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """Return where everything listens."""
        found: dict[str, Any] = json.loads(
            self.flexcore("dev", "status", "-o", "json", "--data-dir", str(self._data))
        )
        return found

    def cli(self, *words: str, allowed: tuple[int, ...] = (0,)) -> str:
        """Run a command against a node that lives, and for those that read Kafka themselves, the stack's broker."""
        return self.flexcore("--url", self.http().url, *words, allowed=allowed, bootstrap=self.bootstrap)

    def http(self) -> Http:
        """Return a client of a node that answers; the last one, as long as it does."""
        if self._client.url and self._client.body("/health/ready") is not None:
            return self._client

        def living() -> Http | None:
            for node in self.status()["nodes"]:
                if node.get("url") and (client := Http(node["url"])).body("/health/ready") is not None:
                    return client
            return None

        self._client = eventually(living, "no node answers /health/ready", 60, 0.3)
        return self._client

    def kafka(self) -> Kafka:
        """Return a Kafka client of the stack's broker."""
        return Kafka(self.bootstrap, self.registry)

    def registry(self) -> Http:
        """Return a client of a schema registry that answers: every node has one."""

        def living() -> Http | None:
            nodes = (self.http().get("/v1/cluster") or {}).get("nodes", [])
            clients = (Http(node["registry_url"]) for node in nodes if node["registry_url"])
            return next((client for client in clients if client.body("/subjects") is not None), None)

        return eventually(living, "no schema registry answers", 30, 0.3)

    def kill(self, name: str) -> None:
        """End a node by SIGKILL."""
        node = next(node for node in self.status()["nodes"] if node["name"] == name)
        os.kill(node["pid"], signal.SIGKILL)

    def start_run(self, *options: str) -> str:
        """Start a run by the command line; return its id."""
        return self.cli("-o", "name", "run", "start", PIPELINE, *options).strip().rsplit("/", 1)[-1]

    def ended(self, run: str, status: str, timeout_s: float = 90) -> dict[str, Any]:
        """Wait until the run has ended, check how, and return it."""

        def over() -> dict[str, Any] | None:
            found = self.http().get(f"/v1/runs/{run}")
            return found if found and found["status"] in _ENDED else None

        found = eventually(over, f"run {run} has not ended", timeout_s)
        errors = [f"{step['name']}: {step['error']}" for step in found["steps"] if step["error"]]
        check(found["status"] == status, f"run {run} {found['status']}, not {status}: {errors}")
        return found

    def warehouse(self) -> dict[int, tuple[Any, ...]]:
        """Return what is in the warehouse's table, by its own client: id -> row."""
        with psycopg.connect(self.crm_url) as connection:
            try:
                rows = connection.execute(
                    "SELECT id, name, email, country, revision FROM customers"
                ).fetchall()
            except psycopg.errors.UndefinedTable:
                return {}
        return {row[0]: tuple(row) for row in rows}
