"""Sockets for the node's applications. Until authentication is configured they bind loopback only."""

import socket

from aiohttp import web

HOST = "127.0.0.1"


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
