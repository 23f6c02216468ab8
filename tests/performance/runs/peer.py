"""Prefect beside us: its own server with SQLite, as its documentation starts it, and flows whose tasks do nothing."""

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from deploy.local.paths import cache_dir
from tests.performance.environments import peer_python

_JOB = Path(__file__).with_name("prefect_job.py")
_READY_S = 120
_TIMEOUT_S = 300
_RUNS = 60


def measure() -> dict[str, Any]:
    """Return its one-task flows per second, the best of three degrees of concurrency, and seconds for forty tasks.

    Blocking. Raises Unavailable when it cannot be installed, RuntimeError when it does not work.
    """
    python = peer_python("prefect", cache_dir())
    with tempfile.TemporaryDirectory() as home, socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        held.close()
        environ = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PREFECT_HOME": home,
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        }
        command = [
            str(python),
            "-m",
            "prefect",
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        server = subprocess.Popen(
            command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            _await(environ["PREFECT_API_URL"] + "/health", server)
            found = [_job(python, environ, concurrent) for concurrent in (1, 8, 32)]
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    best: dict[str, Any] = max(found, key=lambda one: one["runs_per_s"])
    return {**best, "one_step_runs": _RUNS, "chain_s": [took for one in found for took in one["chain_s"]]}


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the Prefect server does not start") from None
            time.sleep(0.2)


def _job(python: Path, environ: dict[str, str], concurrent: int) -> dict[str, Any]:
    done = subprocess.run(
        [python, _JOB, str(_RUNS), str(concurrent)],
        env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"Prefect: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found
