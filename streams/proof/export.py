"""The log as files: CloudEvents, one JSON object a line, from which every record comes back byte for byte.

A line is what anybody can read (CloudEvents 1.0, the decoded body as ``data``), and in ``kafkarecord`` the record itself:
key, value and headers as MessagePack in base64. Lines stand in the order of the sequences. What would not survive the
cleaner is left out, so that an export is the same before and after it ran: copies of a record, the first body of a
redacted event, and answers given again.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec
import orjson

from schemas.chain import CHAIN, REDACTED
from schemas.codec import HEADER_BYTES, Codec
from schemas.errors import FlexcoreSchemaError, Incompatible, UnknownSchema
from schemas.parsing import Schema, parse, text_of
from schemas.topics import AUDIT
from streams.proof.record import LogRecord

FORMAT = 1
_SAID = {
    "command-id": "commandid",
    "correlation-id": "correlationid",
    "causation-id": "causationid",
    "actor": "actor",
    "traceparent": "traceparent",
    "redacted": "redacted",
}
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[bytes, bytes, list[tuple[str, bytes]]]).decode


class Unreadable(ValueError):
    """A line or file of an export that is none; the message names it."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it lies on its topic, without its place."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Manifest(msgspec.Struct, omit_defaults=True):
    """What an export holds. ``positions`` is the last sequence of each (``aggregate:shard``); ``firsts`` the first one
    of its outcomes, where retention has deleted those before. ``files`` names number of lines and SHA-256.
    """

    format: int
    cluster: str
    shards: dict[str, int]
    positions: dict[str, int]
    files: dict[str, dict[str, int | str]]
    firsts: dict[str, int] = {}
    redacted: list[str] = []

    def encoded(self) -> bytes:
        """Return the text of the file: the same for the same content."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"


def read_manifest(text: bytes) -> Manifest:
    """Return the manifest. Raises :class:`Unreadable`."""
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise Unreadable(f"manifest.json is none of an export: {error}") from None
    if manifest.format != FORMAT:
        raise Unreadable(f"manifest.json has format {manifest.format}, and only {FORMAT} is known here")
    return manifest


def line_of(record: RawRecord, codec: Codec) -> bytes:
    """Return a record's line. Raises what the codec raises for a value that cannot be decoded."""
    name, body = codec.decode(record.value)
    told = {header: raw.decode("utf-8", "replace") for header, raw in record.headers if header != CHAIN}
    envelope = body.pop("envelope", None)
    line: dict[str, Any] = {"specversion": "1.0"}
    if envelope is not None:
        line |= {
            "id": envelope["event_id"],
            "source": told.get("ce_source", ""),
            "type": name.rpartition(".")[2],
        }
        line |= {"subject": told.get("ce_subject", ""), "time": told.get("ce_time", "")}
        line |= {"version": envelope["version"], "sequence": envelope["sequence"]}
        line |= {short: told[header] for header, short in _SAID.items() if header in told}
        line["chain"] = next((raw.hex() for header, raw in record.headers if header == CHAIN), "")
    else:
        key = record.key.decode("utf-8", "replace")
        cluster = (told.get("writer") or body.get("writer") or "").partition("/node/")[0]
        line |= {"id": key, "source": f"/{cluster}/{body.get('aggregate', AUDIT)}", "type": name}
    line |= {"datacontenttype": "application/json", "data": body}
    line["kafkarecord"] = base64.b64encode(_pack((record.key, record.value, record.headers))).decode()
    return orjson.dumps(line, default=_text) + b"\n"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} cannot be JSON")


def record_of(line: bytes, codec: Codec) -> RawRecord:
    """Return the record of a line. Raises :class:`Unreadable` when it says anything else than its record does."""
    try:
        key, value, headers = _unpack(base64.b64decode(orjson.loads(line)["kafkarecord"], validate=True))
        record = RawRecord(key, value, headers)
        same = line_of(record, codec) == line
    except (ValueError, KeyError, TypeError, FlexcoreSchemaError) as error:
        raise Unreadable(f"it is no record: {error}") from None
    if not same:
        raise Unreadable("it says something else than the record it holds")
    return record


def chosen(records: Iterable[LogRecord], first: Callable[[LogRecord], int | None]) -> list[LogRecord]:
    """Return what an export takes of a partition, in order. ``first`` gives a record's number, None for what stays out."""
    found: dict[tuple[bytes, bytes], LogRecord] = {}
    redacted: dict[bytes, LogRecord] = {}
    for record in records:
        if REDACTED in record.headers:
            redacted[record.key] = record
        found.setdefault((record.key, record.value), record)
    kept = [record for (key, _), record in found.items() if key not in redacted] + list(redacted.values())
    numbered = [(number, record.offset, record) for record in kept if (number := first(record)) is not None]
    return [record for _, _, record in sorted(numbered, key=lambda one: one[:2])]


@dataclass(slots=True)
class Schemas:
    """The writers' schemas that an export needs, by id: the registry of who reads it."""

    found: dict[int, Schema] = field(default_factory=dict)

    def note(self, value: bytes, codec: Codec) -> None:
        """Note the schema of a record."""
        schema_id = int.from_bytes(value[1:HEADER_BYTES], "big")
        if schema_id not in self.found:
            self.found[schema_id] = codec.registry.schema(schema_id)

    def schema(self, schema_id: int) -> Schema:
        """Return a schema. Raises ``UnknownSchema``."""
        if schema_id not in self.found:
            raise UnknownSchema(f"schemas.jsonl has no schema {schema_id}")
        return self.found[schema_id]

    def register(self, subject: str, schema: Schema) -> int:
        """Refuse: an export is only read."""
        raise Incompatible(f"{subject}: an export is only read")

    def latest(self, subject: str) -> tuple[int, Schema] | None:
        """Know no subjects."""

    def lines(self) -> Iterator[bytes]:
        """Yield the file's lines, by id."""
        for schema_id, schema in sorted(self.found.items()):
            told = {"id": schema_id, "schema": orjson.loads(text_of(schema))}
            yield orjson.dumps(told, option=orjson.OPT_SORT_KEYS) + b"\n"

    @classmethod
    def read(cls, lines: Iterable[bytes]) -> "Schemas":
        """Return what ``lines`` has written. Raises :class:`Unreadable`."""
        try:
            told = [orjson.loads(line) for line in lines]
            return cls({int(one["id"]): parse(one["schema"]) for one in told})
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"schemas.jsonl holds no schemas: {error}") from None


def described(lines: Iterable[bytes]) -> dict[str, int | str]:
    """Return the manifest's entry for a file."""
    digest, count = sha256(), 0
    for line in lines:
        digest.update(line)
        count += 1
    return {"lines": count, "sha256": digest.hexdigest()}


def place(aggregate: str, shard: int) -> str:
    """Return the name of a shard's position."""
    return f"{aggregate}:{shard}"


def of_place(name: str) -> tuple[str, int]:
    """Return aggregate and shard of a position's name."""
    aggregate, _, shard = name.rpartition(":")
    return aggregate, int(shard)


def file_of(topic: str, shard: int) -> str:
    """Return the file of a partition; ``topic`` is without its prefix."""
    return f"{topic}-{shard}.jsonl"


def topic_of(file: str) -> tuple[str, int]:
    """Return topic and shard of a file."""
    topic, _, shard = file.removesuffix(".jsonl").rpartition("-")
    return topic, int(shard)
