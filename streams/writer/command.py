"""A command on its way through the writer."""

from hashlib import blake2b
from typing import Any, Final

import orjson
from mypy_extensions import mypyc_attr

from streams.domain.aggregate import Message


@mypyc_attr(acyclic=True)
class Command:
    """A decoded command: the message for the rules, and what its headers said as the bytes to be passed on.

    Read only; neither frozen nor a dataclass, because there is one for every command: a frozen one takes four times as
    long to make, and of a dataclass not even the compiler makes the constructor faster.
    """

    __slots__ = (
        "actor", "body_hash", "causation_id", "command_id", "correlation_id", "expected_version", "message",
        "traceparent",
    )  # fmt: skip

    def __init__(
        self,
        message: Message,
        body_hash: str,
        expected_version: int | None,
        command_id: bytes,
        causation_id: bytes,
        correlation_id: bytes,
        actor: bytes,
        traceparent: bytes | None,
    ) -> None:
        self.message = message
        self.body_hash = body_hash
        self.expected_version = expected_version
        self.command_id = command_id
        self.causation_id = causation_id
        self.correlation_id = correlation_id
        self.actor = actor
        self.traceparent = traceparent

    @property
    def kind(self) -> str:
        """The command's type."""
        return type(self.message.body).__name__


def of_timer(message: Message) -> Command:
    """Return the command that a timer is: nobody sent it, and nobody waits for its outcome."""
    command_id = message.command_id.encode()
    return Command(
        message, "", None, command_id, b"", message.correlation_id.encode(), message.actor.encode(), None
    )


# A hash of the type, to be gone on with: there are few types, and each of them is in the product or a plugin.
_BEGUN: Final = dict[str, Any]()


def body_hash(command_type: str, body: Any) -> str:
    """Return the hash of a command's decoded fields: equal for Avro and JSON, whatever their order."""
    begun = _BEGUN.get(command_type)
    if begun is None:
        begun = _BEGUN[command_type] = blake2b(command_type.encode(), digest_size=8)
    hashed = begun.copy()
    hashed.update(orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
    return hashed.hexdigest()
