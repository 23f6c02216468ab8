"""From the events of a run to OpenLineage: one START and one end each, data sets with fields and where they come from."""

import json
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from connectors.lineage.naming import Names, run_uuid, step_uuid
from connectors.lineage.story import RunEvent, Story

RUN = "5e0fb8a2-6bd5-5d5c-9e3c-0d9c3c1f7a11"
NAMES = Names("prod", "kafka-1:9092,kafka-2:9092")
TOPIC = ("kafka://kafka-1:9092", "dataset.default.people.read")
FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["_producer", "_schemaURL"],
        "properties": {"_schemaURL": {"pattern": r"^https://openlineage\.io/spec/facets/\d-\d-\d/.+#/\$defs/"}},
    },
}  # fmt: skip
DATASET = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {
        "facets": FACETS, "outputFacets": FACETS,
        "namespace": {"type": "string", "minLength": 1}, "name": {"type": "string", "minLength": 1},
    },
}  # fmt: skip
PART = {"type": "object", "properties": {"facets": FACETS}}
SCHEMA = {
    "type": "object",
    "required": ["eventType", "eventTime", "run", "job", "producer", "schemaURL"],
    "properties": {
        "eventType": {"enum": ["START", "COMPLETE", "FAIL", "ABORT"]},
        "eventTime": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "run": {**PART, "required": ["runId"]},
        "job": {**PART, "required": ["namespace", "name"]},
        "inputs": {"type": "array", "items": DATASET},
        "outputs": {"type": "array", "items": DATASET},
        "producer": {"type": "string", "pattern": "^urn:"},
        "schemaURL": {"const": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"},
    },
}
STREAM = {
    "schema": {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "born": {"type": ["null", "string"], "format": "date-time"},
            "address": {"type": "object", "properties": {"city": {"type": ["null", "string"]}}},
        },
    },
    "key_properties": ["id"],
}
STEPS: list[dict[str, Any]] = [
    {"name": "read", "extract": {"source": "file", "config": {"path": "${env:EXPORT}"}}},
    {"name": "clean", "after": ["read"], "transform": {"python": "transforms.a:b"}},
    {"name": "store", "after": ["read"], "load": {"sink": "postgres", "config": {"url": "${env:DB}"}}},
    {"name": "rest", "after": ["store"], "command": {"argv": ["true"]}},
]


def made(step: str, **streams: Any) -> dict[str, Any]:
    """Return what a step that makes records tells in the end."""
    return {
        "topic": f"dataset.default.people.{step}",
        "generation": "g1",
        "streams": streams or {"people": STREAM},
    }


def ended(step: str, output: dict[str, Any], at: int = 4_000, **more: Any) -> tuple[str, dict[str, Any]]:
    """Return the success of a step."""
    body = {"step": step, "output": json.dumps(output), "records_out": 7, "bytes": 90, "at": at, **more}
    return "StepSucceeded", body


def began(step: str, at: int = 2_000) -> tuple[str, dict[str, Any]]:
    """Return the claim of a step."""
    return "StepClaimed", {"step": step, "at": at}


