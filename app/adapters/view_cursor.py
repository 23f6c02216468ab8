"""Opaque cursors of lists: where a page ended, as text that only this module reads."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from app.errors import problem

_CHARS_MAX = 4_096


def encode(values: Sequence[Any]) -> str:
    """Return the cursor for the sort key of a page's last row."""
    return (
        base64.urlsafe_b64encode(json.dumps(list(values), separators=(",", ":")).encode())
        .decode()
        .rstrip("=")
    )


def decode(cursor: str, kinds: Sequence[type]) -> tuple[Any, ...]:
    """Return the sort key; raises ``bad_request`` for a cursor that this list did not give."""
    try:
        if len(cursor) > _CHARS_MAX:
            raise ValueError("too long")
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
            raise ValueError("another list's")
    except (ValueError, binascii.Error, RecursionError):
        raise problem("bad_request", "The cursor is not one that this list gave; begin without it.") from None
    return tuple(values)
