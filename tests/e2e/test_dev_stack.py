"""`flexcore dev` as a person uses it, in a project folder of its own, with services only (nodes have tests of their own)."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka.admin import AdminClient

FLEXCORE = [sys.executable, "-m", "app"]


def _dev(folder: Path, *words: str, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FLEXCORE, "dev", *words], cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )


def _processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that names the folder in its command line or works in it."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(folder) in words or str(process.info["cwd"] or "").startswith(str(folder)):
            found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def _gone(folder: Path, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while _processes_of(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project's folder; whatever a test left running in it is taken down."""
    (tmp_path / "flexcore.toml").write_text("")
    yield tmp_path
    _dev(tmp_path, "down", "--wipe")


def test_a_detached_stack_is_up_when_the_command_returns_and_gone_after_down(project: Path) -> None:
    """Up, status, a second up refused, logs, down, wipe: each says what is so, by text and by exit code."""
    up = _dev(project, "up", "--nodes", "0", "--detach", "-o", "json")
    assert up.returncode == 0, up.stderr
    stack = json.loads(up.stdout)
    assert list(stack) == ["kafka", "postgres", "registry", "connect", "nodes", "data_dir"]
    assert "Apache Kafka 4.3.1 is ready" in up.stderr
    assert (
        len(AdminClient({"bootstrap.servers": stack["kafka"]["bootstrap"]}).list_topics(timeout=10).brokers)
        == 1
    )
    with psycopg.connect(stack["postgres"]["url"]) as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)

    (project / "below").mkdir()
    status = _dev(project / "below", "status", "-o", "json")
    assert json.loads(status.stdout) == stack

    again = _dev(project, "up", "--detach")
    assert again.returncode == 4
    assert "already running" in again.stderr
    assert "flexcore dev down" in again.stderr

    logs = _dev(project, "logs", "postgres", "--lines", "3")
    assert "ready to accept connections" in logs.stdout
    assert _dev(project, "logs", "nonsense").returncode == 3

    down = _dev(project, "down", "--wipe")
    assert down.returncode == 0
    assert _gone(project, 1)
    assert not (project / ".flexcore").exists()
    assert _dev(project, "status").returncode == 3


def test_children_die_with_a_parent_that_is_killed(project: Path) -> None:
    """SIGKILL of the parent leaves no process, and nothing claims to run."""
    assert _dev(project, "up", "--nodes", "0", "--detach").returncode == 0
    parent = json.loads((project / ".flexcore" / "stack.json").read_text())["supervisor"]
    os.kill(parent, signal.SIGKILL)
    assert _gone(project, 10)
    assert _dev(project, "status").returncode == 3


def test_ctrl_c_in_a_terminal_stops_everything(project: Path) -> None:
    """In the foreground the stack lives until SIGINT, and then leaves nothing behind."""
    ours, theirs = pty.openpty()
    stack = subprocess.Popen(
        [*FLEXCORE, "dev", "up", "--nodes", "0"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 90
    while b"the stack is up" not in seen and time.monotonic() < deadline:
        seen += os.read(ours, 4096)
    stack.send_signal(signal.SIGINT)
    stdout, _ = stack.communicate(timeout=40)
    os.close(ours)
    assert stack.returncode == 0
    assert "Kafka\t127.0.0.1:" in stdout
    assert _gone(project, 1)


def test_what_cannot_start_says_why_and_what_to_do(project: Path) -> None:
    """A data directory that is a file, and a broken broker: one sentence, a way out, no traceback."""
    (project / "taken").write_text("")
    up = _dev(project, "up", "--data-dir", "taken", "--detach")
    assert up.returncode == 1
    assert "cannot be used" in up.stderr
    assert "--data-dir" in up.stderr
    broker = project / ".flexcore" / "kafka" / "broker-1"
    broker.mkdir(parents=True)
    (broker / "data").write_text("")
    up = _dev(project, "up", "--detach", "--nodes", "0")
    assert up.returncode == 1
    assert "error: Kafka's storage could not be formatted" in up.stderr
    assert "try: " in up.stderr
    assert "Traceback" not in up.stderr
    assert _gone(project, 5)
