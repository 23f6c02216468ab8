"""A command on its way through the writer."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from streams.domain.aggregate import Message


@dataclass(slots=True)
class Command:
    """A decoded command: the message for the rules, and what its headers said as the bytes to be passed on.

    Read only; not frozen, because there is one for every command, and a frozen one takes four times as long to make.
    """

    message: Message
    kind: str
    body_hash: str
    expected_version: int | None
    command_id: bytes
    causation_id: bytes
    correlation_id: bytes
    actor: bytes
    traceparent: bytes | None


def of_timer(message: Message) -> Command:
    """Return the command that a timer is: nobody sent it, and nobody waits for its outcome."""
    command_id = message.command_id.encode()
    return Command(
        message, "", "", None, command_id, b"", message.correlation_id.encode(), message.actor.encode(), None
    )


def body_hash(command_type: str, body: Any) -> str:
    """Return the hash of a command's decoded fields: equal for Avro and JSON, whatever their order."""
    canonical = command_type.encode() + orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return blake2b(canonical, digest_size=8).hexdigest()
