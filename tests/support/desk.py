"""A web service on loopback that takes JSON: what a channel of alerts, or lineage, speaks to in tests."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Desk(ThreadingHTTPServer):
    """Keeps what it takes, each with its idempotency key; refuses with ``answers`` first, one by one.

    One that is ``away`` has an address, where nobody listens.
    """

    def __init__(self, *answers: int, away: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=not away)
        if away:
            self.server_bind()
        self.answers = list(answers)
        self.got: list[tuple[str | None, Any]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def serve(self) -> None:
        """Answer from now on, until it is shut down."""
        self.server_activate()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def about(self, on: str, about: str) -> list[dict[str, Any]]:
        """Return the notices of this kind."""
        return [notice for _, notice in self.got if (notice.get("on"), notice.get("about")) == (on, about)]


class _Handler(BaseHTTPRequestHandler):
    server: Desk

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.answers.pop(0) if self.server.answers else 204
        if answer < 300:
            self.server.got.append((self.headers["Idempotency-Key"], json.loads(body)))
        self.send_response(answer)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def running(*answers: int) -> Iterator[Desk]:
    """Serve until the block ends."""
    with Desk(*answers) as server:
        server.serve()
        yield server
        server.shutdown()
