"""The records that were set aside, with their cause, and whether they were sent again."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import JSON, BigInteger, Column, Integer, LargeBinary, Text

from streams.projections.view import Row, View, versioned

TABLE = versioned(
    "quarantine",
    [
        Column("aggregate", Text, primary_key=True),
        Column("source_topic", Text, primary_key=True),
        Column("source_partition", Integer, primary_key=True),
        Column("source_offset", BigInteger, primary_key=True),
        Column("tenant", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("cause", Text, nullable=False),
        Column("detail", Text, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("original_key", Text, nullable=False),
        Column("headers", JSON, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("sample", LargeBinary, nullable=False),
        Column("command_id", Text, nullable=False),
        Column("at", Text, nullable=False),
        Column("node", Text, nullable=False),
        Column("log_partition", Integer, nullable=False),
        Column("log_offset", BigInteger, nullable=False),
        Column("redriven_by", Text),
        Column("redrive_command_id", Text),
        Column("redriven_at", Text),
    ],
    {
        "time": ("at", "source_topic", "source_partition", "source_offset"),
    },
)

SAMPLE_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of ``<aggregate>.quarantine`` as it was read."""

    aggregate: str
    key: str
    value: bytes
    headers: Mapping[str, str]
    partition: int
    offset: int


def source(entry: Entry) -> tuple[str, int, int]:
    """Return topic, partition and offset of the record that was set aside; raises ValueError on a foreign key."""
    topic, partition, offset = entry.key.rsplit("/", 2)
    return topic, int(partition), int(offset)


def key(entry: Entry, _meta: object) -> tuple[str, str, int, int]:
    """Return the aggregate and the place the record came from."""
    return (entry.aggregate, *source(entry))


def fold(row: Row | None, entry: Entry, _meta: object) -> Row | None:
    """Return the entry, or the entry marked as redriven; a marker without its record leaves nothing."""
    headers = entry.headers
    if not entry.value and "redriven-by" in headers:
        if row is None:
            return None
        return {
            **row,
            "status": "redriven",
            "redriven_by": headers["redriven-by"],
            "redrive_command_id": headers.get("redrive-command-id"),
            "redriven_at": headers.get("at"),
        }
    topic, partition, offset = source(entry)
    original_key = headers.get("original-key", "")
    return {
        "aggregate": entry.aggregate,
        "source_topic": topic,
        "source_partition": partition,
        "source_offset": offset,
        # A key of another form belongs to nobody: every tenant's operator may see it.
        "tenant": original_key.partition("/")[0] if "/" in original_key else "",
        "status": "open",
        "cause": headers.get("cause", "undecodable"),
        "detail": headers.get("detail", ""),
        "fingerprint": headers.get("fingerprint", ""),
        "original_key": original_key,
        "headers": {
            name.removeprefix("original-"): value
            for name, value in headers.items()
            if name.startswith("original-") and name != "original-key"
        },
        "size": len(entry.value),
        "sample": entry.value[:SAMPLE_BYTES_MAX],
        "command_id": headers.get("command-id", ""),
        "at": headers.get("at", ""),
        "node": headers.get("node", ""),
        "log_partition": entry.partition,
        "log_offset": entry.offset,
        "redriven_by": None,
        "redrive_command_id": None,
        "redriven_at": None,
    }


VIEW = View(
    name="quarantine", table=TABLE, source="quarantine", aggregates=None, key=key, fold=fold, typed=False
)
