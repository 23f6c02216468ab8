"""CloudEvents 1.0 as they come over HTTP: structured, as a batch, or binary. Pure: content type, headers and bytes in."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from app.documents import Unreadable, read_json
from app.errors import Problem, problem
from app.ports import UserEvent

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_FAMILY = "application/cloudevents"
_REQUIRED = ("id", "source", "type")
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,100}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_JSON = re.compile(r"(?:[^;]*[/+])?json(?:;.*)?", re.IGNORECASE)
_VALUE_MAX = 4_096


def read_events(
    content_type: str, headers: Mapping[str, str], body: bytes, name: str | None
) -> tuple[UserEvent, ...]:
    """Return the events of a request; ``name`` says where they go, else each event's type does.

    Raises ``unsupported_media_type``, ``bad_json``, or ``invalid`` with every attribute that is wrong.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == STRUCTURED:
        return (_structured(_json(body), "", name),)
    if media_type == BATCH:
        batch = _json(body)
        if not isinstance(batch, list):
            raise _wrong([("", "a batch is a list of events")])
        return tuple(_structured(one, f"/{number}", name) for number, one in enumerate(batch))
    attributes = {key[3:].lower(): unquote(value) for key, value in headers.items() if _is_ours(key)}
    if media_type.startswith(_FAMILY) or "specversion" not in attributes:
        detail = (
            f"The body is {media_type or 'of no type'}, and the headers bear no CloudEvent (ce-specversion)."
        )
        raise problem("unsupported_media_type", detail)
    if content_type:
        attributes["datacontenttype"] = content_type
    return (_checked(attributes, body or None, "", name),)


def _is_ours(header: str) -> bool:
    return header[:3].lower() == "ce-"


def _structured(document: Any, place: str, name: str | None) -> UserEvent:
    if not isinstance(document, dict):
        raise _wrong([(place, "an event is an object")])
    attributes = {
        key: value
        for key, value in document.items()
        if key not in ("data", "data_base64") and value is not None
    }
    if "data" in document and "data_base64" in document:
        raise _wrong([(f"{place}/data_base64", "data and data_base64 exclude each other")])
    data: bytes | None = None
    if "data_base64" in document:
        try:
            data = base64.b64decode(str(document["data_base64"]), validate=True)
        except (binascii.Error, ValueError):
            raise _wrong([(f"{place}/data_base64", "is not Base64")]) from None
    elif "data" in document:
        kind = attributes.setdefault("datacontenttype", "application/json")
        text = isinstance(document["data"], str) and not _JSON.fullmatch(str(kind))
        data = document["data"].encode() if text else orjson.dumps(document["data"])
    return _checked(attributes, data, place, name)


def _checked(attributes: dict[str, Any], data: bytes | None, place: str, name: str | None) -> UserEvent:
    faults = [(f"{place}/{key}", "is needed") for key in _REQUIRED if not attributes.get(key)]
    texts: dict[str, str] = {}
    for key, value in attributes.items():
        if not _ATTRIBUTE.fullmatch(key):
            faults.append((f"{place}/{key}", "an attribute's name has lower-case letters and digits only"))
        elif not isinstance(value, (str, bool, int)):
            faults.append((f"{place}/{key}", "must be text, a whole number, or true or false"))
        elif len(text := _text(value)) > _VALUE_MAX:
            faults.append((f"{place}/{key}", f"is longer than {_VALUE_MAX} characters"))
        else:
            texts[key] = text
    if texts.get("specversion") != "1.0":
        faults.append((f"{place}/specversion", 'must be "1.0"'))
    chosen = name if name is not None else _named_by(texts.get("type", ""))
    if not _NAME.fullmatch(chosen):
        where = "name" if name is not None else f"{place}/type"
        faults.append((where, "no name can be made of it: lower-case letters, digits, hyphens, at most 63"))
    if faults:
        raise _wrong(faults)
    return UserEvent(chosen, texts, data)


def _text(value: str | bool | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _named_by(event_type: str) -> str:
    """Return the name that a type such as ``com.shop.OrderPlaced`` stands for: ``com-shop-orderplaced``."""
    return re.sub(r"[^a-z0-9]+", "-", event_type.lower()).strip("-")[:63].rstrip("-")


def _json(body: bytes) -> Any:
    try:
        return read_json(body)
    except Unreadable as error:
        raise problem("bad_json", f"The body is {error}.") from None


def _wrong(faults: list[tuple[str, str]]) -> Problem:
    errors = [{"pointer": pointer, "detail": detail} for pointer, detail in faults]
    return problem("invalid", "This is no CloudEvent 1.0.", errors)
