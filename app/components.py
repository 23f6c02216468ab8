"""Component schemas of the OpenAPI document: bodies from the types that check them, rows from the views' own tables."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import JSON, BigInteger, Boolean, Integer, LargeBinary, Table

from app.answers import ANSWERS, NUMBER, TEXT, Schema, object_of, ref
from app.commands import bodies
from app.errors import TABLE
from streams.projections import alert, bookmark, command, event, limit, pipeline, quarantine, run, schedule

_LISTED: Mapping[str, str] = {
    "PipelineList": "Pipeline",
    "RunList": "Run",
    "ScheduleList": "Schedule",
    "AlertList": "Alert",
    "LimitList": "Limit",
    "BookmarkList": "Bookmark",
    "DatasetList": "Dataset",
    "EventList": "Event",
    "QuarantineList": "Quarantined",
    "ViewList": "View",
    "LogList": "Log",
    "UserEventList": "UserEvent",
    "RecordList": "Record",
}
_BODIES: Mapping[str, type[msgspec.Struct]] = {
    "StartRun": bodies.StartRunBody,
    "Reason": bodies.ReasonBody,
    "Cancel": bodies.CancelBody,
    "Note": bodies.NoteBody,
    "Empty": bodies.EmptyBody,
    "Rerun": bodies.RerunBody,
    "RerunMany": bodies.RerunManyBody,
    "Signal": bodies.SignalBody,
    "SetBookmark": bodies.BookmarkBody,
    "RedriveDataset": bodies.RedriveDatasetBody,
    "RedriveMany": bodies.RedriveBody,
    "EditRecord": bodies.EditBody,
    "DropRecord": bodies.DropBody,
    "DropMany": bodies.DropManyBody,
    "Command": bodies.CommandBody,
    "Redact": bodies.RedactBody,
}
_ROWS: Mapping[str, Table] = {
    "Pipeline": pipeline.TABLE,
    "Run": run.TABLE,
    "Schedule": schedule.TABLE,
    "Alert": alert.TABLE,
    "Limit": limit.TABLE,
    "Bookmark": bookmark.TABLE,
    "Event": event.TABLE,
    "Outcome": command.TABLE,
    "Quarantined": quarantine.TABLE,
}


def component_schemas() -> dict[str, Schema]:
    """Return every named schema that routes refer to."""
    found = {name: _body(kind) for name, kind in _BODIES.items()}
    found |= {name: _row(table) for name, table in _ROWS.items()}
    found["Run"]["properties"]["steps"] = {"type": "array", "items": ref("RunStep")}
    found |= ANSWERS
    # Nothing but these two is known of a command that has no outcome yet.
    found["Outcome"]["required"] = ["command_id", "status"]
    found["Outcome"]["properties"]["position"] = TEXT
    shown = {
        "id": TEXT,
        "sample": TEXT,
        "sample_hex": TEXT,
        "behind": {"type": ["string", "null"], "description": "Id of the record that this one waits for"},
        "command": {**object_of({"type": TEXT, "data": {"type": "object"}}), "type": ["object", "null"]},
    }
    found["Quarantined"]["properties"] |= shown
    found |= {name: _list(item) for name, item in _LISTED.items()}
    found["Problem"] = _problem()
    return dict(sorted(found.items()))


def _body(kind: type[msgspec.Struct]) -> Schema:
    schema: Schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return {name: value for name, value in schema.items() if name != "title"}


def _row(table: Table) -> Schema:
    """Return the schema of a view's row: its columns, and the position of the event it reflects."""
    properties = {column.name: _column(column.type, bool(column.nullable)) for column in table.columns}
    if "sequence" in properties:
        properties["position"] = {**TEXT, "description": "For ?min-position= of reads"}
    return {"type": "object", "required": sorted(properties), "properties": properties}


def _column(kind: object, nullable: bool) -> Schema:
    if isinstance(kind, JSON):
        return {}
    name = "string"
    if isinstance(kind, Boolean):
        name = "boolean"
    elif isinstance(kind, BigInteger | Integer):
        name = "integer"
    schema: Schema = {"type": [name, "null"] if nullable else name}
    return {**schema, "contentEncoding": "base64"} if isinstance(kind, LargeBinary) else schema


def _list(name: str) -> Schema:
    return object_of(
        {"items": {"type": "array", "items": ref(name)}, "cursor": {"type": ["string", "null"]}}, ["items"]
    )


def _problem() -> Schema:
    fault = object_of({"pointer": TEXT, "detail": TEXT, "fix": TEXT}, [])
    return object_of(
        {
            "type": TEXT,
            "title": TEXT,
            "status": NUMBER,
            "detail": TEXT,
            "instance": TEXT,
            "code": {"type": "string", "enum": list(TABLE)},
            "errors": {"type": "array", "items": fault},
        }
    )
