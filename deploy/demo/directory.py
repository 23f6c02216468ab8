"""The directory service that the demo's pipeline feeds: a web service with bad days, which remembers what it got."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing: a client that is killed in the middle of a request is part of the demo."""


class Directory:
    """Listens on loopback. ``unavailable`` requests are answered with 503 first; ``broken`` answers 400 to all."""

    def __init__(self, unavailable: int) -> None:
        self.unavailable = unavailable
        self.broken = False
        self.entries: dict[int, dict[str, Any]] = {}
        self.answers: dict[int, int] = {}
        self.received = 0
        self._keys: set[str] = set()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where to post customers."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/customers"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: bytes, key: str) -> int:
        """Handle one request; return the status. A batch that comes twice under one key counts once."""
        with self._lock:
            status = 503 if self.unavailable > 0 else 400 if self.broken else 200
            self.answers[status] = self.answers.get(status, 0) + 1
            if status == 503:
                self.unavailable -= 1
            elif status == 200 and key not in self._keys:
                self._keys.add(key)
                records = json.loads(body)
                self.received += len(records)
                self.entries.update((record["id"], record) for record in records)
            return status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        directory = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = directory.take(body, self.headers.get("Idempotency-Key", ""))
                answer = b'{"error": "the directory is not available"}' if status != 200 else b"{}"
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                return

        return Handler
