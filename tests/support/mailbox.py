"""A mail server on loopback that keeps what it takes: what a channel of alerts speaks to in tests."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message


class Mailbox(socketserver.ThreadingTCPServer):
    """Speaks as much SMTP as one mail needs. Refuses as many as ``failures`` says first, for now."""

    daemon_threads = True

    def __init__(self, failures: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.failures = failures
        self.got: list[Message] = []

    @property
    def address(self) -> str:
        """Where it is, host and port."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Session(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self._say(220, "ready")
        for line in self.rfile:
            match line[:4].upper():
                case b"EHLO" | b"HELO":
                    self._say(250, "hello")
                case b"MAIL" if self.server.failures:
                    self.server.failures -= 1
                    self._say(451, "try again later")
                case b"DATA":
                    self._say(354, "go on")
                    self.server.got.append(message_from_bytes(b"".join(iter(self.rfile.readline, b".\r\n"))))
                    self._say(250, "taken")
                case b"QUIT":
                    self._say(221, "bye")
                    return
                case _:
                    self._say(250, "yes")

    def _say(self, code: int, text: str) -> None:
        self.wfile.write(f"{code} {text}\r\n".encode())


@contextmanager
def taking(failures: int = 0) -> Iterator[Mailbox]:
    """Serve until the block ends."""
    with Mailbox(failures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
