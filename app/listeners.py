"""Sockets for applications: one on the node's own event loop, one on a loop in a thread of its own.

Until authentication is configured both bind loopback only.
"""

import asyncio
import socket
import threading
from collections.abc import Callable

from aiohttp import web

HOST = "127.0.0.1"
_START_TIMEOUT_S = 10.0


class PortTaken(OSError):
    """The wanted port cannot be had; the message names the setting to change."""


def bound_socket(port: int, setting: str) -> socket.socket:
    """Return a socket listening on loopback; 0 takes any free port. Raises :class:`PortTaken`."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen(512)
    except OSError as error:
        found.close()
        reason = f"port {port} cannot be used ({error.strerror}); set {setting} to another, or to 0 for any free one"
        raise PortTaken(reason) from None
    found.setblocking(False)
    return found


def url_of(listening: socket.socket) -> str:
    """Return the URL of a listening socket."""
    return f"http://{HOST}:{listening.getsockname()[1]}"


class Listener:
    """Serves an application on the running loop."""

    def __init__(self, app: web.Application, port: int, setting: str) -> None:
        self._app = app
        self._port = port
        self._setting = setting
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen; afterwards ``url`` is known. Raises :class:`PortTaken`."""
        listening = bound_socket(self._port, self._setting)
        self._runner = web.AppRunner(self._app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()
        self.url = url_of(listening)

    async def stop(self) -> None:
        """Take no new requests, give the open ones a second, then close."""
        if self._runner is not None:
            await self._runner.cleanup()


class ThreadListener:
    """Serves an application on a loop of its own, so that code that blocks this node's loop can call it."""

    def __init__(self, make: Callable[[], web.Application], port: int, setting: str, name: str) -> None:
        self._make = make
        self._port = port
        self._setting = setting
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.url = ""

    def start(self) -> None:
        """Listen; afterwards ``url`` is known. Blocks shortly. Raises :class:`PortTaken`, and what ``make`` raises."""
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise TimeoutError(f"{self._thread.name} did not listen within {_START_TIMEOUT_S:g} s")
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Close; blocks for two seconds at most."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(2.0)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            listener = Listener(self._make(), self._port, self._setting)
            await listener.start()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the node is started
            self._failure = error
            self._started.set()
            return
        self.url = listener.url
        self._started.set()
        await self._stop.wait()
        await listener.stop()
