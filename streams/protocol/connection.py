"""A connection to one broker: requests out, answers back in their order. Blocking, for one thread at a time."""

import io
import socket
import ssl
import struct
import time
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from kio.serial import entity_reader, entity_writer

from streams.protocol import messages
from streams.protocol.requests import Encoded
from streams.protocol.security import Security

_T = TypeVar("_T")
_writer: Any = cache(entity_writer)
_reader: Any = cache(entity_reader)
_LENGTH = struct.Struct(">i")
_HEAD = struct.Struct(">hhih").pack  # api, its version, number of the request, length of the client's name
_NO_TAGS = b"\0"
_ANSWER_BYTES_MAX = 64 << 20
_IDLE_S_MAX = 60.0  # brokers, and what stands between, close what is idle, and nobody hears of it
_SESSION_SHARE = 0.8
_FEATURE, _LEVEL = "transaction.version", 2


class Connection:
    """Connected, and signed in, when it is made. Raises ``KafkaException`` with a code of librdkafka's: ``_TRANSPORT`` when
    the broker is not there or ends the connection, ``_TIMED_OUT``, ``_SSL`` for one that is not trusted,
    ``SASL_AUTHENTICATION_FAILED``, and ``UNSUPPORTED_VERSION`` for
    one that does not speak transactions version 2. After any of them the connection is of no use.
    """

    def __init__(self, host: str, port: int, security: Security, client_id: str, timeout_s: float) -> None:
        self._client_id = client_id.encode()
        self._sent = self._received = 0
        self._used = time.monotonic()
        self._expires = float("inf")
        self._address = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise _failed(self._address, error) from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if security.tls is not None:
                self._encrypt(security.tls, host)
            self._agree(timeout_s)
            if security.mechanism:
                self._sign_in(security, timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def fresh(self) -> bool:
        """False when a new connection should be made before the next request."""
        now = time.monotonic()
        return now - self._used < _IDLE_S_MAX and now < self._expires

    @property
    def busy(self) -> bool:
        """Whether an answer is still to be received."""
        return self._sent > self._received

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait for an answer to begin."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close; nothing waits for answers any more."""
        self._socket.close()

    def call(self, request: tuple[Any, type[_T]], timeout_s: float) -> _T:
        """Send a request of :mod:`streams.protocol.messages` and return its answer."""
        self.send(request, timeout_s)
        return self.receive(request, timeout_s)

    def send(self, request: tuple[Any, type[_T]], timeout_s: float) -> None:
        """Send a request whose answer is received later."""
        self._sent += 1
        parts = self._encoded(request[0])
        data = b"".join([_LENGTH.pack(sum(map(len, parts))), *parts])
        try:
            self._socket.settimeout(max(timeout_s, 0.001))
            self._socket.sendall(data)
        except OSError as error:
            raise _failed(self._address, error) from error

    def _encoded(self, message: Any) -> list[bytes]:
        if isinstance(message, Encoded):
            return [
                _HEAD(message.api_key, message.api_version, self._sent, len(self._client_id)),
                self._client_id,
                _NO_TAGS,
                *message.parts,
            ]
        head = type(message).__header_schema__(
            request_api_key=message.__api_key__,
            request_api_version=message.__version__,
            correlation_id=self._sent,
            client_id=self._client_id.decode(),
        )
        out = io.BytesIO()
        for part in (head, message):
            _writer(type(part))(out, part)
        return [out.getvalue()]

    def receive(self, request: tuple[Any, type[_T]], timeout_s: float) -> _T:
        """Return the answer to the oldest request that has none yet."""
        deadline = time.monotonic() + timeout_s
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        if not 0 < length <= _ANSWER_BYTES_MAX:
            raise _failed(self._address, OSError(f"an answer of {length} bytes: is this a Kafka broker?"))
        data = self._read(length, deadline)
        self._received += 1
        self._used = time.monotonic()
        answer: Any = request[1]
        head, size = _reader(answer.__header_schema__)(data, 0)
        if head.correlation_id != self._received:
            raise _failed(self._address, OSError("an answer to another request"))
        found: _T = _reader(answer)(data, size)[0]
        return found

    def _read(self, count: int, deadline: float) -> bytes:
        data = bytearray(count)
        view, at = memoryview(data), 0
        try:
            while at < count:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                got = self._socket.recv_into(view[at:])
                if not got:
                    raise ConnectionResetError("closed by the broker")
                at += got
        except OSError as error:
            raise _failed(self._address, error) from error
        return bytes(data)

    def _encrypt(self, tls: ssl.SSLContext, host: str) -> None:
        try:
            self._socket = tls.wrap_socket(self._socket, server_hostname=host)
        except OSError as error:
            raise _failed(self._address, error) from error

    def _agree(self, timeout_s: float) -> None:
        """Make sure that the broker speaks what we speak."""
        answer = self.call(messages.api_versions(_own_version()), timeout_s)
        known = {one.api_key: one.max_version for one in answer.api_keys}
        level = next((one.max_version_level for one in answer.finalized_features if one.name == _FEATURE), 0)
        if level >= _LEVEL and all(known.get(key, -1) >= wanted for key, wanted in messages.NEEDED.items()):
            return
        text = (
            f"{self._address} has {_FEATURE} {level}, and a worker needs {_LEVEL}: Kafka 4.0 or later, after"
            f" kafka-features.sh upgrade --feature {_FEATURE}={_LEVEL}"
        )
        raise KafkaException(KafkaError(KafkaError.UNSUPPORTED_VERSION, text))

    def _sign_in(self, security: Security, timeout_s: float) -> None:
        answer = self.call(messages.sasl_handshake(security.mechanism), timeout_s)
        if answer.error_code:
            known = ", ".join(answer.mechanisms)
            raise _unauthenticated(f"{self._address} knows no {security.mechanism}, but {known}")

        def exchange(data: bytes) -> bytes:
            found = self.call(messages.sasl_authenticate(data), timeout_s)
            if found.error_code:
                raise _unauthenticated(f"{self._address}: {found.error_message}")
            if life_s := found.session_lifetime.total_seconds():
                self._expires = time.monotonic() + life_s * _SESSION_SHARE
            return found.auth_bytes

        try:
            security.sign_in(exchange)
        except PermissionError as error:
            raise _unauthenticated(f"{self._address}: {error}") from error


@cache
def _own_version() -> str:
    return version("flexcore")


def _failed(address: str, error: OSError) -> KafkaException:
    if isinstance(error, ssl.SSLCertVerificationError):
        return KafkaException(KafkaError(KafkaError._SSL, f"{address}: {error.verify_message}"))
    code = KafkaError._TIMED_OUT if isinstance(error, TimeoutError) else KafkaError._TRANSPORT
    return KafkaException(KafkaError(code, f"{address}: {error}", retriable=True))


def _unauthenticated(text: str) -> KafkaException:
    return KafkaException(KafkaError(KafkaError.SASL_AUTHENTICATION_FAILED, text))
