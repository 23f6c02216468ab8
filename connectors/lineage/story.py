"""From a run's events to OpenLineage run events: one START and one end for the run and for each step that began."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from connectors.lineage import facets
from connectors.lineage.naming import Dataset, Names, file, run_uuid, singer, step_uuid

RunEvent = dict[str, Any]

_BEGINNINGS = ("StepClaimed", "StepWaiting", "StepMapped", "StepCalled")
_STEP_ENDS = {"StepSucceeded": "COMPLETE", "StepFailed": "FAIL", "StepCancelled": "ABORT", "StepSkipped": "ABORT"}  # fmt: skip
_RUN_ENDS = {"succeeded": "COMPLETE", "cancelled": "ABORT"}
_MAKERS = ("extract", "transform")
_KINDS = (*_MAKERS, "load", "command", "map", "repeat", "pipeline", "wait", "signal", "approval", "switch")
_KEPT = ("topic", "generation", "streams")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Plan:
    """A step as the pipeline file has it."""

    kind: str
    spec: Mapping[str, Any]
    after: tuple[str, ...]


@dataclass(slots=True)
class _Step:
    """What has become of a step so far; ``output`` only of steps that make records."""

    plan: _Plan
    began: bool = False
    ended: bool = False
    output: Mapping[str, Any] = field(default_factory=dict)


class Story:
    """One run. Give it the run's events in their order, each once; the same events always give the same answer.

    A step that never began (left out, or another run's result) is not told; one that was tried several times is told
    once. Items of a map step and turns of a repeat belong to it.
    """

    def __init__(self, names: Names, tenant: str, run_id: str) -> None:
        self.over = False
        self._names = names
        self._tenant = tenant
        self._run = run_uuid(tenant, run_id)
        self._pipeline = ""
        self._top = ("", "")
        self._called_by: tuple[str, str] | None = None
        self._slot: int | None = None
        self._steps: dict[str, _Step] = {}

    def take(self, kind: str, body: Mapping[str, Any]) -> list[RunEvent]:
        """Return what is to be told after this event; ``kind`` is its type, ``body`` its fields."""
        if kind == "RunCreated":
            return [self._begin(body)]
        if kind == "RunEnded":
            return self._end(body)
        step = self._steps.get(body.get("step", ""))
        if step is None or step.ended:
            return []
        if kind == "StepOffered" and body.get("settings"):
            step.plan = _Plan(step.plan.kind, json.loads(body["settings"]), step.plan.after)
        elif kind in _BEGINNINGS:
            return self._began(step, body)
        elif (end := _STEP_ENDS.get(kind)) is not None:
            return self._step_ended(step, end, body)
        return []

    # ---------------------------------------------------------------- the run
    def _begin(self, body: Mapping[str, Any]) -> RunEvent:
        self._pipeline, self._slot = body["pipeline"], body["slot"]
        self._top = self._run, self._pipeline
        if callers := body.get("callers"):
            # Runs from before callers were told stand at the top.
            above = [run_uuid(self._tenant, run) for run in body["above"][-len(callers) :]]
            pipeline, _, step = callers[-1].partition("/")
            self._top = above[0], callers[0].partition("/")[0]
            self._called_by = step_uuid(above[-1], step), f"{pipeline}.{step}"
        self._steps = {name: _Step(plan) for name, plan in _plans(body["definition"]).items()}
        return self._of_run("START", body["at"], {})

    def _end(self, body: Mapping[str, Any]) -> list[RunEvent]:
        self.over = True
        told = [
            self._of_step(name, step, "ABORT", body["at"])
            for name, step in self._steps.items()
            if step.began and not step.ended
        ]
        why = {"errorMessage": facets.error_message(body["error"], "")} if body["error"] else {}
        end = _RUN_ENDS.get(body["status"], "FAIL")
        return [*told, self._of_run(end, body["at"], why if end == "FAIL" else {})]

    def _of_run(self, event: str, at: int, more: dict[str, Any]) -> RunEvent:
        slot = {} if self._slot is None else {"nominalTime": facets.nominal_time(_time(self._slot))}
        about = {**self._below(self._called_by), **slot, **more}
        return self._event(event, at, self._run, about, self._pipeline, "pipeline")

    def _below(self, above: tuple[str, str] | None) -> dict[str, Any]:
        """Return the facet that names what stands above, if anything does."""
        return {"parent": facets.parent(self._names.jobs(self._tenant), above, self._top)} if above else {}

    def _event(
        self, event: str, at: int, run: str, run_facets: dict[str, Any], job: str, kind: str
    ) -> RunEvent:
        return {
            "eventType": event,
            "eventTime": _time(at),
            "run": {"runId": run, "facets": run_facets},
            "job": {
                "namespace": self._names.jobs(self._tenant),
                "name": job,
                "facets": {"jobType": facets.job_type(kind)},
            },
            "inputs": [],
            "outputs": [],
            "producer": facets.PRODUCER,
            "schemaURL": facets.EVENT_SCHEMA,
        }

    # ---------------------------------------------------------------- steps
    def _began(self, step: _Step, body: Mapping[str, Any]) -> list[RunEvent]:
        if step.began:
            return []
        step.began = True
        return [self._of_step(body["step"], step, "START", body["at"])]

    def _step_ended(self, step: _Step, end: str, body: Mapping[str, Any]) -> list[RunEvent]:
        output = json.loads(body["output"]) if end == "COMPLETE" else {}
        if step.plan.kind in _MAKERS:
            step.output = {key: output[key] for key in _KEPT if key in output}
        silent = not step.began and (end == "ABORT" or body.get("reused"))
        told = [] if silent else self._began(step, body)
        step.ended = True
        if not silent:
            told.append(self._of_step(body["step"], step, end, body["at"], output, body))
        return told

    def _of_step(
        self,
        name: str,
        step: _Step,
        event: str,
        at: int,
        output: Mapping[str, Any] = _NOTHING,
        body: Mapping[str, Any] = _NOTHING,
    ) -> RunEvent:
        about = self._below((self._run, self._pipeline))
        if event == "FAIL":
            about["errorMessage"] = facets.error_message(body["error"], body["tail"])
        run, job = step_uuid(self._run, name), f"{self._pipeline}.{name}"
        told = self._event(event, at, run, about, job, step.plan.kind)
        told["inputs"], told["outputs"] = self._datasets(name, step, output)
        if event == "COMPLETE" and len(told["outputs"]) == 1:
            counted = facets.statistics(body["records_out"], body["bytes"])
            told["outputs"][0]["outputFacets"] = {"outputStatistics": counted}
        return told

    # ---------------------------------------------------------------- what a step reads and writes
    def _datasets(
        self, name: str, step: _Step, output: Mapping[str, Any]
    ) -> tuple[list[Dataset], list[Dataset]]:
        match step.plan.kind:
            case "extract":
                return self._extracted(name, step.plan.spec, output)
            case "transform":
                return [self._records(one) for one in self._upstream(step)], [self._own(name, output)]
            case "load":
                return self._loaded(name, step, output)
            case "map" if "load" in step.plan.spec:
                # All items say the same of where records go.
                said = (one for one in output.get("outputs") or () if one)
                return self._loaded(name, step, next(said, {}))
            case "map" if "dataset" in step.plan.spec:
                return [self._records(one) for one in self._upstream(step)], []
            case _:
                return [], []

    def _extracted(
        self, name: str, spec: Mapping[str, Any], output: Mapping[str, Any]
    ) -> tuple[list[Dataset], list[Dataset]]:
        """An extract writes every field as it read it."""
        streams = output.get("streams", {})
        owner = (self._tenant, self._pipeline, name)
        sources: dict[str, Dataset] = {}
        if "tap" in spec:
            sources = {one: singer(spec["tap"], owner, one) for one in streams or spec.get("streams") or ()}
        else:
            sources = dict.fromkeys(streams or ("",), file(spec.get("config") or {}))
        own = self._own(name, output)
        pairs = [
            (column, sources[stream], field)
            for stream in streams
            for field, column in facets.columns(streams, stream)
        ]
        if pairs:
            own["facets"]["columnLineage"] = facets.column_lineage(pairs)
        return _apart(sources.values()), [own]

    def _loaded(
        self, name: str, step: _Step, output: Mapping[str, Any]
    ) -> tuple[list[Dataset], list[Dataset]]:
        """A load writes every field as it read it; where to, the sink has said when it was done."""
        upstream = self._upstream(step)
        inputs = [self._records(one) for one in upstream]
        streams = upstream[0].get("streams", {}) if upstream else {}
        if "target" in step.plan.spec:
            owner = (self._tenant, self._pipeline, name)
            into = {stream: singer(step.plan.spec["target"], owner, stream) for stream in streams}
        else:
            into = {stream: place for stream, place in output.get("into", {}).items() if stream in streams}
        outputs = _apart(into.values())
        for one in outputs:
            here = {stream: streams[stream] for stream, place in into.items() if _named(place) == _named(one)}
            pairs = [
                (column, inputs[0], field)
                for stream in here
                for (_, field), (_, column) in zip(
                    facets.columns(streams, stream), facets.columns(here, stream), strict=True
                )
            ]
            one["facets"] = {"schema": facets.schema(here), "columnLineage": facets.column_lineage(pairs)}
        return inputs, outputs

    def _upstream(self, step: _Step) -> list[Mapping[str, Any]]:
        """Return the results of the steps before that made records."""
        names = (step.plan.spec["dataset"],) if step.plan.kind == "map" else step.plan.after
        found = (self._steps[name].output for name in names if name in self._steps)
        return [output for output in found if output.get("topic")]

    def _own(self, name: str, output: Mapping[str, Any]) -> Dataset:
        topic = self._names.records(self._tenant, self._pipeline, name)
        return self._records(output) if output.get("topic") else {**self._names.topic(topic), "facets": {}}

    def _records(self, output: Mapping[str, Any]) -> Dataset:
        about = {"version": facets.version(output["generation"])}
        if output.get("streams"):
            about["schema"] = facets.schema(output["streams"])
        return {**self._names.topic(output["topic"]), "facets": about}


def identity(event: RunEvent) -> tuple[str, str]:
    """Return what an event that comes twice is known by: the id of its run, and whether it is START or the end."""
    return event["run"]["runId"], event["eventType"]


@lru_cache(256)
def _plans(definition: str) -> Mapping[str, _Plan]:
    spec = json.loads(definition).get("spec") or {}
    found = {}
    for step in (*spec.get("steps", ()), *spec.get("finally", ())):
        kind = next((kind for kind in _KINDS if kind in step), "command")
        found[step["name"]] = _Plan(kind, step.get(kind) or {}, tuple(step.get("after", ())))
    return found


def _apart(places: Any) -> list[Dataset]:
    """Return each data set once, as one of its own to be described."""
    return [{**place} for place in {_named(place): place for place in places}.values()]


def _named(place: Mapping[str, Any]) -> tuple[str, str]:
    return place["namespace"], place["name"]


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
