"""Stands between a runner and a program, so that nothing of the program outlives either of them.

Run as a script, with the standard library only: ``guard.py PARENT GRACE PROGRAM [ARGUMENT…]``. It starts the program
in a session of its own, adopts every process that the program leaves behind (Linux: ``PR_SET_CHILD_SUBREAPER``, so
leaving the process group does not help them), and ends with the program's exit code (128 + signal when it was
killed). On SIGTERM, or when the process PARENT dies, all of them get SIGTERM, and SIGKILL after GRACE seconds.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_NOT_FOUND = 127
_KILL_ROUNDS_MAX = 50
_AWAITED = (signal.SIGTERM, signal.SIGCHLD)


def descendants(ancestor: int) -> Iterator[int]:
    """Yield the ids of all processes that descend from ``ancestor``, parents before children (Linux)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    todo = list(children.get(ancestor, ()))
    while todo:
        pid = todo.pop(0)
        yield pid
        todo.extend(children.get(pid, ()))


def _prctl(option: int, value: int) -> None:
    # Elsewhere than on Linux a killed runner leaves its programs to the next start; the lease protects the run.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _signal_all(number: int) -> bool:
    found = False
    for pid in list(descendants(os.getpid())):
        found = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return found


def _reap() -> dict[int, int]:
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (got := os.waitpid(-1, os.WNOHANG))[0]:
            ended[got[0]] = got[1]
    return ended


def _end_all(grace_s: float) -> None:
    deadline = time.monotonic() + grace_s
    alive = _signal_all(signal.SIGTERM)
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        _reap()
        alive = next(descendants(os.getpid()), None) is not None
    for _ in range(_KILL_ROUNDS_MAX):
        if not _signal_all(signal.SIGKILL):
            return
        time.sleep(0.02)
        _reap()


def _start(program: list[str]) -> int:
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(128 + signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(program[0], program)
    except OSError as error:
        os.write(2, f"the program {program[0]!r} cannot be started: {error.strerror}\n".encode())
        os._exit(_NOT_FOUND)


def main() -> int:
    """Guard one program; return its exit code."""
    parent, grace_s, program = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    # Blocked and waited for, never handled: a handler could come between a check and a wait, or in the middle of the
    # killing, and leave processes behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:
        return 128 + signal.SIGTERM
    code = _await(_start(program))
    _end_all(grace_s)
    return code if code >= 0 else 128 - code


def _await(child: int) -> int:
    """Wait for the program's end, or for the order to end it; return its exit code, negative for a signal."""
    while True:
        ended = _reap()
        if child in ended:
            return os.waitstatus_to_exitcode(ended[child])
        if signal.sigwait(_AWAITED) == signal.SIGTERM:
            return -signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main())
