"""Attempt processes started ahead of their task, so that a step does not wait for a Python to start."""

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

import connectors
from connectors.runners import processes
from connectors.runners.processes import Guarded

_ARGV = [sys.executable, "-m", "connectors.runners.attempt"]
_ROOT = Path(next(iter(connectors.__path__))).parent


class Spares:
    """Keeps one attempt process ready, waiting for its task on stdin. It belongs to one event loop."""

    def __init__(self, environ: Mapping[str, str], grace_s: float) -> None:
        self._environ = environ
        self._grace_s = grace_s
        self._next: asyncio.Task[Guarded] | None = None
        self._stopped = False

    def prepare(self) -> None:
        """Begin to start a process, unless one is there already."""
        if self._next is None and not self._stopped:
            self._next = asyncio.create_task(self._start())

    async def take(self) -> Guarded:
        """Return a process that waits for its task, and begin to start the next one."""
        ready, self._next = self._next, None
        try:
            guarded = await ready if ready is not None else await self._start()
            if guarded.process.returncode is not None:
                guarded = await self._start()
        finally:
            self.prepare()
        return guarded

    async def stop(self) -> None:
        """End the process that waits."""
        self._stopped = True
        if self._next is not None:
            with contextlib.suppress(OSError):
                await (await self._next).kill()

    async def _start(self) -> Guarded:
        return await processes.start(_ARGV, self._environ, _ROOT, self._grace_s, stdin=True)
