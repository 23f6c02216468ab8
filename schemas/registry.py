"""Where schemas get their ids: a registry that speaks Confluent's REST API, and a twin in memory."""

import base64
import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from schemas import compatibility
from schemas.compatibility import Mode
from schemas.errors import Incompatible, InvalidSchema, RegistryUnavailable, UnknownSchema
from schemas.parsing import Schema, canonical, parse, parse_text, text_of

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND = (40401, 40402, 40403)


class SchemaRegistry(Protocol):
    """Schemas by id, versions by subject. All calls may block; all implementations are thread-safe."""

    def register(self, subject: str, schema: Schema) -> int:
        """Return the id of ``schema``, registering it under ``subject`` if it is not there yet.

        The same schema has the same id under every subject. Raises ``Incompatible``, ``InvalidSchema`` or
        ``RegistryUnavailable``.
        """
        ...

    def schema(self, schema_id: int) -> Schema:
        """Return the parsed schema. Raises ``UnknownSchema`` or ``RegistryUnavailable``."""
        ...

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        """Return id and parsed schema of the newest version, or None. Raises ``RegistryUnavailable``."""
        ...


class MemoryRegistry:
    """A registry in this process: ids count from 1 in the order of registration, nothing is kept."""

    def __init__(self, mode: Mode = Mode.BACKWARD_TRANSITIVE) -> None:
        self._mode = mode
        self._lock = threading.Lock()
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, Schema] = {}
        self._subjects: dict[str, list[int]] = {}

    def register(self, subject: str, schema: Schema) -> int:
        """Return the id of ``schema`` under ``subject``, which exists from now on."""
        parsed = parse(schema)
        text = canonical(parsed)
        with self._lock:
            versions = self._subjects.setdefault(subject, [])
            known = self._ids.get(text)
            if known in versions:
                return self._ids[text]
            compatibility.check(subject, parsed, [self._schemas[version] for version in versions], self._mode)
            schema_id = self._ids.setdefault(text, len(self._ids) + 1)
            self._schemas[schema_id] = parsed
            versions.append(schema_id)
            return schema_id

    def schema(self, schema_id: int) -> Schema:
        """Return the parsed schema."""
        with self._lock:
            if schema_id not in self._schemas:
                raise UnknownSchema(f"The registry has no schema {schema_id}")
            return self._schemas[schema_id]

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        """Return id and parsed schema of the newest version, or None."""
        with self._lock:
            versions = self._subjects.get(subject)
            return (versions[-1], self._schemas[versions[-1]]) if versions else None


class HttpRegistry:
    """A client of Confluent's REST API over one connection that is kept open. Thread-safe: calls queue.

    ``url`` may carry a user and password (sent as HTTP Basic). Every call gives up after ``timeout_s``.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a schema registry: give http://host:port")
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{self._path}"
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": _CONTENT_TYPE, "Accept": f"{_CONTENT_TYPE}, application/json"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(user).decode()
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None

    def register(self, subject: str, schema: Schema) -> int:
        """Return the id of ``schema`` under ``subject``, which exists from now on."""
        body = {"schema": text_of(schema)}
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}/versions", body)
        if answer is None or not isinstance(answer.get("id"), int):
            raise RegistryUnavailable(f"{self._shown} gave no id for {subject}: is it a schema registry?")
        return int(answer["id"])

    def schema(self, schema_id: int) -> Schema:
        """Return the parsed schema."""
        answer = self._call("GET", f"/schemas/ids/{schema_id}")
        if answer is None:
            raise UnknownSchema(f"The registry at {self._shown} has no schema {schema_id}")
        return self._parsed(answer)

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        """Return id and parsed schema of the newest version, or None."""
        answer = self._call("GET", f"/subjects/{quote(subject, safe='')}/versions/latest")
        return None if answer is None else (int(answer["id"]), self._parsed(answer))

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            self._close()

    def _parsed(self, answer: Mapping[str, Any], named: dict[str, Any] | None = None) -> Schema:
        named = {} if named is None else named
        if answer.get("schemaType", "AVRO") != "AVRO":
            raise UnknownSchema(
                f"The schema at {self._shown} is {answer['schemaType']}, and only AVRO is read here"
            )
        for reference in answer.get("references", ()):
            if reference["name"] in named:
                continue
            subject, version = quote(reference["subject"], safe=""), reference["version"]
            found = self._call("GET", f"/subjects/{subject}/versions/{version}")
            if found is None:
                raise UnknownSchema(
                    f"{self._shown} lacks {reference['subject']} version {version}, which is referred to"
                )
            self._parsed(found, named)
        return parse_text(answer["schema"], named)

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any] | None:
        """Return the answer, or None when the registry says that it has no such thing."""
        payload = None if body is None else json.dumps(body).encode()
        with self._lock:
            status, raw = self._exchange(method, self._path + path, payload)
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if status == 200 and isinstance(answer, dict):
            return answer
        code = answer.get("error_code") if isinstance(answer, dict) else None
        said = answer.get("message", "") if isinstance(answer, dict) else raw[:200].decode("utf-8", "replace")
        if status == 404 and code in _NOT_FOUND:
            return None
        if status == 409:
            raise Incompatible(f"{self._shown} refuses the schema: {said}")
        if status == 422:
            raise InvalidSchema(f"{self._shown} refuses the schema: {said}")
        raise RegistryUnavailable(
            f"{method} {self._shown}{path} answered {status}: {said}; check that FLEXCORE_REGISTRY_URL names a"
            " schema registry and that it is healthy"
        )

    def _exchange(self, method: str, path: str, payload: bytes | None) -> tuple[int, bytes]:
        # The server may have closed a connection that was idle: then, and only then, one more try is fair.
        for fresh in (self._connection is None, True):
            if self._connection is None:
                kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
                self._connection = kind(self._host, self._port, timeout=self._timeout_s)
            try:
                self._connection.request(method, path, payload, self._headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                self._close()
                if fresh or isinstance(error, TimeoutError):
                    raise RegistryUnavailable(
                        f"The schema registry at {self._shown} does not answer ({str(error) or type(error).__name__}):"
                        " start it, or set FLEXCORE_REGISTRY_URL to one that runs"
                    ) from error
        raise AssertionError("the second try either returns or raises")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
