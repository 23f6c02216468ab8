"""The answer to a command as bytes: encoded by parts, because there is one for every command.

The order here is the order of ``avro/common/Outcome.avsc``; a test holds both together. Wire format: version with care.
"""

from typing import Final, NamedTuple

from schemas.codec import HEADER_BYTES
from schemas.envelope import optional, text
from schemas.numbers import odd, zigzag

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
_ACCEPTED: Final = text("accepted") + optional(None) + optional(None)


def outcome(
    command_id: bytes,
    command_type: bytes,
    whose: bytes,
    answer: Answer,
    numbers: tuple[int, int, int, int, int],
    body_hash: str,
    who_and_when: bytes,
) -> bytes:
    """Return the outcome. ``whose`` is from :func:`schemas.envelope.place`; ``numbers`` are first and last version,
    shard, sequence and position; ``command_id``, ``command_type`` and ``who_and_when`` (actor, correlation id, time)
    are Avro values.
    """
    first_version, last_version, shard, sequence, position = numbers
    return b"".join(
        (
            command_id,
            command_type,
            whose,
            _ACCEPTED if answer is ACCEPTED else _told(answer),
            zigzag(first_version),
            zigzag(last_version),
            zigzag(shard),
            zigzag(sequence),
            zigzag(position),
            text(body_hash),
            who_and_when,
            b"\1" if answer.stored else b"\0",
            optional(answer.reply),
        )
    )


def command_id_of(outcome: bytes) -> str:
    """Return the command id of an outcome in its framing: its first field."""
    size, at = outcome[HEADER_BYTES], HEADER_BYTES + 1
    if size & 129:
        size, at = odd(outcome, at, size)
    return outcome[at : at + (size >> 1)].decode()


def _told(answer: Answer) -> bytes:
    return text(answer.status) + optional(answer.reason) + optional(answer.detail)
