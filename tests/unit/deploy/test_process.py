"""Children of the local stack: groups, pauses, logs, and death with the parent."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.local.process import Process, answers, free_ports, log_tail, port_is_free

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def _until(true: object, timeout_s: float = 60) -> bool:
    assert callable(true)
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_child_writes_its_log_and_stops_on_request(tmp_path: Path) -> None:
    """Output goes to the log; stop ends the child by its signal."""
    child = Process("sleeper", SLEEP, tmp_path / "logs" / "sleeper.log")
    child.start()
    assert _until(lambda: child.log_tail() == ("up",))
    assert child.running
    child.stop(60)
    assert child.returncode == -15


def test_stop_leaves_nothing_of_the_group(tmp_path: Path) -> None:
    """A grandchild in the child's group ends with it, even one that ignores the request."""
    script = (
        "import subprocess, sys, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "g = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(g.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = Process("stubborn", [sys.executable, "-c", script], tmp_path / "log")
    child.start()
    assert _until(lambda: bool(child.log_tail()))
    grandchild = int(child.log_tail()[0])
    child.stop(0.2)
    assert child.returncode == -9
    assert _until(
        lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == "zombie"
    )


def test_a_paused_child_stands_still_and_can_still_be_stopped(tmp_path: Path) -> None:
    """SIGSTOP freezes it; asking it to end wakes it first."""
    child = Process("sleeper", SLEEP, tmp_path / "log")
    child.start()
    assert _until(lambda: bool(child.log_tail()))
    child.pause()
    assert _until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    child.resume()
    assert _until(lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)
    child.pause()
    child.stop(60)
    assert child.returncode == -15


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children of a killed parent by itself")
def test_a_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the parent ends the child."""
    parent = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from deploy.local.process import Process\n"
        f"child = Process('s', {SLEEP!r}, Path({str(tmp_path / 'log')!r}))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    pid = int(running.stdout.readline())
    assert _until(lambda: log_tail(tmp_path / "log") == ("up",))
    running.kill()
    running.communicate()
    assert _until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_a_program_that_does_not_exist_is_one_line_in_the_log(tmp_path: Path) -> None:
    """No traceback: the log says what could not be run, and why."""
    child = Process("nothing", ["/nonexistent/java"], tmp_path / "log")
    child.start()
    assert child.wait(60)
    assert child.log_tail() == ("cannot run /nonexistent/java: No such file or directory",)


def test_asked_for_ports_are_free_and_differ() -> None:
    """The operating system gives ports that nobody listens on."""
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(port_is_free(port) and not answers(port) for port in ports)
