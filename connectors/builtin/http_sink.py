"""Sending a dataset to a web service, batch by batch."""

import contextlib
import datetime as dt
import email.utils
import http.client
import random
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from connectors.sdk.errors import InvalidSpec, Refused, Unavailable
from connectors.sdk.record import Batch
from connectors.sdk.sink import Destination, Load

_KEYS = ("url", "method", "headers", "timeout_s", "retry_for_s", "batch_records")
_BACKOFF_S = 0.25
_BACKOFF_MAX_S = 20.0
_AGAIN = frozenset({408, 425, 429})
_NAMESPACE = uuid.UUID("5a0cf5c8-6bd5-5d5c-9e3c-0d9c3c1f7a11")


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Where to send to. ``retry_for_s`` is how long one batch is tried before the attempt gives up."""

    url: SplitResult
    method: str
    headers: Mapping[str, str]
    timeout_s: float
    retry_for_s: float

    @staticmethod
    def parse(config: Mapping[str, Any]) -> "HttpConfig":
        """Raise InvalidSpec for a setting that is missing, unknown, or means nothing."""
        unknown = sorted(set(config) - set(_KEYS))
        if unknown:
            raise InvalidSpec(f"sink http does not know {unknown[0]!r}; it knows {', '.join(_KEYS)}")
        url = urlsplit(str(config.get("url") or ""))
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise InvalidSpec("sink http needs url: http://… or https://…")
        method = str(config.get("method", "POST")).upper()
        if method not in {"POST", "PUT", "PATCH"}:
            raise InvalidSpec(f"sink http cannot send records by {method}: use POST, PUT or PATCH")
        try:
            timeout_s, retry_for_s = float(config.get("timeout_s", 30)), float(config.get("retry_for_s", 120))
        except (TypeError, ValueError) as error:
            raise InvalidSpec(
                f"sink http needs numbers of seconds for timeout_s and retry_for_s: {error}"
            ) from error
        headers = {str(name): str(value) for name, value in (config.get("headers") or {}).items()}
        return HttpConfig(url, method, headers, timeout_s, retry_for_s)


class HttpSink:
    """Sends every batch as one JSON array, in order.

    At least once: the host keeps the position after the service has answered 2xx. ``Idempotency-Key`` is derived from
    generation, partition and offsets, so a batch that comes twice carries the same key. 5xx, 408, 425, 429 and broken
    connections are tried again with growing pauses (``Retry-After`` is honoured) for ``retry_for_s``; any other
    answer raises Refused.
    """

    keeps_position = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = HttpConfig.parse(config)
        self._connection: http.client.HTTPConnection | None = None
        self._load: Load

    def open(self, load: Load) -> Mapping[int, int]:
        """Return nothing: the host keeps the position."""
        self._load = load
        return {}

    def destinations(self) -> Mapping[str, Destination]:
        """Return the service, for every stream."""
        url = self._config.url
        port = url.port or {"https": 443}.get(url.scheme, 80)
        there = Destination(f"{url.scheme}://{url.hostname}:{port}", url.path or "/")
        return dict.fromkeys(self._load.streams, there)

    def write(self, batch: Batch) -> int:
        """Send the batch, one request for each stream in it. Blocks until the service took it."""
        streams: dict[str, list[bytes]] = {}
        for record in batch.records:
            streams.setdefault(record.stream, []).append(record.value)
        for stream, values in streams.items():
            name = f"{self._load.generation}/{batch.partition}/{batch.start}/{batch.end}"
            if len(self._load.streams) > 1:
                name = f"{name}/{stream}"
            self._send(b"[" + b",".join(values) + b"]", stream, str(uuid.uuid5(_NAMESPACE, name)))
        return len(batch.records)

    def finish(self) -> None:
        """Nothing is left to do: every batch was taken."""

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, body: bytes, stream: str, key: str) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "flexcore",
            **self._config.headers,
            "Idempotency-Key": key,
            "Flexcore-Stream": stream,
        }
        give_up = time.monotonic() + self._config.retry_for_s
        tries = 0
        while True:
            tries += 1
            problem, wait_s = self._try(body, headers)
            if problem is None:
                return
            pause_s = random.uniform(0.5, 1.0) * min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** min(tries - 1, 10))
            pause_s = max(pause_s, wait_s)
            if time.monotonic() + pause_s > give_up:
                raise Unavailable(
                    f"{self._where()} did not take a batch in {tries} tries; at last: {problem}"
                )
            time.sleep(pause_s)

    def _try(self, body: bytes, headers: Mapping[str, str]) -> tuple[str | None, float]:
        """Return what went wrong (None: nothing) and how long the service asks to wait."""
        try:
            connection = self._connected()
            connection.request(self._config.method, self._path(), body, dict(headers))
            response = connection.getresponse()
            answer = response.read(1 << 20)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return f"{type(error).__name__}: {error}", 0.0
        if response.will_close:
            self.close()
        if 200 <= response.status < 300:
            return None, 0.0
        told = f"{response.status} {response.reason}: {answer[:300].decode('utf-8', 'replace')}"
        if response.status >= 500 or response.status in _AGAIN:
            return told, _retry_after_s(response.getheader("Retry-After"))
        raise Refused(f"{self._where()} refuses the records: {told}")

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            url, timeout_s = self._config.url, self._config.timeout_s
            if url.scheme == "https":
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(
                    url.hostname or "", url.port, timeout=timeout_s, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout_s)
        return self._connection

    def _path(self) -> str:
        url = self._config.url
        return f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"

    def _where(self) -> str:
        url = self._config.url
        return f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}{url.path}"


def _retry_after_s(header: str | None) -> float:
    if header is None:
        return 0.0
    with contextlib.suppress(ValueError):
        return max(0.0, float(header))
    with contextlib.suppress(ValueError, TypeError):
        when = email.utils.parsedate_to_datetime(header)
        return max(0.0, (when - dt.datetime.now(when.tzinfo or dt.UTC)).total_seconds())
    return 0.0
