"""Who takes part, how each is started and stopped, and why somebody does not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.paths import cache_dir
from tests.performance.environments import Unavailable, kafka_streams_jars, peer_python
from tests.performance.load import Work

_ROOT = Path(__file__).parents[2]
_STOP_GRACE_S = 20


@dataclass(frozen=True, slots=True)
class Contestant:
    """``exact`` is held to be exactly right; ``recovers`` keeps its state over its death."""

    name: str
    title: str
    exact: bool = True
    recovers: bool = True
    share: int = 1

    @property
    def module(self) -> str:
        """The program."""
        return f"tests.performance.{self.name}"


OURS = Contestant("ours", "FlexCore")
FOLD = Contestant("fold", "FlexCore's take-over of a log")  # takes part in nothing; only recovery starts it
ALL = (
    OURS,
    Contestant("bare", "bare librdkafka loop", recovers=False),
    Contestant("kafka_streams", "Kafka Streams exactly_once_v2"),
    Contestant("quix", "Quix Streams exactly-once"),
    Contestant("stock_faust", "stock Faust (at least once)", exact=False, recovers=False, share=10),
)


def ready(wanted: Sequence[str]) -> tuple[list[Contestant], dict[str, str]]:
    """Return who can take part, and for everybody else the reason; installs and builds what is missing. Blocking."""
    able, reasons = [], {}
    for contestant in ALL:
        if contestant.name not in wanted:
            continue
        try:
            _python(contestant)
            if contestant.name == "kafka_streams":
                kafka_streams_jars(cache_dir())
        except Unavailable as error:
            reasons[contestant.title] = str(error)
        else:
            able.append(contestant)
    return able, reasons


class Running:
    """A contestant at work. ``state`` outlives it, so that it can be started again on what it had."""

    def __init__(
        self,
        contestant: Contestant,
        work: Work,
        *flags: str,
        commands: int | None = None,
        state: Path | None = None,
    ) -> None:
        self.state = state or Path(tempfile.mkdtemp(prefix="bench-"))
        count = str(work.commands if commands is None else commands)
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # the same
        command: list[str | Path] = [
            _python(contestant),
            "-m",
            contestant.module,
            work.bootstrap,
            work.prefix,
        ]
        command += [count, "--state", self.state, "--shards", str(work.shards), *flags]
        # What sampled frames tell is told by source only.
        path = str(_ROOT) if "--breakdown" in flags else os.environ.get("PYTHONPATH", str(_ROOT))
        self._process = subprocess.Popen(
            command,
            stdout=self._output,
            stderr=self._errors,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def alive(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it by SIGTERM, by SIGKILL if it takes long; its state goes with it."""
        if self.alive():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.state, ignore_errors=True)

    def told(self) -> dict[str, Any]:
        """Return what it told of itself, after its end; empty if it told nothing."""
        self._output.seek(0)
        lines = [line for line in self._output.read().splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return found

    def complaint(self) -> str:
        """Return the last lines it wrote to its standard error."""
        self._errors.seek(0)
        return " / ".join(self._errors.read().strip().splitlines()[-3:])


def _python(contestant: Contestant) -> str:
    return str(peer_python("quix", cache_dir())) if contestant.name == "quix" else sys.executable
