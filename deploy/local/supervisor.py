"""The stack's parent process: in the foreground of a terminal, or detached from it.

Detached, the parent is `python -m deploy.local.supervisor SETTINGS`; it reports to whoever started it over a
pipe, one JSON object a line: {"say": line}, then {"ready": description} or {"failed": {...}}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.local import stack
from deploy.local.failures import DataDirLocked, LocalStackError, ServiceFailed
from deploy.local.process import log_tail
from deploy.local.stack import PARENT_LOG, Progress, Stack, StackSettings

DOWN_TIMEOUT_S = 45


class _Asked(BaseException):
    """The parent was told to stop (SIGTERM, SIGINT, or the terminal closed)."""


def run(settings: StackSettings, progress: Progress, ready: Callable[[dict[str, Any]], None]) -> None:
    """Run a stack until SIGTERM or SIGINT; a second signal kills at once. Main thread only; blocks.

    `ready` is called once, with the stack's description. Raises LocalStackError when it does not start.
    """
    local = Stack(settings, progress)

    def ask(*_: object) -> None:
        for known in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(known, lambda *_: local.kill())
        raise _Asked

    for known in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(known, ask)
    with suppress(_Asked), local.running():
        ready(local.description())
        local.watch(until=lambda: False)


def detach(settings: StackSettings, progress: Progress) -> dict[str, Any]:
    """Start a stack whose parent outlives this process; return its description once it is ready. Blocks.

    Raises LocalStackError when it does not start; interrupted, it takes the stack down again.
    """
    logs = settings.data_dir / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        output = (logs / PARENT_LOG).open("ab")
    except OSError as error:
        raise LocalStackError(
            f"{error.filename} cannot be used: {error.strerror}.", "Choose another folder by --data-dir."
        ) from error
    read_end, write_end = os.pipe()
    with output, os.fdopen(read_end, encoding="utf-8") as reports:
        child = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.supervisor", _encoded(settings), str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
            start_new_session=True,
        )
        os.close(write_end)
        try:
            for line in reports:
                report = json.loads(line)
                if "say" in report:
                    progress(report["say"])
                elif "ready" in report:
                    description: dict[str, Any] = report["ready"]
                    return description
                else:
                    child.wait()
                    raise _decoded(report["failed"])
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            raise
    raise ServiceFailed(
        "The stack's parent process ended.",
        f"Its log says why: {logs / PARENT_LOG}",
        log_tail(logs / PARENT_LOG),
    )


def down(data_dir: Path, progress: Progress) -> bool:
    """Stop the stack of `data_dir`, whoever started it; False when none was running. Blocks until it is gone."""
    pid = stack.owner(data_dir)
    if pid is None:
        return False
    progress(f"stopping the stack of {data_dir}")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while stack.owner(data_dir) == pid:
        if time.monotonic() > deadline:
            progress(f"it did not stop within {DOWN_TIMEOUT_S} s; killing it")
            os.kill(pid, signal.SIGKILL)  # its children die with it
            deadline = time.monotonic() + DOWN_TIMEOUT_S
        time.sleep(0.05)
    (data_dir / "stack.json").unlink(missing_ok=True)
    return True


def _encoded(settings: StackSettings) -> str:
    return json.dumps({key: str(v) if isinstance(v, Path) else v for key, v in asdict(settings).items()})


def _settings(text: str) -> StackSettings:
    given: dict[str, Any] = json.loads(text)
    project = given.pop("project")
    return StackSettings(
        data_dir=Path(given.pop("data_dir")), project=Path(project) if project else None, **given
    )


def _decoded(failure: dict[str, Any]) -> LocalStackError:
    kind = DataDirLocked if failure["locked"] else LocalStackError
    return kind(failure["cause"], failure["fix"], tuple(failure["log_tail"]))


class _Reports:
    """The end of the pipe in the detached parent; silent once whoever listened has gone."""

    def __init__(self, pipe: int) -> None:
        os.set_inheritable(pipe, False)
        self._pipe: int | None = pipe

    def say(self, line: str) -> None:
        """Log a line and report it."""
        print(line, flush=True)
        self._send({"say": line})

    def ready(self, description: dict[str, Any]) -> None:
        """Report success, the last report there is."""
        self._send({"ready": description})
        self._close()

    def failed(self, error: LocalStackError) -> None:
        """Log a failure and report it, the last report there is."""
        print(error, flush=True)
        locked = isinstance(error, DataDirLocked)
        failure = {"cause": error.cause, "fix": error.fix, "log_tail": error.log_tail, "locked": locked}
        self._send({"failed": failure})
        self._close()

    def _send(self, report: dict[str, Any]) -> None:
        if self._pipe is not None:
            try:
                os.write(self._pipe, (json.dumps(report) + "\n").encode())
            except BrokenPipeError:
                self._close()

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def _main(text: str, pipe: int) -> int:
    reports = _Reports(pipe)
    try:
        run(_settings(text), reports.say, reports.ready)
    except LocalStackError as error:
        reports.failed(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], int(sys.argv[2])))
