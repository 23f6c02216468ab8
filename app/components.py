"""Component schemas of the OpenAPI document: bodies from the types that check them, rows from the views' own tables."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import JSON, BigInteger, Boolean, Integer, LargeBinary, Table

from app.commands import bodies
from app.errors import TABLE
from streams.domain.kinds import STEP_KINDS
from streams.projections import alert, bookmark, command, event, limit, pipeline, quarantine, run, schedule

Schema = dict[str, Any]

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
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer"}


def component_schemas() -> dict[str, Schema]:
    """Return every named schema that routes refer to."""
    found = {name: _body(kind) for name, kind in _BODIES.items()}
    found |= {name: _row(table) for name, table in _ROWS.items()}
    found["Run"]["properties"]["steps"] = {"type": "array", "items": _ref("RunStep")}
    found |= _OTHERS
    # Nothing but these two is known of a command that has no outcome yet.
    found["Outcome"]["required"] = ["command_id", "status"]
    found["Outcome"]["properties"]["position"] = _TEXT
    shown = {
        "id": _TEXT,
        "sample": _TEXT,
        "sample_hex": _TEXT,
        "behind": {"type": ["string", "null"], "description": "Id of the record that this one waits for"},
        "command": {**_object({"type": _TEXT, "data": {"type": "object"}}), "type": ["object", "null"]},
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
        properties["position"] = {**_TEXT, "description": "For ?min-position= of reads"}
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
    return _object(
        {"items": {"type": "array", "items": _ref(name)}, "cursor": {"type": ["string", "null"]}}, ["items"]
    )


def _problem() -> Schema:
    fault = _object({"pointer": _TEXT, "detail": _TEXT, "fix": _TEXT}, [])
    return _object(
        {
            "type": _TEXT,
            "title": _TEXT,
            "status": _NUMBER,
            "detail": _TEXT,
            "instance": _TEXT,
            "code": {"type": "string", "enum": list(TABLE)},
            "errors": {"type": "array", "items": fault},
        }
    )


def _object(properties: Mapping[str, Schema], required: list[str] | None = None) -> Schema:
    needed = list(properties) if required is None else required
    return {"type": "object", "required": needed, "properties": dict(properties)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_MAYBE_NUMBER: Schema = {"type": ["integer", "null"]}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_PART = _object(
    {"name": _TEXT, "status": {"enum": ["ok", "failing"]}, "detail": _MAYBE_TEXT, "since": _NUMBER}
)
_NODE: Mapping[str, Schema] = {
    "node": _TEXT,
    "url": _TEXT,
    "registry_url": _TEXT,
    "roles": {"type": "array", "items": _TEXT},
    "labels": {"type": "array", "items": _TEXT},
    "shards": {"type": "array", "items": _NUMBER},
    "pid": _NUMBER,
}
_DEED = _object({"id": _TEXT, "done": {"type": "boolean"}, "why_not": _MAYBE_TEXT, "command_id": _MAYBE_TEXT})
_CLOUD_EVENT = _object(
    {
        **dict.fromkeys(("id", "source", "type"), _TEXT),
        "specversion": {"const": "1.0"},
        **dict.fromkeys(
            ("subject", "time", "datacontenttype", "dataschema", "partitionkey", "data_base64"), _TEXT
        ),
        "data": {},
    },
    ["id", "source", "type", "specversion"],
)
_OTHERS: Mapping[str, Schema] = {
    "Any": {"description": "Any JSON value"},
    "PipelineFile": _object(
        {
            "apiVersion": {"const": "flexcore/v1"},
            "kind": {"const": "Pipeline"},
            "metadata": _object({"name": _TEXT}),
            "spec": _object({"steps": {"type": "array", "items": _object({"name": _TEXT})}}),
        }
    ),
    "RunStep": _object(
        {
            "name": _TEXT,
            "kind": {"enum": list(STEP_KINDS)},
            "after": {"type": "array", "items": _TEXT},
            "finally": {"type": "boolean"},
            "runs_on": {"type": "array", "items": _TEXT},
            "status": _TEXT,
            "attempt": _NUMBER,
            "runner": _MAYBE_TEXT,
            "started_at": _MAYBE_NUMBER,
            "ended_at": _MAYBE_NUMBER,
            "retry_at": _MAYBE_NUMBER,
            "waits_for": _MAYBE_TEXT,
            "waits_until": _MAYBE_NUMBER,
            "child": {**_MAYBE_TEXT, "description": "The run that a pipeline step has called last"},
            "records_in": _NUMBER,
            "records_out": _NUMBER,
            "records_rejected": _NUMBER,
            "bytes": _NUMBER,
            "percent": {
                "type": ["number", "null"],
                "description": "How far it is, 0 to 100, as it says itself",
            },
            "progress": {"type": ["string", "null"], "description": "How far it is, in its own words"},
            "error": _MAYBE_TEXT,
            "tail": _MAYBE_TEXT,
            "output": {},
            "reused": {"type": "boolean"},
            "items": {
                "type": ["object", "null"],
                "description": "Of a map or repeat step: total, ended, failed",
            },
        }
    ),
    "RunReport": _object(
        {
            **dict.fromkeys(("id", "pipeline", "status", "trigger", "definition_hash"), _TEXT),
            **dict.fromkeys(("error", "rerun_of", "started_by"), _MAYBE_TEXT),
            **dict.fromkeys(("created_at", "worked_ms", "read", "written", "rejected", "bytes"), _NUMBER),
            **dict.fromkeys(
                ("slot", "started_at", "ended_at", "waited_ms", "took_ms", "late_ms"), _MAYBE_NUMBER
            ),
            "steps": {"type": "array", "items": {"type": "object"}},
            "troubles": {"type": "array", "items": {"type": "object"}},
        }
    ),
    "RunLineage": _object(
        {
            **dict.fromkeys(("id", "pipeline", "status"), _TEXT),
            "events": {
                "type": "array",
                "items": {"type": "object"},
                "description": "OpenLineage run events, those that are sent",
            },
            "datasets": {
                "type": "array",
                "items": _object(
                    {
                        "namespace": _TEXT,
                        "name": _TEXT,
                        "columns": {"type": "array", "items": _TEXT},
                        "written_by": {"type": "array", "items": _TEXT},
                        "read_by": {"type": "array", "items": _TEXT},
                    }
                ),
            },
        }
    ),
    "Dataset": _object(
        {
            "name": _TEXT,
            "tenant": _TEXT,
            "pipeline": _TEXT,
            "step": _TEXT,
            "topic": _TEXT,
            "topic_id": _MAYBE_TEXT,
            "rejects_topic": _TEXT,
            "generation": _MAYBE_TEXT,
            "starts": {"type": "object"},
            "counts": {"type": "object"},
            "records": _NUMBER,
            "rejected": _NUMBER,
            "begun_by": _MAYBE_TEXT,
            "begun_at": _MAYBE_NUMBER,
            "updated_at": _NUMBER,
            "version": _NUMBER,
            "position": _TEXT,
        }
    ),
    "Record": _object(
        {
            "partition": _NUMBER,
            "offset": _NUMBER,
            "at": _NUMBER,
            "key": _TEXT,
            "headers": {"type": "object"},
            "value": {},
        }
    ),
    "CloudEvent": {
        **_CLOUD_EVENT,
        "description": "CloudEvents 1.0, structured; more attributes are extensions",
    },
    "CloudEventBatch": {"type": "array", "items": _ref("CloudEvent")},
    "UserEvent": _object(
        {"id": _TEXT, "name": _TEXT, "topic": _TEXT, "partition": _NUMBER, "offset": _NUMBER}
    ),
    "Log": _object({"at": _NUMBER, "step": _TEXT, "attempt": _NUMBER, "stream": _TEXT, "line": _TEXT}),
    "View": _object(
        {
            "name": _TEXT,
            "table": _TEXT,
            "complete": {"type": "boolean"},
            "partitions": _NUMBER,
            "partitions_complete": _NUMBER,
            "lag": _NUMBER,
            "errors": _NUMBER,
            "positions": {"type": "object"},
        }
    ),
    "AggregateState": _object(
        {
            "aggregate": _TEXT,
            "id": _TEXT,
            "version": _NUMBER,
            "at": {
                **_NUMBER,
                "description": "When its last event happened; only of a state folded from history",
            },
            "shard": _NUMBER,
            "position": _TEXT,
            "owner": _MAYBE_TEXT,
            "last_event": _object({"event_id": _TEXT, "type": _TEXT, "actor": _TEXT}),
            "state": {"type": "object"},
        },
        ["aggregate", "id", "version", "shard", "position", "owner", "state"],
    ),
    "Pending": _object({"command_id": _TEXT, "status": {"enum": ["pending", "accepted"]}}),
    "Redrive": _object(
        {"command_id": _TEXT, "causation_id": _TEXT, "aggregate": _TEXT, "aggregate_id": _TEXT}
    ),
    "Deed": _DEED,
    "Reruns": _object(
        {
            "items": {
                "type": "array",
                "items": _object(
                    {
                        "id": _TEXT,
                        "done": {"type": "boolean"},
                        **dict.fromkeys(("why_not", "run", "from"), _MAYBE_TEXT),
                    }
                ),
            }
        }
    ),
    "DatasetRedrive": _object(
        {
            **dict.fromkeys(("dataset", "generation"), _TEXT),
            "records": _NUMBER,
            "complete": {"type": "boolean"},
            "runs": {"type": "array", "items": _object({"id": _TEXT, "records": _NUMBER})},
            "run": _MAYBE_TEXT,
        }
    ),
    "Redaction": _object(
        {
            "aggregate": _TEXT,
            "id": _TEXT,
            "event_id": _TEXT,
            "version": _NUMBER,
            "sequence": _NUMBER,
            "type": _TEXT,
            "fields": {
                "type": "object",
                "description": "What takes the place of each value; {}: nothing is left to take",
            },
            "dry_run": {"type": "boolean"},
            "redacted_by_version": {
                **_MAYBE_NUMBER,
                "description": "The version of the event that says so; null when nothing was done",
            },
        }
    ),
    "Deeds": _object({"items": {"type": "array", "items": _ref("Deed")}}),
    "Live": _object({"status": {"const": "live"}}),
    "Health": _object(
        {
            **_NODE,
            "status": {"enum": ["ready", "not_ready"]},
            "missing": {"type": "array", "items": _TEXT},
            "parts": {"type": "array", "items": _PART},
        }
    ),
    "Cluster": _object(
        {
            "nodes": {
                "type": "array",
                "items": _object({**_NODE, "status": {"enum": ["alive", "silent"]}, "at": _NUMBER}),
            },
            "shards": {"type": "array", "items": _object({"shard": _NUMBER, "owner": _TEXT})},
        }
    ),
}
