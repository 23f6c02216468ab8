"""A CloudEvent as it lies on Kafka, in binary or structured mode, as plain JSON data."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

_REQUIRED = ("id", "source", "type")
_STRUCTURED = "application/cloudevents+json"
_JSON = re.compile(r"(?:[^;]*[/+])?json(?:;.*)?", re.IGNORECASE)


class NoEvent(ValueError):
    """The record is no CloudEvent 1.0; the message says why."""


def read_event(headers: Sequence[tuple[str, bytes | str | None]], value: bytes | None) -> dict[str, Any]:
    """Return the attributes, and ``data``: JSON data or text; ``data_base64`` for bytes that are neither.

    Raises :class:`NoEvent`.
    """
    texts = {name: _text(said) for name, said in headers if said is not None}
    content_type = texts.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() == _STRUCTURED:
        event = _structured(value)
    else:
        event = {name[3:]: said for name, said in texts.items() if name.startswith("ce_")}
        if content_type:
            event["datacontenttype"] = content_type
        event |= _data(content_type, value)
    if event.get("specversion") != "1.0":
        raise NoEvent('specversion is not "1.0"')
    if missing := [name for name in _REQUIRED if not isinstance(event.get(name), str) or not event[name]]:
        raise NoEvent(f"it has no {missing[0]}")
    return event


def tenant_of(headers: Sequence[tuple[str, bytes | str | None]]) -> str:
    """Return whose event it is; other clients than ours need not say."""
    return next((_text(said) for name, said in headers if name == "tenant" and said), "default")


def _structured(value: bytes | None) -> dict[str, Any]:
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise NoEvent(f"it is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise NoEvent("it is no JSON object")
    return event


def _data(content_type: str, value: bytes | None) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not content_type or _JSON.fullmatch(content_type):
        try:
            return {"data": orjson.loads(value)}
        except orjson.JSONDecodeError as error:
            if content_type:
                raise NoEvent(f"its data is not JSON: {error}") from None
    try:
        return {"data": value.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(value).decode()}


def _text(said: bytes | str) -> str:
    return said if isinstance(said, str) else said.decode("utf-8", "replace")
