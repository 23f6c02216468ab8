"""From a record on a commands topic to a message the rules understand, or the reason why that cannot be."""

from typing import Any, Final

import orjson
from fastavro.validation import ValidationError, validate

from schemas import topics as names
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.errors import Undecodable, UnknownSchema
from streams.domain.aggregate import Aggregate, Message
from streams.failures import Poison
from streams.protocol.record import Record
from streams.shards.identity import derived, uuid_bytes
from streams.translation import Untranslatable, from_record, fullname
from streams.writer.command import Command, body_hash

# As constants of this module they are not looked up for every command.
_COMMAND_ID: Final = names.COMMAND_ID
_CORRELATION_ID: Final = names.CORRELATION_ID
_ACTOR: Final = names.ACTOR
_CAUSATION_ID: Final = names.CAUSATION_ID
_TRACEPARENT: Final = names.TRACEPARENT
_COMMAND_TYPE: Final = names.COMMAND_TYPE
_EXPECTED_VERSION: Final = names.EXPECTED_VERSION
_STREAM_NAMESPACE: Final = uuid_bytes(b"flexcore")


class Decoder:
    """Decodes the commands of one aggregate: Avro in Confluent framing, or JSON with the same field names."""

    def __init__(self, aggregate: Aggregate, catalogue: Catalogue, codec: Codec, bytes_max: int) -> None:
        self._kinds = {kind.__name__: kind for kind in aggregate.commands}
        self._names = {name: fullname(aggregate.name, kind) for name, kind in self._kinds.items()}
        self._schemas = {name: catalogue.schema(full) for name, full in self._names.items()}
        self._aggregate = aggregate.name
        self._codec = codec
        self._bytes_max = bytes_max
        self._by_fullname: dict[str, type] = {}

    def decode(self, record: Record) -> Command:
        """Return the command. Raises :class:`Poison` with the cause when there is none to be had."""
        key, value = record.key, record.value
        if not key or key.find(b"/") < 0:
            raise Poison("no_key", "the key must be `tenant/aggregate-id`")
        if not value:
            raise Poison("undecodable", "the value is empty")
        if len(value) > self._bytes_max:
            raise Poison("too_large", f"{len(value)} bytes, and a command has at most {self._bytes_max}")
        headers: dict[str, bytes | None] = record.headers()
        id_bytes = headers.get(_COMMAND_ID) or self._id_of(record)
        correlation_bytes = headers.get(_CORRELATION_ID) or id_bytes
        actor_bytes = headers.get(_ACTOR) or b"anonymous"
        causation_id, traceparent = headers.get(_CAUSATION_ID) or b"", headers.get(_TRACEPARENT)
        try:
            tenant, _, aggregate_id = key.decode().partition("/")
            kind, fields = self._body(value, headers.get(_COMMAND_TYPE))
            command_id = id_bytes.decode()
            correlation_id = command_id if correlation_bytes is id_bytes else correlation_bytes.decode()
            actor = actor_bytes.decode()
            if causation_id or traceparent:
                (causation_id + (traceparent or b"")).decode()
        except UnicodeDecodeError as error:
            raise Poison("undecodable", f"key and headers must be UTF-8: {error}") from error
        expected = headers.get(_EXPECTED_VERSION)
        try:
            body = from_record(kind, fields)
        except Untranslatable as error:
            raise Poison("undecodable", str(error)) from error
        message = Message(body, tenant, aggregate_id, command_id, record.time_ms, actor, correlation_id)
        return Command(
            message,
            body_hash(kind.__name__, fields),
            None if expected is None else _version(expected),
            id_bytes,
            causation_id,
            correlation_bytes,
            actor_bytes,
            traceparent,
        )

    @staticmethod
    def _id_of(record: Record) -> bytes:
        """Return the id of a command that brought none."""
        return derived(_STREAM_NAMESPACE + record.where.encode())

    def _body(self, value: bytes, stated: bytes | None) -> tuple[type, dict[str, Any]]:
        if value[0] == 0:
            try:
                full, record = self._codec.decode(value)
            except UnknownSchema as error:
                raise Poison("unknown_schema", str(error)) from error
            except Undecodable as error:
                raise Poison("undecodable", str(error)) from error
            return self._by_fullname.get(full) or self._known(full), record
        if value[:1] == b"{":
            return self._json(value, None if stated is None else stated.decode())
        raise Poison("undecodable", "the value is neither Avro in Confluent framing nor a JSON object")

    def _known(self, full: str) -> type:
        name = full.rpartition(".")[2]
        if self._names.get(name) != full:
            raise Poison("unknown_type", f"{full} is no command of {self._aggregate}: {sorted(self._kinds)}")
        kind = self._by_fullname[full] = self._kinds[name]
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
        whole = {name: field["default"] for name, field in known.items() if "default" in field} | record
        try:
            validate(whole, schema, strict=True)
        except ValidationError as error:
            raise Poison("undecodable", f"{stated}: {error}") from error
        return self._kinds[stated], whole


def _version(raw: bytes) -> int:
    if not raw.isdigit():
        raise Poison("undecodable", f"header expected-version must be a number, not {raw[:40]!r}")
    return int(raw)
