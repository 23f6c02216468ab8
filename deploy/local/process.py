"""A child process with a log file: started in a group of its own, stopped as a group, dead with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.02
_TAIL_BYTES = 64 * 1024


class Process:
    """One child of this process, with its descendants: they share a process group.

    `env` is read at each start. Start it on a thread that lives as long as the child should (the main thread):
    Linux ends the child when that *thread* ends. Not safe to use from several threads at once.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._env = env
        self._cwd = cwd
        self._user = user
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the newest start; 0 before the first."""
        return self._child.pid if self._child else 0

    @property
    def returncode(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs or was never started."""
        return self._child.poll() if self._child else None

    @property
    def running(self) -> bool:
        """Whether the child is alive; a paused one is."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start the program, appending its output to the log; returns at once."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        launch = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(int(self._death_signal))]
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [*launch, self._user or "-", "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    def wait(self, timeout_s: float) -> bool:
        """Wait until the child has ended; False when it still runs after `timeout_s`."""
        if self._child is None:
            return True
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def terminate(self) -> None:
        """Ask the child to end, and wake it if it is paused; returns at once."""
        if self.running:
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, self._stop_signal)

    def stop(self, grace_s: float) -> None:
        """Ask the child to end, wait up to `grace_s`, then kill what is left of its group."""
        self.terminate()
        self.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """Kill the whole group by SIGKILL and wait until the child is gone."""
        if self._child is None:
            return
        self._signal_group(signal.SIGKILL)
        self._child.wait()

    def pause(self) -> None:
        """Freeze the whole group (SIGSTOP)."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen group go on (SIGCONT)."""
        self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def log_tail(self, lines: int = 15) -> tuple[str, ...]:
        """Return the last lines of the log, oldest first."""
        return log_tail(self.log, lines)


def log_tail(path: Path, lines: int = 15) -> tuple[str, ...]:
    """Return the last lines of a log file, oldest first; nothing when there is none."""
    if not path.exists():
        return ()
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return tuple(handle.read().decode("utf-8", "replace").splitlines()[-lines:])


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now; another program may still be quicker."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Tell whether something accepts connections on 127.0.0.1:`port`."""
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(("127.0.0.1", port)) == 0


def poll_until(deadline: float) -> bool:
    """Sleep one short poll interval; False once `time.monotonic()` has passed `deadline`."""
    time.sleep(_POLL_S)
    return time.monotonic() < deadline
