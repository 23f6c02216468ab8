"""What is on the topics, read and decoded by plain clients: no code of the product, only the registered schemas."""

import io
import json
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from tests.support.truth import Seen, read

Row = dict[str, Any]


@dataclass
class Log:
    """The wallet topics, partition by partition in offset order, and where group and topics stand.

    ``standing`` has, for each shard, the committed offset and metadata; ``ends`` the high watermark and the last stable
    offset of each topic and shard; ``memory`` what each worker held of each shard in the end.
    """

    commands: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    outcomes: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    standing: dict[str, tuple[int, str]] = field(default_factory=dict)
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    memory: dict[str, dict[str, Row]] = field(default_factory=dict)

    def save(self, file: Path) -> None:
        """Write it as one JSON document a line, one for each part."""
        with file.open("w") as out:
            for name, part in asdict(self).items():
                out.write(json.dumps({name: part}) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Log":
        """Read what ``save`` wrote."""
        parts: Row = {}
        for line in file.read_text().splitlines():
            parts |= json.loads(line)
        return cls(**parts)


def decoder(schema: Callable[[int], Any]) -> Callable[[bytes], tuple[str, Row]]:
    """Return a function from a framed value to the record's short name and fields; ``schema`` gives a schema by id."""
    known: dict[int, Any] = {}

    def decode(value: bytes) -> tuple[str, Row]:
        (number,) = struct.unpack(">I", value[1:5])
        if number not in known:
            known[number] = fastavro.parse_schema(json.loads(json.dumps(schema(number))))
        writer = known[number]
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), writer, None)
        return str(writer["name"]).rpartition(".")[2], record

    return decode


def _text(headers: dict[str, bytes], name: str) -> str:
    return (headers.get(name) or b"").decode()


def command(seen: Seen, decode: Callable[[bytes], tuple[str, Row]]) -> Row:
    """Return a command as the checker wants it; ``body`` is None for what is no command."""
    kind, body = _text(seen.headers, "command-type"), None
    try:
        if seen.value.startswith(b"{"):
            body = json.loads(seen.value)
        else:
            kind, body = decode(seen.value)
    except (ValueError, KeyError, struct.error, EOFError):
        body = None
    return {
        "shard": seen.partition,
        "offset": seen.offset,
        "key": seen.key.decode(),
        "id": _text(seen.headers, "command-id"),
        "kind": kind,
        "body": body,
        "expected": int(_text(seen.headers, "expected-version") or -1),
        "cause": _text(seen.headers, "causation-id"),
        "now": seen.at,
    }


def event(seen: Seen, decode: Callable[[bytes], tuple[str, Row]]) -> Row:
    """Return an event as the checker wants it."""
    kind, body = decode(seen.value)
    said = body.pop("envelope")
    return {
        "shard": seen.partition,
        "offset": seen.offset,
        "key": seen.key.decode(),
        "kind": kind,
        "body": body,
        "wallet": f"{said['tenant']}/{said['aggregate_id']}",
        "version": said["version"],
        "sequence": said["sequence"],
        "id": said["event_id"],
        "command": said["command_id"],
        "source": said["source_offset"],
        "writer": said["writer"],
        "at": seen.at,
    }


def outcome(seen: Seen, decode: Callable[[bytes], tuple[str, Row]]) -> Row:
    """Return an outcome as the checker wants it."""
    _, body = decode(seen.value)
    return {
        "shard": seen.partition,
        "offset": seen.offset,
        "id": body["command_id"],
        "status": body["status"],
        "reason": body["reason"],
        "first": body["first_version"],
        "last": body["last_version"],
        "sequence": body["sequence"],
        "stored": body["stored"],
        "replayed": "replayed" in seen.headers,
        "source": int(_text(seen.headers, "source-offset")),
        "writer": _text(seen.headers, "writer"),
        "at": seen.at,
    }


def read_log(bootstrap: str, prefix: str, shards: int, schema: Callable[[int], Any]) -> Log:
    """Read everything that is committed, up to the high watermarks of now. Blocking."""
    decode, log = decoder(schema), Log()
    topic = f"{prefix}.wallet."
    log.ends = ends(bootstrap, [f"{topic}{name}" for name in ("commands", "events", "outcomes")], shards)
    log.commands = [command(seen, decode) for seen in read(bootstrap, f"{topic}commands", shards)]
    log.events = [event(seen, decode) for seen in read(bootstrap, f"{topic}events", shards)]
    log.outcomes = [outcome(seen, decode) for seen in read(bootstrap, f"{topic}outcomes", shards)]
    log.quarantine = [
        {
            "shard": seen.partition,
            "source": int(_text(seen.headers, "source-offset")),
            "cause": _text(seen.headers, "cause"),
        }
        for seen in read(bootstrap, f"{topic}quarantine", shards)
    ]
    log.standing = standing(bootstrap, f"{prefix}.worker", f"{topic}commands", shards)
    return log


def standing(bootstrap: str, group: str, topic: str, shards: int) -> dict[str, tuple[int, str]]:
    """Return the group's committed offset and metadata of each shard."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        asked = [TopicPartition(topic, number) for number in range(shards)]
        found = consumer.committed(asked, timeout=15)
        return {str(part.partition): (part.offset, part.metadata or "") for part in found}
    finally:
        consumer.close()


def ends(bootstrap: str, topics: list[str], shards: int) -> dict[str, tuple[int, int]]:
    """Return, by ``topic/shard``, the high watermark and the last stable offset."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # untyped in the client
    asked = {TopicPartition(topic, number): latest for topic in topics for number in range(shards)}
    both = []
    for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED):
        answers = admin.list_offsets(asked, isolation_level=level, request_timeout=15)
        both.append(
            {f"{tp.topic}/{tp.partition}": future.result(20).offset for tp, future in answers.items()}
        )
    return {name: (end, both[1][name]) for name, end in both[0].items()}
