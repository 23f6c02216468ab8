"""A command on its way through the writer."""

from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from streams.domain.aggregate import Message


class Command(NamedTuple):
    """A decoded command: the message for the rules, and what its headers said as the bytes to be passed on."""

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
