"""From a record on a commands topic to a message the rules understand, or the reason why that cannot be."""

from typing import Any, NamedTuple

import orjson
from fastavro.validation import ValidationError, validate

from schemas import topics as names
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.errors import Undecodable, UnknownSchema
from streams.domain.aggregate import Aggregate, Message
from streams.failures import Poison
from streams.shards.record import Record
from streams.translation import Untranslatable, from_record
from streams.writer.encoding import body_hash
from streams.writer.identity import derived, uuid_bytes

_STREAM_NAMESPACE = uuid_bytes("flexcore")


class Command(NamedTuple):
    """A decoded command with what its headers said."""

    message: Message
    kind: str
    body_hash: str
    causation_id: str
    expected_version: int | None
    traceparent: str | None


class Decoder:
    """Decodes the commands of one aggregate: Avro in Confluent framing, or JSON with the same field names."""

    def __init__(self, aggregate: Aggregate, catalogue: Catalogue, codec: Codec, bytes_max: int) -> None:
        self._kinds = {kind.__name__: kind for kind in aggregate.commands}
        self._schemas = {name: catalogue.schema(f"flexcore.{aggregate.name}.{name}") for name in self._kinds}
        self._aggregate = aggregate.name
        self._codec = codec
        self._bytes_max = bytes_max
        self._by_fullname: dict[str, type] = {}

    def decode(self, record: Record) -> Command:
        """Return the command. Raises :class:`Poison` with the cause when there is none to be had."""
        headers = dict(record.headers() or ())
        key, value = record.key(), record.value()
        if not key or b"/" not in key:
            raise Poison("no_key", "the key must be `tenant/aggregate-id`")
        if not value:
            raise Poison("undecodable", "the value is empty")
        if len(value) > self._bytes_max:
            raise Poison("too_large", f"{len(value)} bytes, and a command has at most {self._bytes_max}")
        try:
            tenant, _, aggregate_id = key.decode().partition("/")
            kind, body = self._body(value, _text(headers, names.COMMAND_TYPE))
            command_id = _text(headers, names.COMMAND_ID) or derived(
                _STREAM_NAMESPACE, f"{record.topic()}/{record.partition()}/{record.offset()}"
            )
            correlation_id = _text(headers, names.CORRELATION_ID) or command_id
            actor = _text(headers, names.ACTOR) or "anonymous"
            causation_id = _text(headers, names.CAUSATION_ID) or ""
            expected = _text(headers, names.EXPECTED_VERSION)
            traceparent = _text(headers, names.TRACEPARENT)
        except UnicodeDecodeError as error:
            raise Poison("undecodable", f"key and headers must be UTF-8: {error}") from error
        if expected is not None and not expected.isdigit():
            raise Poison("undecodable", f"header expected-version must be a number, not {expected[:40]!r}")
        message = Message(
            body, tenant, aggregate_id, command_id, record.timestamp()[1], actor, correlation_id
        )
        version = None if expected is None else int(expected)
        return Command(message, kind, body_hash(kind, body), causation_id, version, traceparent)

    def _body(self, value: bytes, stated: str | None) -> tuple[str, Any]:
        if value[0] == 0:
            try:
                fullname, record = self._codec.decode(value)
            except UnknownSchema as error:
                raise Poison("unknown_schema", str(error)) from error
            except Undecodable as error:
                raise Poison("undecodable", str(error)) from error
            kind = self._by_fullname.get(fullname) or self._known(fullname)
        elif value[:1] == b"{":
            kind, record = self._json(value, stated)
        else:
            raise Poison("undecodable", "the value is neither Avro in Confluent framing nor a JSON object")
        try:
            return kind.__name__, from_record(kind, record)
        except Untranslatable as error:
            raise Poison("undecodable", str(error)) from error

    def _known(self, fullname: str) -> type:
        namespace, _, name = fullname.rpartition(".")
        kind = self._kinds.get(name)
        if kind is None or namespace != f"flexcore.{self._aggregate}":
            raise Poison(
                "unknown_type", f"{fullname} is no command of {self._aggregate}: {sorted(self._kinds)}"
            )
        self._by_fullname[fullname] = kind
        return kind

    def _json(self, value: bytes, stated: str | None) -> tuple[type, dict[str, Any]]:
        if stated not in self._kinds:
            raise Poison(
                "unknown_type", f"header command-type is {stated!r}; it must be one of {sorted(self._kinds)}"
            )
        try:
            record = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise Poison("undecodable", f"invalid JSON: {error}") from error
        schema = self._schemas[stated]
        known = {field["name"]: field for field in schema["fields"]}
        if unknown := sorted(set(record) - set(known)):
            raise Poison("undecodable", f"{stated} has no field {unknown}; it has {sorted(known)}")
        full = {name: field["default"] for name, field in known.items() if "default" in field} | record
        try:
            validate(full, schema, strict=True)
        except ValidationError as error:
            raise Poison("undecodable", f"{stated}: {error}") from error
        return self._kinds[stated], full


def _text(headers: dict[str, bytes | None], name: str) -> str | None:
    raw = headers.get(name)
    return None if raw is None else raw.decode()
