"""A process of the benchmark."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class Child:
    """A process of the benchmark, which says in one line of JSON when it is ready."""

    def __init__(self, module: str, *argv: str) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.performance.runs.{module}", *argv],
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.told = self._line()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"it ended: {self._errors.read()[-1500:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def memory_mb(self) -> float:
        """Return its resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * 4096 / 1e6

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it by SIGTERM, by SIGKILL if it takes long."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
