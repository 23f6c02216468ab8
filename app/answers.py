"""Schemas of what routes take and answer beside the rows of views: written out, since no type or table says them."""

from collections.abc import Mapping
from typing import Any

from streams.domain.kinds import STEP_KINDS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}


def object_of(properties: Mapping[str, Schema], required: list[str] | None = None) -> Schema:
    """Return the schema of an object; all properties are required unless told."""
    needed = list(properties) if required is None else required
    return {"type": "object", "required": needed, "properties": dict(properties)}


def ref(name: str) -> Schema:
    """Return a reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


_MAYBE_NUMBER: Schema = {"type": ["integer", "null"]}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_PART = object_of(
    {"name": TEXT, "status": {"enum": ["ok", "failing"]}, "detail": _MAYBE_TEXT, "since": NUMBER}
)
_NODE: Mapping[str, Schema] = {
    "node": TEXT,
    "url": TEXT,
    "registry_url": TEXT,
    "roles": {"type": "array", "items": TEXT},
    "labels": {"type": "array", "items": TEXT},
    "shards": {"type": "array", "items": NUMBER},
    "pid": NUMBER,
}
_DEED = object_of(
    {"id": TEXT, "done": {"type": "boolean"}, "why_not": _MAYBE_TEXT, "command_id": _MAYBE_TEXT}
)
_CLOUD_EVENT = object_of(
    {
        **dict.fromkeys(("id", "source", "type"), TEXT),
        "specversion": {"const": "1.0"},
        **dict.fromkeys(
            ("subject", "time", "datacontenttype", "dataschema", "partitionkey", "data_base64"), TEXT
        ),
        "data": {},
    },
    ["id", "source", "type", "specversion"],
)
ANSWERS: Mapping[str, Schema] = {
    "Any": {"description": "Any JSON value"},
    "PipelineFile": object_of(
        {
            "apiVersion": {"const": "flexcore/v1"},
            "kind": {"const": "Pipeline"},
            "metadata": object_of({"name": TEXT}),
            "spec": object_of({"steps": {"type": "array", "items": object_of({"name": TEXT})}}),
        }
    ),
    "RunStep": object_of(
        {
            "name": TEXT,
            "kind": {"enum": list(STEP_KINDS)},
            "after": {"type": "array", "items": TEXT},
            "finally": {"type": "boolean"},
            "runs_on": {"type": "array", "items": TEXT},
            "status": TEXT,
            "attempt": NUMBER,
            "runner": _MAYBE_TEXT,
            "started_at": _MAYBE_NUMBER,
            "ended_at": _MAYBE_NUMBER,
            "retry_at": _MAYBE_NUMBER,
            "waits_for": _MAYBE_TEXT,
            "waits_until": _MAYBE_NUMBER,
            "child": {**_MAYBE_TEXT, "description": "The run that a pipeline step has called last"},
            "records_in": NUMBER,
            "records_out": NUMBER,
            "records_rejected": NUMBER,
            "bytes": NUMBER,
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
    "RunReport": object_of(
        {
            **dict.fromkeys(("id", "pipeline", "status", "trigger", "definition_hash"), TEXT),
            **dict.fromkeys(("error", "rerun_of", "started_by"), _MAYBE_TEXT),
            **dict.fromkeys(("created_at", "worked_ms", "read", "written", "rejected", "bytes"), NUMBER),
            **dict.fromkeys(
                ("slot", "started_at", "ended_at", "waited_ms", "took_ms", "late_ms"), _MAYBE_NUMBER
            ),
            "steps": {"type": "array", "items": {"type": "object"}},
            "troubles": {"type": "array", "items": {"type": "object"}},
        }
    ),
    "RunLineage": object_of(
        {
            **dict.fromkeys(("id", "pipeline", "status"), TEXT),
            "events": {
                "type": "array",
                "items": {"type": "object"},
                "description": "OpenLineage run events, those that are sent",
            },
            "datasets": {
                "type": "array",
                "items": object_of(
                    {
                        "namespace": TEXT,
                        "name": TEXT,
                        "columns": {"type": "array", "items": TEXT},
                        "written_by": {"type": "array", "items": TEXT},
                        "read_by": {"type": "array", "items": TEXT},
                    }
                ),
            },
        }
    ),
    "Dataset": object_of(
        {
            "name": TEXT,
            "tenant": TEXT,
            "pipeline": TEXT,
            "step": TEXT,
            "topic": TEXT,
            "topic_id": _MAYBE_TEXT,
            "rejects_topic": TEXT,
            "generation": _MAYBE_TEXT,
            "starts": {"type": "object"},
            "counts": {"type": "object"},
            "records": NUMBER,
            "rejected": NUMBER,
            "begun_by": _MAYBE_TEXT,
            "begun_at": _MAYBE_NUMBER,
            "updated_at": NUMBER,
            "version": NUMBER,
            "position": TEXT,
        }
    ),
    "Record": object_of(
        {
            "partition": NUMBER,
            "offset": NUMBER,
            "at": NUMBER,
            "key": TEXT,
            "headers": {"type": "object"},
            "value": {},
        }
    ),
    "CloudEvent": {
        **_CLOUD_EVENT,
        "description": "CloudEvents 1.0, structured; more attributes are extensions",
    },
    "CloudEventBatch": {"type": "array", "items": ref("CloudEvent")},
    "UserEvent": object_of({"id": TEXT, "name": TEXT, "topic": TEXT, "partition": NUMBER, "offset": NUMBER}),
    "Log": object_of({"at": NUMBER, "step": TEXT, "attempt": NUMBER, "stream": TEXT, "line": TEXT}),
    "View": object_of(
        {
            "name": TEXT,
            "table": TEXT,
            "complete": {"type": "boolean"},
            "partitions": NUMBER,
            "partitions_complete": NUMBER,
            "lag": NUMBER,
            "errors": NUMBER,
            "positions": {"type": "object"},
        }
    ),
    "AggregateState": object_of(
        {
            "aggregate": TEXT,
            "id": TEXT,
            "version": NUMBER,
            "at": {
                **NUMBER,
                "description": "When its last event happened; only of a state folded from history",
            },
            "shard": NUMBER,
            "position": TEXT,
            "owner": _MAYBE_TEXT,
            "last_event": object_of({"event_id": TEXT, "type": TEXT, "actor": TEXT}),
            "state": {"type": "object"},
        },
        ["aggregate", "id", "version", "shard", "position", "owner", "state"],
    ),
    "Pending": object_of({"command_id": TEXT, "status": {"enum": ["pending", "accepted"]}}),
    "Redrive": object_of({"command_id": TEXT, "causation_id": TEXT, "aggregate": TEXT, "aggregate_id": TEXT}),
    "Deed": _DEED,
    "Reruns": object_of(
        {
            "items": {
                "type": "array",
                "items": object_of(
                    {
                        "id": TEXT,
                        "done": {"type": "boolean"},
                        **dict.fromkeys(("why_not", "run", "from"), _MAYBE_TEXT),
                    }
                ),
            }
        }
    ),
    "DatasetRedrive": object_of(
        {
            **dict.fromkeys(("dataset", "generation"), TEXT),
            "records": NUMBER,
            "complete": {"type": "boolean"},
            "runs": {"type": "array", "items": object_of({"id": TEXT, "records": NUMBER})},
            "run": _MAYBE_TEXT,
        }
    ),
    "Redaction": object_of(
        {
            "aggregate": TEXT,
            "id": TEXT,
            "event_id": TEXT,
            "version": NUMBER,
            "sequence": NUMBER,
            "type": TEXT,
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
    "Deeds": object_of({"items": {"type": "array", "items": ref("Deed")}}),
    "Live": object_of({"status": {"const": "live"}}),
    "Health": object_of(
        {
            **_NODE,
            "status": {"enum": ["ready", "not_ready"]},
            "missing": {"type": "array", "items": TEXT},
            "parts": {"type": "array", "items": _PART},
        }
    ),
    "Cluster": object_of(
        {
            "nodes": {
                "type": "array",
                "items": object_of({**_NODE, "status": {"enum": ["alive", "silent"]}, "at": NUMBER}),
            },
            "shards": {"type": "array", "items": object_of({"shard": NUMBER, "owner": TEXT})},
        }
    ),
}
