"""The answer to a command as bytes: encoded by parts, because there is one for every command.

The order here is the order of ``avro/common/Outcome.avsc``; a test holds both together. Wire format: version with care.
"""

from typing import Final, NamedTuple

from librt.strings import BytesWriter

from schemas.codec import HEADER_BYTES
from schemas.envelope import put_optional, text
from schemas.numbers import odd, put_long, put_sized

FIELDS = (
    "command_id", "command_type", "tenant", "aggregate", "aggregate_id", "status", "reason", "detail", "first_version",
    "last_version", "shard", "sequence", "position", "body_hash", "actor", "correlation_id", "at", "stored", "reply",
)  # fmt: skip


class Answer(NamedTuple):
    """What a command is told. ``status`` is accepted | rejected | failed; ``reply`` is JSON text."""

    status: str
    reason: str | None = None
    detail: str | None = None
    reply: str | None = None
    stored: bool = True


ACCEPTED: Final = Answer("accepted")
_ACCEPTED: Final = text("accepted") + b"\0\0"


def put_outcome(
    out: BytesWriter,
    command_id: bytes,
    command_type: bytes,
    whose: bytes,
    answer: Answer,
    numbers: tuple[int, int, int, int, int],
    body_hash: str,
    who_and_when: bytes,
) -> None:
    """Append the outcome. ``whose`` is of :func:`schemas.envelope.put_place`; ``numbers`` are first and last version,
    shard, sequence and position; ``command_type`` and ``who_and_when`` (actor, correlation id, time) are Avro values.
    """
    put_sized(out, command_id)
    out.write(command_type)
    out.write(whose)
    if answer is ACCEPTED:
        out.write(_ACCEPTED)
    else:
        put_sized(out, answer.status.encode())
        _put_optional_text(out, answer.reason)
        _put_optional_text(out, answer.detail)
    first_version, last_version, shard, sequence, position = numbers
    put_long(out, first_version)
    put_long(out, last_version)
    put_long(out, shard)
    put_long(out, sequence)
    put_long(out, position)
    put_sized(out, body_hash.encode())
    out.write(who_and_when)
    out.append(1 if answer.stored else 0)
    _put_optional_text(out, answer.reply)


def command_id_of(outcome: bytes) -> bytes:
    """Return the command id of an outcome in its framing: its first field."""
    size, at = outcome[HEADER_BYTES], HEADER_BYTES + 1
    if size & 129:
        size, at = odd(outcome, at, size)
    return outcome[at : at + (size >> 1)]


def _put_optional_text(out: BytesWriter, value: str | None) -> None:
    put_optional(out, None if value is None else value.encode())
