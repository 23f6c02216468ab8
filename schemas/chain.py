"""The hash chain of events, and what a checkpoint signs: the bytes, so that anybody can recompute them.

Each event carries the header ``chain``: SHA-256 of the chain of the aggregate's event before it (32 zero bytes before
the first), the event's key, and SHA-256 of its value. So an event cannot be changed, dropped or moved without every
later one of its aggregate saying so. A redacted event keeps its key and its chain; ``redacted`` says by whom and why,
``value-hash`` is the SHA-256 of what it was. It stands behind later events, and is no event of its own: whoever reads the
log puts it in the place of the body it has, and does nothing else.

A *checkpoint* covers the sequences (``after``, ``to``] of one aggregate's shard. Its root is SHA-256 of the root before
it, the hash of the events' chains in the order of their sequences, and the hash of the outcomes, each preceded by its
length. Wire format: version with care.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

CHAIN: Final = "chain"
REDACTED: Final = "redacted"
VALUE_HASH: Final = "value-hash"
START: Final = bytes(32)
_SIZES_MADE: Final = 1024
_SIZES: Final = tuple(length.to_bytes(4, "big") for length in range(_SIZES_MADE))


def redaction(headers: Iterable[tuple[str, bytes | None]] | None) -> str:
    """Return by whom and why a record was redacted, as its headers say; "" for an event as it was written."""
    told = next((raw for name, raw in headers or () if name == REDACTED), None)
    return "" if told is None else told.decode("utf-8", "replace") or "-"


def link(previous: bytes, key: bytes, value: bytes) -> bytes:
    """Return the chain of an event, from the chain of its aggregate's event before it."""
    return sha256(previous + key + sha256(value).digest()).digest()


def link_of_hash(previous: bytes, key: bytes, value_hash: bytes) -> bytes:
    """Return the same for an event of whose value only the hash is left."""
    return sha256(previous + key + value_hash).digest()


def framed(outcomes: Iterable[bytes]) -> bytes:
    """Return outcomes as they are hashed: each preceded by its length (4 bytes, big-endian)."""
    return b"".join([part for value in outcomes for part in (_size(value), value)])


def _size(value: bytes) -> bytes:
    length = len(value)
    return _SIZES[length] if length < _SIZES_MADE else length.to_bytes(4, "big")


def root_after(root: bytes, events_hash: bytes, outcomes_hash: bytes) -> bytes:
    """Return the root of a checkpoint, from the root of the one before it (32 zero bytes before the first)."""
    return sha256(root + events_hash + outcomes_hash).digest()