def over(status: str, error: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return the end of the run."""
    return "RunEnded", {"status": status, "error": error, "at": 9_000}


def told(
    *events: tuple[str, dict[str, Any]],
    steps: list[dict[str, Any]] = STEPS,
    slot: int | None = None,
    run: str = RUN,
    **more: Any,
) -> list[RunEvent]:
    """Return what is told of a run of these steps; every event must be as the specification wants it."""
    story = Story(NAMES, "default", run)
    created = {
        "pipeline": "people",
        "definition": json.dumps({"spec": {"steps": steps}}),
        "slot": slot,
        "at": 1_000,
        **more,
    }
    found = [one for kind, body in (("RunCreated", created), *events) for one in story.take(kind, body)]
    for event in found:
        jsonschema.validate(event, SCHEMA)
    return found


def short(events: list[RunEvent]) -> list[tuple[str, str]]:
    """Return what is told of which job."""
    return [(event["job"]["name"], event["eventType"]) for event in events]


def places(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the names of data sets."""
    return [(one["namespace"], one["name"]) for one in datasets]


def test_a_run_and_its_steps_begin_and_end_once() -> None:
    """Given a lost and a failed attempt, then the step is told once; the run is the parent of its steps."""
    events = told(
        began("read"),
        ("StepLost", {"step": "read", "at": 2_100}),
        began("read", 2_200),
        ("StepRetryScheduled", {"step": "read", "at": 2_300}),
        began("read", 2_400),
        ended("read", made("read")),
        over("succeeded"),
        slot=500,
    )
    assert short(events) == [
        ("people", "START"),
        ("people.read", "START"),
        ("people.read", "COMPLETE"),
        ("people", "COMPLETE"),
    ]
    whole, step = events[0], events[1]
    assert (whole["run"]["runId"], whole["job"]["namespace"]) == (RUN, "flexcore://prod/default")
    assert whole["run"]["facets"]["nominalTime"]["nominalStartTime"] == "1970-01-01T00:00:00.500Z"
    assert step["run"]["facets"]["parent"]["run"] == {"runId": RUN}
    assert step["run"]["facets"]["parent"]["job"] == {"namespace": "flexcore://prod/default", "name": "people"}  # fmt: skip
    assert step["run"]["facets"]["parent"]["root"]["run"] == {"runId": RUN}
    assert "parent" not in whole["run"]["facets"]
    assert step["run"]["runId"] == events[2]["run"]["runId"] != RUN
    assert step["eventTime"] == "1970-01-01T00:00:02.000Z"


@pytest.mark.parametrize("elders", [(), ("from-an-older-release",)])
def test_a_run_that_a_step_calls_names_that_step_and_the_run_above_all(elders: tuple[str, ...]) -> None:
    """Its steps name it, and the same root; who stands above is known as far as it was told."""
    top, middle = str(UUID(int=1)), str(UUID(int=2))
    above = [*elders, top, middle]
    callers = ["nightly/regions", "region/load"]
    whole, step, *_, end = told(began("read"), over("succeeded"), above=above, callers=callers)
    root = {"run": {"runId": top}, "job": {"namespace": "flexcore://prod/default", "name": "nightly"}}
    parent = whole["run"]["facets"]["parent"]
    assert parent["run"] == {"runId": step_uuid(middle, "load")}
    assert (parent["job"]["name"], parent["root"], end["run"]["facets"]["parent"]) == (
        "region.load",
        root,
        parent,
    )
    about = step["run"]["facets"]["parent"]
    assert (about["run"], about["job"]["name"], about["root"]) == ({"runId": RUN}, "people", root)


def test_records_are_told_with_their_fields_and_where_each_comes_from() -> None:
    """An extract and a load keep every field; what a function does is not guessed."""
    into = {
        "people": {"namespace": "postgres://db:5432", "name": "crm.public.people"},
        "gone": {"namespace": "x", "name": "y"},
    }
    events = told(
        *(began("read"), ended("read", made("read"))),
        *(began("clean"), ended("clean", made("clean"))),
        *(began("store"), ended("store", {"into": into})),
    )
    read, clean, store = (event for event in events if event["eventType"] == "COMPLETE")
    assert places(read["inputs"]) == [("file", "${env:EXPORT}")]
    assert places(read["outputs"]) == [TOPIC]
    (records,) = read["outputs"]
    assert records["facets"]["version"]["datasetVersion"] == "g1"
    assert records["facets"]["schema"]["fields"] == [
        {"name": "id", "type": "integer"},
        {"name": "born", "type": "date-time"},
        {"name": "address", "type": "object", "fields": [{"name": "city", "type": "string"}]},
    ]
    assert records["outputFacets"]["outputStatistics"]["rowCount"] == 7
    assert records["facets"]["columnLineage"]["fields"]["id"]["inputFields"] == [
        {
            "namespace": "file", "name": "${env:EXPORT}", "field": "id",
            "transformations": [{"type": "DIRECT", "subtype": "IDENTITY"}],
        }
    ]  # fmt: skip
    assert (places(clean["inputs"]), "columnLineage" in clean["outputs"][0]["facets"]) == ([TOPIC], False)
    assert (places(store["inputs"]), places(store["outputs"])) == (
        [TOPIC],
        [("postgres://db:5432", "crm.public.people")],
    )
    source = store["outputs"][0]["facets"]["columnLineage"]["fields"]["id"]["inputFields"][0]
    assert (source["name"], source["field"]) == (TOPIC[1], "id")


def test_several_streams_in_one_topic_keep_their_fields_apart() -> None:
    """In the topic a field has its stream before it; the tap's streams and the tables are data sets of their own."""
    steps = [
        {"name": "read", "extract": {"tap": "tap-crm==1.2", "config": {}}},
        {"name": "store", "after": ["read"], "load": {"target": "target-x==2", "config": {}}},
    ]
    other = {"schema": {"properties": {"id": {"type": "string"}}}, "key_properties": []}
    events = told(
        *(began("read"), ended("read", made("read", people=STREAM, firms=other))),
        *(began("store"), ended("store", {})),
        steps=steps,
    )
    read, store = (event for event in events if event["eventType"] == "COMPLETE")
    tap, target = "singer://tap-crm/default/people/read", "singer://target-x/default/people/store"
    assert places(read["inputs"]) == [(tap, "people"), (tap, "firms")]
    assert [field["name"] for field in read["outputs"][0]["facets"]["schema"]["fields"]] == ["people", "firms"]  # fmt: skip
    lineage = read["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert lineage["firms.id"]["inputFields"][0]["field"] == "id"
    assert places(store["outputs"]) == [(target, "people"), (target, "firms")]
    assert store["outputs"][1]["facets"]["columnLineage"]["fields"]["id"]["inputFields"][0]["field"] == "firms.id"  # fmt: skip


def test_a_map_over_a_dataset_reads_it_and_its_loads_write_one_table() -> None:
    """Which is told once; what a program does with the records nobody knows."""
    place = {"namespace": "postgres://db:5432", "name": "crm.public.people"}
    over = {"after": ["read"], "map": {"dataset": "read", "load": {"sink": "postgres", "config": {}}}}
    program = {"after": ["read"], "map": {"dataset": "read", "command": {"argv": ["true"]}}}
    said = [None, {"into": {"people": place}}, {"into": {"people": place}}]
    events = told(
        *(began("read"), ended("read", made("read"))),
        *(began("store"), ended("store", {"outputs": said})),
        *(began("rest"), ended("rest", {"outputs": [{}, {}]})),
        steps=[STEPS[0], {"name": "store", **over}, {"name": "rest", **program}],
    )
    _, store, rest = (event for event in events if event["eventType"] == "COMPLETE")
    assert (places(store["inputs"]), places(store["outputs"])) == (
        [TOPIC],
        [(place["namespace"], place["name"])],
    )
    assert (places(rest["inputs"]), rest["outputs"]) == ([TOPIC], [])


def test_one_service_that_takes_all_streams_is_one_data_set() -> None:
    """And what expressions made of the settings counts, not what stands in the file."""
    there = {"namespace": "https://crm:443", "name": "/v1"}
    other = {"schema": {"properties": {"no": {"type": "string"}}}, "key_properties": []}
    settings = json.dumps({"source": "file", "config": {"path": "2026-11-24.csv"}})
    events = told(
        ("StepOffered", {"step": "read", "settings": settings, "at": 1_500}),
        *(began("read"), ended("read", made("read", people=STREAM, firms=other))),
        *(began("store"), ended("store", {"into": {"people": there, "firms": there}})),
    )
    read, store = (event for event in events if event["eventType"] == "COMPLETE")
    assert places(read["inputs"]) == [("file", "2026-11-24.csv")]
    assert places(store["outputs"]) == [("https://crm:443", "/v1")]
    assert sorted(store["outputs"][0]["facets"]["columnLineage"]["fields"]) == [
        "firms.no", "people.address", "people.born", "people.id",
    ]  # fmt: skip


def test_a_failure_says_why() -> None:
    """Also of a step that never began: it has its START then. The run fails with it; what was left out is not told."""
    why = {"step": "read", "error": "no such file", "tail": "last words", "at": 3_000}
    events = told(
        ("StepFailed", why),
        ("StepSkipped", {"step": "store", "at": 3_000}),
        over("failed", "step read failed"),
    )
    assert short(events)[1:] == [("people.read", "START"), ("people.read", "FAIL"), ("people", "FAIL")]
    assert events[2]["run"]["facets"]["errorMessage"]["message"] == "no such file"
    assert events[2]["run"]["facets"]["errorMessage"]["stackTrace"] == "last words"
    assert events[3]["run"]["facets"]["errorMessage"]["message"] == "step read failed"
    assert (places(events[2]["inputs"]), places(events[2]["outputs"])) == ([("file", "${env:EXPORT}")], [TOPIC])  # fmt: skip


def test_a_cancelled_run_aborts_with_what_had_begun() -> None:
    """What had not begun is not told, and no step is told twice."""
    cancelled = [("StepCancelled", {"step": step, "at": 5_000}) for step in ("read", "store")]
    events = told(began("read"), began("rest"), *cancelled, over("cancelled", "cancelled: enough"))
    assert short(events)[3:] == [("people.read", "ABORT"), ("people.rest", "ABORT"), ("people", "ABORT")]
    assert "errorMessage" not in events[-1]["run"]["facets"]


def test_what_another_run_has_done_is_not_told_again() -> None:
    """But its records are what the steps after it read. Items of a map step belong to it."""
    events = told(
        ended("read", made("read"), reused=True),
        began("clean"),
        began("rest[7]"),
        ended("rest[7]", {}),
    )
    assert short(events) == [("people", "START"), ("people.clean", "START")]
    assert places(events[1]["inputs"]) == [TOPIC]


@pytest.mark.parametrize("run", [RUN, "nightly-2026-11-24"])
def test_ids_are_uuids_and_stay_the_same(run: str) -> None:
    """A run's id is kept; one that somebody chose is made into a uuid. So what comes twice is the same to the byte."""
    events = [began("read"), ended("read", made("read")), over("timed_out", "too slow")]
    first = told(*events, run=run)
    assert json.dumps(first) == json.dumps(told(*events, run=run))
    assert first[0]["run"]["runId"] == str(UUID(run_uuid("default", run)))
    assert (run_uuid("default", run) == run) == (run == RUN)
    assert first[-1]["eventType"] == "FAIL"
