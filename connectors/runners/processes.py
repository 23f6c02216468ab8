"""Starting the program of a step, and ending everything that came of it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from connectors.runners import guard

LINE_BYTES_MAX = 1 << 20


@dataclass(slots=True)
class Guarded:
    """A program under its guard. ``kill`` ends the whole process tree."""

    process: asyncio.subprocess.Process
    grace_s: float

    async def wait(self) -> int:
        """Return the program's exit code, 128 + signal when it was killed."""
        return await self.process.wait()

    async def kill(self) -> None:
        """SIGTERM to all, SIGKILL after the grace; returns when nothing of the tree is left. Idempotent."""
        if self.process.returncode is not None:
            return
        known = _tree(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), self.grace_s + 3.0)
        except TimeoutError:
            # The guard itself is stopped or starved: do its work from here.
            for process in {*known, *_tree(self.process.pid)}:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


async def start(
    argv: Sequence[str], environ: Mapping[str, str], folder: Path, grace_s: float, stdin: bool = False
) -> Guarded:
    """Start ``argv`` under a guard, with piped output. Nothing of it survives this process, even if it is killed."""
    process = await asyncio.create_subprocess_exec(
        *guarded(argv, grace_s),
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env=dict(environ),
        start_new_session=True,
        limit=LINE_BYTES_MAX,
    )
    return Guarded(process, grace_s)


def guarded(argv: Sequence[str], grace_s: float) -> list[str]:
    """Return the command line that runs ``argv`` under a guard whose parent is this process."""
    return [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(grace_s), *argv]


async def each_line(
    stream: asyncio.StreamReader,
    take: Callable[[bytes], Awaitable[None]],
    line_bytes_max: int = LINE_BYTES_MAX,
) -> None:
    """Hand every line to ``take``, without its line end; a line over the limit comes in pieces."""
    rest = b""
    while chunk := await stream.read(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            await take(line)
        if len(rest) > line_bytes_max:
            await take(rest)
            rest = b""
    if rest:
        await take(rest)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
