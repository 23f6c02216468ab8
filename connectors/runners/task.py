"""What an attempt is told by its runner, and what it tells back: JSON lines over a pipe."""

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from connectors.runners.bookmark import Lease, Place
from connectors.runners.writer import Counts
from schemas.codec import Codec
from schemas.registry import HttpRegistry
from schemas.topics import Topics

_REGISTRY_TIMEOUT_S = 15.0
_PROGRESS_S = 0.5


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt of a step. ``spec`` is the step's block of the pipeline file with its secrets in place.

    ``upstream`` holds the output of each step before, by name; ``environ`` is for the programs the attempt starts.
    ``redrive``: a transform also takes up what it rejected in its ``run`` (None: in any).
    """

    tenant: str
    pipeline: str
    step: str
    run: str
    attempt: int
    token: str
    kind: str
    spec: Mapping[str, Any]
    upstream: Mapping[str, Mapping[str, Any]]
    full_refresh: bool
    kafka: Mapping[str, str]
    cluster: str
    prefix: str
    shards: int
    registry_url: str
    project_dir: str
    plugins_dir: str
    environ: Mapping[str, str]
    redrive: Mapping[str, str | None] | None = None

    @property
    def lease(self) -> Lease:
        """Which attempt this is."""
        return Lease(self.run, self.attempt, self.token)

    @property
    def project(self) -> Path:
        """The user's project folder."""
        return Path(self.project_dir)

    def place(self) -> Place:
        """Where the attempt runs, with a codec on the cluster's registry."""
        codec = Codec(HttpRegistry(self.registry_url, _REGISTRY_TIMEOUT_S))
        return Place(
            self.kafka,
            self.cluster,
            Topics(self.prefix),
            self.shards,
            codec,
            self.tenant,
            self.pipeline,
            self.step,
        )


class Report:
    """Tells the runner how far the attempt is, twice a second, and at last how it ended."""

    def __init__(self, descriptor: int) -> None:
        self.counts = Counts()
        self._out = open(descriptor, "wb", buffering=0)  # noqa: SIM115 - a pipe, open as long as the process
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell_progress, daemon=True)
        self._thread.start()

    def result(self, output: Mapping[str, Any]) -> None:
        """The attempt succeeded with this output object."""
        self._ended.set()
        self._say({"counts": self._counted(), "result": output})

    def failure(self, error: str, retryable: bool) -> None:
        """The attempt failed."""
        self._ended.set()
        self._say({"counts": self._counted(), "failure": {"error": error, "retryable": retryable}})

    def _counted(self) -> dict[str, int]:
        counts = self.counts
        return {"in": counts.read, "out": counts.written, "rejected": counts.rejected, "bytes": counts.size}

    def _tell_progress(self) -> None:
        told: dict[str, int] = {}
        while not self._ended.wait(_PROGRESS_S):
            if (counted := self._counted()) != told:
                told = counted
                self._say({"counts": counted})

    def _say(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            try:
                self._out.write(orjson.dumps(message) + b"\n")
            except BrokenPipeError:
                # The runner is gone, and the guard is about to say so.
                sys.exit(1)
