"""The records that were set aside, with their cause, and what people did about them.

A deed is a record of the same topic under the same key, told by a header of its own: ``redriven-by`` or ``dropped-by``.
A command that is sent again carries in headers what became of it before; if it fails again, its new place in
quarantine knows how often it was tried, and how often in a row it failed alike.

``parked`` is ``first`` for a record that holds its aggregate up, ``behind`` for one that waits for it; the owner says with
``released`` that it no longer does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import JSON, BigInteger, Boolean, Column, Integer, LargeBinary, Text

from schemas import topics as names
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
        Column("attempts", Integer, nullable=False),
        Column("failed_alike", Integer, nullable=False),
        Column("log_partition", Integer, nullable=False),
        Column("log_offset", BigInteger, nullable=False),
        Column("redrives", Integer, nullable=False),
        Column("redriven_by", Text),
        Column("redrive_command_id", Text),
        Column("redriven_at", Text),
        Column("edited", Boolean, nullable=False),
        Column("dropped_by", Text),
        Column("dropped_at", Text),
        Column("drop_reason", Text),
        Column("parked", Text),
    ],
    {
        "time": ("at", "source_topic", "source_partition", "source_offset"),
    },
)

SAMPLE_BYTES_MAX = 64 << 10
ATTEMPTS_HEADER = "redrive-attempts"
FAILURE_HEADER = "redrive-failure"
ALIKE_HEADER = "redrive-failed-alike"


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


def place_of(row: Row) -> str:
    """Return the id of a record: the place it came from."""
    return f"{row['source_topic']}/{row['source_partition']}/{row['source_offset']}"


def key(entry: Entry, _meta: object) -> tuple[str, str, int, int]:
    """Return the aggregate and the place the record came from."""
    return (entry.aggregate, *source(entry))


def failure(cause: str, fingerprint: str) -> str:
    """Return what two failures have in common that are alike: the cause, and where in the code it was raised."""
    return f"{cause}/{fingerprint}"


def fold(row: Row | None, entry: Entry, _meta: object) -> Row | None:
    """Return the entry, or the entry with what was done about it; a deed without its record leaves nothing."""
    headers = entry.headers
    if row is not None and headers.get("parked") == "released":
        row = {**row, "parked": None}
        if "redriven-by" not in headers:
            return row
    if "redriven-by" in headers:
        return None if row is None else {**row, **_redriven(row, headers)}
    if "dropped-by" in headers:
        return None if row is None else {**row, **_dropped(headers)}
    return _set_aside(entry)


def _redriven(row: Row, headers: Mapping[str, str]) -> Row:
    again = headers.get("redrive-command-id")
    if again is not None and again == row["command_id"]:
        return {}  # it has failed again already, and is here under this id
    return {
        "status": "redriven",
        # The same command twice is one attempt: who was not told that it was sent may have sent it again.
        "redrives": row["redrives"] + (again != row["redrive_command_id"]),
        "redriven_by": headers["redriven-by"],
        "redrive_command_id": again,
        "redriven_at": headers.get("at"),
        "edited": row["edited"] or "edited" in headers,
    }


def _dropped(headers: Mapping[str, str]) -> Row:
    return {
        "status": "dropped",
        "dropped_by": headers["dropped-by"],
        "dropped_at": headers.get("at"),
        "drop_reason": headers.get("reason", ""),
    }


def _set_aside(entry: Entry) -> Row:
    headers = entry.headers
    cause, fingerprint = headers.get("cause", "undecodable"), headers.get("fingerprint", "")
    alike = headers.get(names.as_original(FAILURE_HEADER)) == failure(cause, fingerprint)
    tried = cause != "parked"
    topic, partition, offset = source(entry)
    original_key = headers.get(names.ORIGINAL_KEY, "")
    return {
        "aggregate": entry.aggregate,
        "source_topic": topic,
        "source_partition": partition,
        "source_offset": offset,
        # A key of another form belongs to nobody: every tenant's operator may see it.
        "tenant": original_key.partition("/")[0] if "/" in original_key else "",
        "status": "open",
        "cause": cause,
        "detail": headers.get("detail", ""),
        "fingerprint": fingerprint,
        "original_key": original_key,
        "headers": dict(names.original(headers.items())),
        "size": len(entry.value),
        "sample": entry.value[:SAMPLE_BYTES_MAX],
        "command_id": headers.get("command-id", ""),
        "at": headers.get("at", ""),
        "node": headers.get("node", ""),
        "attempts": tried + _count(headers.get(names.as_original(ATTEMPTS_HEADER))),
        "failed_alike": tried + (_count(headers.get(names.as_original(ALIKE_HEADER))) if alike else 0),
        "log_partition": entry.partition,
        "log_offset": entry.offset,
        "redrives": 0,
        "redriven_by": None,
        "redrive_command_id": None,
        "redriven_at": None,
        "edited": False,
        "dropped_by": None,
        "dropped_at": None,
        "drop_reason": None,
        "parked": headers.get("parked"),
    }


def _count(text: str | None) -> int:
    """Return a number from a header, which anybody may have written."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else 0


VIEW = View(
    name="quarantine", table=TABLE, source="quarantine", aggregates=None, key=key, fold=fold, typed=False
)
