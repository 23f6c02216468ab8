"""A real node as a child process, and the two ways people speak to it: HTTP and the command line."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from app.cli import main
from tests.support.described import assert_described, path_of

_READY_S = 60.0
ENDED = ("succeeded", "failed", "cancelled", "timed_out")
FLEXCORE = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "app"]
"""The command line, of the modules that this process takes."""
_NOT_INHERITED = ("FLEXCORE_", "PYTHONSAFEPATH")  # users' programs find the modules beside them


@dataclass(slots=True)
class Reply:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class NodeProcess:
    """One node; everything it is told comes by its environment. ``started`` are the processes of all."""

    started: ClassVar[list[subprocess.Popen[bytes]]] = []
    folder: Path
    settings: Mapping[str, str]
    argv: Sequence[str] = (*FLEXCORE, "node", "run")
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    document: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def environ(self) -> dict[str, str]:
        """The child's environment: this one's, without settings of ours, and those given."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        return {**inherited, **self.settings, "FLEXCORE_DATA_DIR": str(self.folder / "data")}

    def start(self, *, ready: bool = True) -> None:
        """Start it and wait until it listens, and, with ``ready``, until every part of it works."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        log = (self.folder / "node.log").open("ab")
        self.process = subprocess.Popen(self.argv, env=self.environ, stderr=log, stdout=log)
        self.started.append(self.process)
        log.close()
        found = self.folder / "data" / "node.json"
        eventually(found.exists, _READY_S, lambda: f"the node does not listen:\n{self.log()}", self._alive)
        self.url = json.loads(found.read_text())["url"]
        if ready:
            eventually(
                self._ready,
                _READY_S,
                lambda: f"{self.call('GET', '/health').body}\n{self.log()}",
                self._alive,
            )
            self.document = self.call("GET", "/v1/openapi.json").body

    def stop(self) -> int:
        """Send SIGTERM, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """Return the end of what it wrote."""
        return (self.folder / "node.log").read_text()[-4000:]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Do one request; an answer that is not as described fails the test."""
        data = json.dumps(body).encode() if body is not None else None
        given = {
            "Content-Type": "application/json",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        request = urllib.request.Request(self.url + path, data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, found, text = answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            status, found, text = error.code, dict(error.headers), error.read()
        reply = Reply(
            status, found, json.loads(text) if "json" in found.get("Content-Type", "") else text.decode()
        )
        if self.document and "json" in found.get("Content-Type", ""):
            url = path.partition("?")[0]
            assert_described(self.document, method, path_of(self.document, method, url), status, reply.body)
        return reply

    def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Do one request that must succeed, and return its body."""
        reply = self.call(method, path, body, **headers)
        assert reply.status < 300, f"{method} {path}: {reply.status} {reply.body}"
        return reply.body

    def cli(self, *argv: str, code: int = 0) -> str:
        """Run ``flexcore`` against this node; return stdout, and stderr when another exit code than 0 is expected.

        In this process: one of its own, as ``program`` has it, costs more than most commands themselves.
        """
        out, err = io.StringIO(), io.StringIO()
        environ = {**self.environ, "FLEXCORE_URL": self.url}
        with patch.dict(os.environ, environ, clear=True), redirect_stdout(out), redirect_stderr(err):
            ended = main.run(argv)
        return _said(argv, ended, out.getvalue(), err.getvalue(), code)

    def program(self, *argv: str, code: int = 0) -> str:
        """Do the same as a person does: by a process of its own."""
        done = subprocess.run(
            [*FLEXCORE, *argv],
            env={**self.environ, "FLEXCORE_URL": self.url},
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        return _said(argv, done.returncode, done.stdout, done.stderr, code)

    def printed(self, run_id: str, step: str, text: str) -> str:
        """Return a step's lines in the run's log once this text is among them: the log may be behind the run's end."""
        said = ""

        def there() -> bool:
            nonlocal said
            said = self.cli("run", "logs", run_id, step)
            return text in said

        eventually(there, 20, lambda: f"{text!r} is not in {said!r}")
        return said

    def apply(self, name: str, steps: list[dict[str, Any]], **spec: Any) -> None:
        """Apply a pipeline of these steps."""
        document = {
            "apiVersion": "flexcore/v1",
            "kind": "Pipeline",
            "metadata": {"name": name},
            "spec": {"steps": steps, **spec},
        }
        self.ok("PUT", f"/v1/pipelines/{name}", document)

    def run(self, name: str, **body: Any) -> str:
        """Start a run and return its id."""
        return str(self.ok("POST", f"/v1/pipelines/{name}/runs", body)["id"])

    def ended(self, run_id: str, timeout_s: float = 90.0) -> dict[str, Any]:
        """Wait until the run has ended, and return it."""
        return self.until(run_id, lambda run: run["status"] in ENDED, timeout_s)

    def until(
        self, run_id: str, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 90.0
    ) -> dict[str, Any]:
        """Wait until something holds of the run, and return it. One that another aggregate asked for may not be there yet."""
        seen: dict[str, Any] = {}

        def there() -> bool:
            reply = self.call("GET", f"/v1/runs/{run_id}")
            assert reply.status in (200, 404), reply
            if reply.status == 200:
                seen.update(reply.body)
            return reply.status == 200 and holds(seen)

        eventually(there, timeout_s, lambda: f"{json.dumps(seen)}\n{self.log()}", self._alive)
        return seen

    def _ready(self) -> bool:
        return self.call("GET", "/health/ready").status == 200

    def _alive(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, (
            f"the node has ended with {self.process.returncode}:\n{self.log()}"
        )


def _said(argv: tuple[str, ...], ended: int, out: str, err: str, code: int) -> str:
    assert ended == code, f"flexcore {' '.join(argv)}: {ended}\n{out}\n{err}"
    assert "Traceback" not in err
    return out if code == 0 else err


def eventually(
    holds: Callable[[], bool],
    timeout_s: float,
    complaint: Callable[[], str],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Wait until ``holds()``; fail with ``complaint()`` after ``timeout_s``, or at once when ``check()`` fails."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        check()
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.1)


def steps_of(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the status of each step."""
    return {step["name"]: step["status"] for step in run["steps"]}
