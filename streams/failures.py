"""What can be wrong with a record, and what is done about it.

A record that cannot be decided goes to quarantine with one of these causes, and its partition goes on.
"""

import hashlib
import traceback
from typing import Literal

Cause = Literal[
    "undecodable",
    "unknown_type",
    "unknown_schema",
    "too_large",
    "no_key",
    "handler_error",
    "misrouted",
    "parked",
]


class Poison(Exception):
    """A record that no retry can help: quarantine it. ``detail`` is one sentence for the person who redrives it."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause: Cause = cause
        self.detail = detail


class WrongTopic(RuntimeError):
    """A topic is not what it must be: going on would lose or reorder data. The message says how to mend it."""


class TopicRefused(RuntimeError):
    """The brokers will not make a topic that is to be written to; the message says which, and why."""


class NodeTaken(RuntimeError):
    """Another process runs as this node: it keeps fencing our writer."""


class Hanging(RuntimeError):
    """A transaction that nobody ends stands before a shard (partition and producer in the message)."""


class BrokenLog(RuntimeError):
    """The log contradicts itself: a version or sequence is missing or doubled. The shard takes no commands."""


def fingerprint(error: BaseException) -> str:
    """Return a short name shared by all errors raised at the same place in the code."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    place = "|".join(f"{frame.filename}:{frame.name}:{frame.lineno}" for frame in frames)
    return hashlib.blake2b(f"{type(error).__name__}|{place}".encode(), digest_size=6).hexdigest()
