"""Lines of a Singer tap, made into what the platform understands."""

from typing import Any

import orjson

from connectors.sdk.errors import BadOutput
from connectors.sdk.record import SourceItem, SourceRecord, State, StreamSchema

_QUOTED = 200


def parse(line: bytes, program: str) -> SourceItem | None:
    """Return what one line says; None for a message type that means nothing here.

    Raise BadOutput, with the line quoted, for anything that is no Singer message.
    """
    try:
        message: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadOutput(_garbage(line, program, "not JSON")) from error
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str):
        raise BadOutput(_garbage(line, program, "no Singer message"))
    try:
        match kind if kind.isupper() else kind.upper():
            case "RECORD":
                record = message["record"]
                if record.__class__ is not dict:
                    raise BadOutput(_garbage(line, program, "a RECORD whose record is no object"))
                return SourceRecord(message["stream"], record)
            case "STATE":
                return State(message["value"])
            case "SCHEMA":
                return StreamSchema(
                    message["stream"], message["schema"], tuple(message.get("key_properties") or ())
                )
            case _:
                return None
    except KeyError as error:
        raise BadOutput(_garbage(line, program, f"a {kind} without {error.args[0]!r}")) from error


def _garbage(line: bytes, program: str, what: str) -> str:
    shown = line[:_QUOTED].decode("utf-8", "replace")
    return f"{program} printed a line that is {what}: {shown!r}; a tap may print Singer messages only"
