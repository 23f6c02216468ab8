"""Facets: what is known of a run, a job or a data set beyond its name, each by the schema that it names."""

from collections.abc import Iterable, Mapping
from typing import Any

from connectors.lineage.naming import Dataset

Facet = dict[str, Any]

PRODUCER = "urn:flexcore:lineage"
EVENT_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
_NESTED_MAX = 8


def _facet(version: str, kind: str, **content: Any) -> Facet:
    schema = f"{_FACETS}/{version}/{kind}.json#/$defs/{kind}"
    return {"_producer": PRODUCER, "_schemaURL": schema, **content}


# ---------------------------------------------------------------- of runs and jobs
def parent(namespace: str, called_by: tuple[str, str], top: tuple[str, str]) -> Facet:
    """Say which run it belongs to, and which one stands above all; each as (run, name of its job)."""
    (run, job), (root, root_job) = (
        ({"runId": run_id}, {"namespace": namespace, "name": name}) for run_id, name in (called_by, top)
    )
    return _facet("1-2-0", "ParentRunFacet", run=run, job=job, root={"run": root, "job": root_job})


def error_message(message: str, tail: str) -> Facet:
    """Say why it failed, with the end of what its program printed."""
    more = {"stackTrace": tail} if tail else {}
    return _facet("1-0-1", "ErrorMessageRunFacet", message=message, programmingLanguage="Python", **more)


def nominal_time(at: str) -> Facet:
    """Say for which slot of a schedule the run is."""
    return _facet("1-0-1", "NominalTimeRunFacet", nominalStartTime=at)


def job_type(kind: str) -> Facet:
    """Say what kind of job it is: PIPELINE, or the kind of the step."""
    return _facet(
        "2-0-4", "JobTypeJobFacet", processingType="BATCH", integration="FLEXCORE", jobType=kind.upper()
    )


# ---------------------------------------------------------------- of data sets
def version(generation: str) -> Facet:
    """Say which generation of the records it is."""
    return _facet("1-0-1", "DatasetVersionDatasetFacet", datasetVersion=generation)


def statistics(rows: int, size: int) -> Facet:
    """Say how much was written."""
    return _facet("1-0-2", "OutputStatisticsOutputDatasetFacet", rowCount=rows, size=size)


def schema(streams: Mapping[str, Mapping[str, Any]]) -> Facet:
    """Say which fields there are. Of several streams in one data set each is a field that holds its own."""
    schemas = {name: _fields(stream.get("schema"), 1) for name, stream in streams.items()}
    if len(schemas) == 1:
        fields = next(iter(schemas.values()))
    else:
        fields = [{"name": name, "type": "object", "fields": inner} for name, inner in schemas.items()]
    return _facet("1-2-0", "SchemaDatasetFacet", fields=fields)


def column_lineage(columns: Iterable[tuple[str, Dataset, str]]) -> Facet:
    """Say that each column is the same field of another data set, unchanged: (column, data set, field)."""
    same = [{"type": "DIRECT", "subtype": "IDENTITY"}]
    fields = {
        column: {
            "inputFields": [
                {"namespace": source["namespace"], "name": source["name"], "field": field, "transformations": same}
            ]
        }
        for column, source, field in columns
    }  # fmt: skip
    return _facet("1-2-0", "ColumnLineageDatasetFacet", fields=fields)


def columns(streams: Mapping[str, Mapping[str, Any]], stream: str) -> list[tuple[str, str]]:
    """Return the fields of a stream, each with its name in a data set that holds all these streams."""
    names = _properties(streams[stream].get("schema"))
    return [(name, name if len(streams) == 1 else f"{stream}.{name}") for name in names]


def _fields(json_schema: Any, depth: int) -> list[dict[str, Any]]:
    found = []
    for name, spec in _properties(json_schema).items():
        field: dict[str, Any] = {"name": name, "type": _type(spec)}
        if depth < _NESTED_MAX and (inner := _fields(spec, depth + 1)):
            field["fields"] = inner
        found.append(field)
    return found


def _properties(json_schema: Any) -> Mapping[str, Any]:
    found = json_schema.get("properties") if isinstance(json_schema, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _type(spec: Any) -> str:
    if not isinstance(spec, Mapping):
        return "any"
    declared = spec.get("type")
    types = [declared] if isinstance(declared, str) else [str(one) for one in declared or () if one != "null"]
    if types == ["string"]:
        return str(spec.get("format") or "string")
    return "|".join(types) or "any"
