"""Request bodies as types: decoded and checked in one pass, with an error that names the field."""

from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web

from app.documents import Unreadable, read_json, read_yaml
from app.errors import problem

T = TypeVar("T")
_YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")


class StartRunBody(msgspec.Struct, forbid_unknown_fields=True):
    """Start a run. ``key``: the same key starts the same run only once. ``input`` is given to every step.

    ``priority``: null is what the pipeline file says.
    """

    input: dict[str, Any] = {}
    full_refresh: bool = False
    key: str | None = None
    priority: Literal["high", "normal", "low"] | None = None


class ReasonBody(msgspec.Struct, forbid_unknown_fields=True):
    """Why somebody does this; kept in the event."""

    reason: str | None = None


class CancelBody(msgspec.Struct, forbid_unknown_fields=True):
    """Why; with ``now``, the ``finally`` steps are not done either."""

    reason: str | None = None
    now: bool = False


class NoteBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be remembered with it."""

    note: str | None = None


class EmptyBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing is needed."""


class RerunBody(msgspec.Struct, forbid_unknown_fields=True, rename={"from_step": "from"}):
    """Run again; with ``from``, results of the steps before it are reused."""

    from_step: str | None = None


class RerunManyBody(msgspec.Struct, forbid_unknown_fields=True, rename={"from_step": "from"}):
    """Which runs, by id. ``from_failed``: each from its first step that failed. ``dry_run``: only say what would be done."""

    runs: list[str]
    from_step: str | None = None
    from_failed: bool = False
    dry_run: bool = False


class SignalBody(msgspec.Struct, forbid_unknown_fields=True):
    """What has happened; ``payload`` becomes the output of the step that waits for it."""

    name: str
    payload: dict[str, Any] = {}


class BookmarkBody(msgspec.Struct, forbid_unknown_fields=True):
    """Where the step shall go on: for an extract, a Singer STATE value."""

    bookmark: Any


class RedriveDatasetBody(msgspec.Struct, forbid_unknown_fields=True):
    """``run``: only what was rejected in that run. ``dry_run``: only say what would be taken up."""

    run: str | None = None
    dry_run: bool = False


class RedriveBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which records, by id. ``force``: also those that keep failing alike. ``dry_run``: only say what would be done."""

    records: list[str]
    force: bool = False
    dry_run: bool = False


class EditBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the command shall say instead: all its fields. ``type`` where it is another or cannot be told."""

    data: dict[str, Any]
    type: str | None = None


class DropBody(msgspec.Struct, forbid_unknown_fields=True):
    """Why nobody shall send it again; kept with the record."""

    reason: str


class DropManyBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which records, by id, and why nobody shall send them again. ``dry_run``: only say what would be done."""

    records: list[str]
    reason: str
    dry_run: bool = False


class RedactBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which event, by aggregate, id and sequence; which fields lose their values, and why. ``dry_run``: only say what would be done."""

    aggregate: str
    id: str
    sequence: int
    fields: list[str]
    reason: str
    dry_run: bool = False


class CommandBody(msgspec.Struct, forbid_unknown_fields=True):
    """Any command: what a Kafka client would write to ``<aggregate>.commands``."""

    aggregate: str
    type: str
    id: str
    data: dict[str, Any] = {}


async def read_body(request: web.Request, kind: type[T]) -> T:
    """Return the request's JSON body as ``kind``; an absent body is the empty object.

    Raises ``unsupported_media_type``, ``bad_json`` or ``invalid`` (with the field in ``errors``).
    """
    data = await request.read()
    if not data.strip():
        data = b"{}"
    elif request.content_type != "application/json":
        raise problem(
            "unsupported_media_type", f"The body is {request.content_type}; JSON is understood here."
        )
    return convert(_json(data), kind)


async def read_document(request: web.Request) -> Any:
    """Return the request's body, YAML or JSON, as plain data; raises as :func:`read_body` does."""
    data = await request.read()
    if not data.strip():
        raise problem("bad_json", "The body is empty; a pipeline file is expected.")
    if request.content_type == "application/json":
        return _json(data)
    if request.content_type not in _YAML_TYPES:
        raise problem(
            "unsupported_media_type", f"The body is {request.content_type}; JSON or YAML is understood here."
        )
    try:
        return read_yaml(data.decode())
    except (UnicodeDecodeError, Unreadable) as error:
        raise problem("bad_json", f"The body is not YAML: {error}.") from None


def convert(value: Any, kind: type[T]) -> T:
    """Return ``value`` as ``kind``; raises ``invalid`` naming the field that does not fit."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        pointer = place.rstrip("`").replace("[", "/").replace("]", "").replace(".", "/")
        raise problem("invalid", f"{text}.", [{"pointer": pointer, "detail": text}]) from None


def _json(data: bytes) -> Any:
    try:
        return read_json(data)
    except Unreadable as error:
        raise problem("bad_json", f"The body is {error}.") from None
