"""Columns of values as PostgreSQL array literals: one parameter a column, made at the speed of ``str.join``."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from sqlalchemy import JSON, Column, LargeBinary, Text

Literal = Callable[[Sequence[Any]], str]


def literal_of(column: Column[Any]) -> Literal:
    """Return what turns values of ``column`` into the text of an array."""
    if isinstance(column.type, JSON):
        return _json
    if isinstance(column.type, LargeBinary):
        return _bytes
    return _text if isinstance(column.type, Text) else _plain


def dump_json(value: Any) -> str:
    """Return JSON text, the same for the same value; what JSON does not know is written as text."""
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:
        # Integers beyond 64 bits: slower, but exact.
        return json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":"))


def clean(text: str) -> str:
    """Return the text as PostgreSQL can hold it: a NUL becomes the replacement character."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _text(values: Sequence[str | None]) -> str:
    quoted = [
        "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for value in values
    ]
    return clean("{" + ",".join(quoted) + "}")


def _json(values: Sequence[Any]) -> str:
    return _text([None if value is None else dump_json(value) for value in values])


def _bytes(values: Sequence[bytes | None]) -> str:
    return _text([None if value is None else "\\x" + value.hex() for value in values])


def _plain(values: Sequence[Any]) -> str:
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
