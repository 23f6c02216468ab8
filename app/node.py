"""One process of the platform: its parts are started in order, watched, and stopped within five seconds."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

_log = logging.getLogger(__name__)
STOP_TIMEOUT_S = 5.0
_WATCH_S = 0.25


@dataclass(slots=True)
class Part:
    """Something the node runs. ``stop`` is called only if ``start`` was, and gets ``stop_s`` seconds.

    Parts of one ``stage`` stop together; higher stages stop first. ``crashed`` says why the part cannot go on, ``outlived``
    why the whole process cannot, though a new one can.
    """

    name: str
    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    stage: int
    stop_s: float
    crashed: Callable[[], str | None] = lambda: None
    outlived: Callable[[], str | None] = lambda: None


class StartAnew(Exception):
    """The node has stopped, for its process to be replaced by one with these variables; the message says why."""

    environ: Mapping[str, str] = MappingProxyType({})


class NodeFailed(Exception):
    """The node cannot start or go on; the message says which part, why, and what to do."""


class Node:
    """Starts its parts one after the other, and stops them when told to, when one crashes, or when one cannot start."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._started: list[Part] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or a crash. Raises :class:`NodeFailed` or :class:`StartAnew`; a second signal ends the
        process at once.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        try:
            await self._start()
            await self._watch()
        finally:
            await self.stop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def stop(self) -> None:
        """Stop what was started, last stage first. Never raises: what fails or hangs is logged and left behind."""
        started, self._started = self._started, []
        for stage in sorted({part.stage for part in started}, reverse=True):
            await asyncio.gather(*(self._stop_part(part) for part in started if part.stage == stage))

    def _signalled(self) -> None:
        if self._stop.is_set():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        _log.info("stopping")
        self._stop.set()

    async def _start(self) -> None:
        for part in self._parts:
            if self._stop.is_set():
                return
            starting = asyncio.ensure_future(self._start_part(part))
            stopping = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if starting.done():
                await starting
            else:
                starting.cancel()
                await asyncio.wait({starting}, timeout=1.0)

    async def _start_part(self, part: Part) -> None:
        self._started.append(part)
        begun = asyncio.get_running_loop().time()
        try:
            await part.start()
            _log.info("%s ready in %d ms", part.name, 1000 * (asyncio.get_running_loop().time() - begun))
        except NodeFailed:
            raise
        except Exception as error:
            _log.debug("%s could not start", part.name, exc_info=True)
            raise NodeFailed(f"{part.name} could not start: {error}") from error

    async def _watch(self) -> None:
        while not self._stop.is_set():
            for part in self._parts:
                if reason := part.crashed():
                    raise NodeFailed(f"{part.name} has stopped: {reason}")
                if reason := part.outlived():
                    raise StartAnew(reason)
            try:
                await asyncio.wait_for(self._stop.wait(), _WATCH_S)
            except TimeoutError:
                continue

    async def _stop_part(self, part: Part) -> None:
        try:
            await asyncio.wait_for(part.stop(), part.stop_s)
        except TimeoutError:
            _log.warning("%s did not stop within %g s and is left behind", part.name, part.stop_s)
        except Exception:  # noqa: BLE001 - the other parts must be stopped all the same
            _log.exception("%s did not stop cleanly", part.name)
