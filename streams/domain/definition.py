"""A pipeline's definition: the file's text in one canonical form, its hash, and what it says."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from streams.domain import duration
from streams.domain.expressions import Language, texts, whole
from streams.domain.findings import Problem
from streams.domain.kinds import FAN_KINDS, STEP_KINDS, compensation_of
from streams.domain.labels import ANY, queue_of
from streams.domain.priority import NORMAL
from streams.domain.triggers import heard, upstream
from streams.domain.validation import ScheduleCheck, any_schedule, problems

__all__ = [
    "Definition",
    "Problem",
    "Retry",
    "StepDefinition",
    "canonical",
    "check",
    "compact",
    "digest",
    "problems",
]

_CACHED_MAX = 256


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried (``attempts`` counts the first one) and how long it waits in between.

    An attempt whose error, or the end of what it printed, has one of the texts ``non_retryable`` in it is the last one.
    """

    attempts: int = 1
    initial_ms: int = 1_000
    multiplier: float = 2.0
    max_ms: int = 60_000
    jitter: str = "full"
    non_retryable: tuple[str, ...] = ()

    def again(self, failures: int, error: str, tail: str) -> bool:
        """Return whether another attempt follows after so many failures, the last one with this error."""
        return failures < self.attempts and not any(
            text in error or text in tail for text in self.non_retryable
        )


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """One step: ``spec`` is its kind's block of the file, as plain JSON data (do not change it).

    ``dynamic``: there are expressions in it. ``when`` is the expression that decides whether it is done at all.
    ``last``: it is one of the file's ``finally`` steps. ``runs_on`` are the labels of the runners that may take it;
    ``start_timeout_ms`` is how long an attempt is on offer to them, ``heartbeat_timeout_ms`` how long it may be silent.
    """

    name: str
    kind: str
    spec: Mapping[str, Any]
    after: tuple[str, ...]
    retry: Retry
    timeout_ms: int | None
    dynamic: bool = False
    when: str | None = None
    last: bool = False
    runs_on: tuple[str, ...] = (ANY,)
    start_timeout_ms: int | None = None
    heartbeat_timeout_ms: int | None = None

    @property
    def signal(self) -> str:
        """The name of the signal that a step of this kind waits for."""
        return str(self.spec.get("name", self.name))

    @property
    def queue(self) -> str:
        """The queue that its attempts are offered on."""
        return queue_of(self.runs_on)


@dataclass(frozen=True, slots=True)
class Definition:
    """A valid pipeline file. ``steps`` keep the file's order, those of ``finally`` behind; ``dependents`` are the steps directly after each.

    ``limits`` maps each limit a run needs to the number of runs it lets in; ``priority`` is what its runs have unless told; ``items`` is what a map step does for each, a repeat in each turn;
    ``compensations``, by their own names (``load:compensate``), undo a step that was done. ``upstream`` are the pipelines
    whose runs start it by their end, each with the ends that do; ``heard`` the events that do, each with its filter.
    """

    name: str
    steps: Mapping[str, StepDefinition]
    dependents: Mapping[str, tuple[str, ...]]
    schedule: Mapping[str, Any] | None
    timeout_ms: int | None
    alerts: tuple[Mapping[str, Any], ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    items: Mapping[str, StepDefinition] = field(default_factory=dict)
    compensations: Mapping[str, StepDefinition] = field(default_factory=dict)
    priority: str = NORMAL
    upstream: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heard: Mapping[str, str | None] = field(default_factory=dict)

    @staticmethod
    def parse(canonical: str) -> "Definition":
        """Return what a canonical text says. Only for a text without problems; the same text costs nothing twice."""
        return _parse(canonical)

    def step(self, name: str) -> StepDefinition:
        """Return what the file says of a step, an item of a map, a turn of a repeat (``name[7]``), or a compensation."""
        found = self.steps.get(name) or self.compensations.get(name)
        return self.items[name.partition("[")[0]] if found is None else found

    def downstream(self, step: str) -> frozenset[str]:
        """Return every step that comes after ``step``, directly or not, without ``step``."""
        reached: set[str] = set()
        todo = list(self.dependents[step])
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo.extend(self.dependents[name])
        return frozenset(reached)


def named_by(document: Mapping[str, Any]) -> frozenset[str]:
    """Return the pipelines that a pipeline file without problems names: those that its steps call, or that start it."""
    spec = document["spec"]
    called = [
        step["pipeline"]["name"] for step in (*spec["steps"], *spec.get("finally", ())) if "pipeline" in step
    ]
    return frozenset((*called, *upstream(spec.get("triggers", ()))))


def compact(value: Any) -> str:
    """Return ``value`` as JSON text: keys sorted, no spaces. Equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(document: Mapping[str, Any]) -> str:
    """Return the one text that stands for a pipeline file without problems."""
    return compact(document)


def digest(canonical: str) -> str:
    """Return the hash that pins a definition: sha256 of its canonical text, in hex."""
    return hashlib.sha256(canonical.encode()).hexdigest()


def check(
    text: str, check_schedule: ScheduleCheck = any_schedule, language: Language | None = None
) -> tuple[Problem, ...]:
    """Return every mistake in a pipeline file given as JSON text; the same text costs nothing twice."""
    return _check(text, check_schedule, language)


@lru_cache(_CACHED_MAX)
def _check(text: str, check_schedule: ScheduleCheck, language: Language | None) -> tuple[Problem, ...]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        return (Problem("", f"the definition is not JSON: {error}", "send the pipeline file as JSON text"),)
    return tuple(problems(document, check_schedule, language))


@lru_cache(4 * _CACHED_MAX)  # every decision on a run asks
def _parse(text: str) -> Definition:
    document = json.loads(text)
    spec = document["spec"]
    proper = [_step(item, False) for item in spec["steps"]]
    steps = {step.name: step for step in (*proper, *(_step(item, True) for item in spec.get("finally", ())))}
    dependents: dict[str, list[str]] = {name: [] for name in steps}
    for step in steps.values():
        for before in step.after:
            dependents[before].append(step.name)
    return Definition(
        name=document["metadata"]["name"],
        steps=steps,
        dependents={name: tuple(names) for name, names in dependents.items()},
        schedule=spec.get("schedule"),
        timeout_ms=_duration(spec.get("timeout")),
        alerts=tuple(spec.get("alerts", ())),
        items={name: _item(step) for name, step in steps.items() if step.kind in FAN_KINDS},
        compensations={
            step.name: step
            for item in spec["steps"]
            if "compensate" in item
            for step in (_compensation(item),)
        },
        limits={limit["name"]: limit["max"] for limit in spec.get("limits", ())},
        priority=spec.get("priority", NORMAL),
        upstream=upstream(spec.get("triggers", ())),
        heard=heard(spec.get("triggers", ())),
    )


def _step(item: Mapping[str, Any], last: bool) -> StepDefinition:
    kind = next(kind for kind in STEP_KINDS if kind in item)
    spec = item[kind]
    return StepDefinition(
        name=item["name"],
        kind=kind,
        spec=spec,
        after=tuple(item.get("after", ())),
        retry=_retry(item.get("retry")),
        timeout_ms=_duration(item.get("timeout", spec.get("timeout") if kind == "command" else None)),
        dynamic=kind not in ("switch", *FAN_KINDS) and any(texts(spec)),
        when=whole(item["when"]) if "when" in item else None,
        last=last,
        runs_on=tuple(item.get("runs_on", (ANY,))),
        start_timeout_ms=_duration(item.get("start_timeout")),
        heartbeat_timeout_ms=_duration(item.get("heartbeat_timeout")),
    )


def _item(plan: StepDefinition) -> StepDefinition:
    """Return what is done for each item of a map step, or in each turn of a repeat; retry and timeouts are each one's."""
    kind = "load" if "load" in plan.spec else "command"
    spec = plan.spec[kind]
    timeout_ms = _duration(spec.get("timeout")) if plan.timeout_ms is None else plan.timeout_ms
    return replace(plan, kind=kind, spec=spec, timeout_ms=timeout_ms, dynamic=any(texts(spec)))


def _compensation(item: Mapping[str, Any]) -> StepDefinition:
    """Return what undoes a step: where the step was done, given its result, with a retry of its own."""
    block = item["compensate"]
    undoing = {"name": compensation_of(item["name"]), "after": [item["name"]], "command": block["command"]}
    undoing |= {"runs_on": item["runs_on"]} if "runs_on" in item else {}
    own = ("retry", "start_timeout", "timeout")
    return _step({**undoing, **{key: block[key] for key in own if key in block}}, False)


def _retry(block: Mapping[str, Any] | None) -> Retry:
    if block is None:
        return Retry()
    plain = Retry()
    return Retry(
        attempts=block["attempts"],
        initial_ms=duration.parse(block["initial"]) if "initial" in block else plain.initial_ms,
        multiplier=float(block.get("multiplier", plain.multiplier)),
        max_ms=duration.parse(block["max"]) if "max" in block else plain.max_ms,
        jitter=block.get("jitter", plain.jitter),
        non_retryable=tuple(block.get("non_retryable", ())),
    )


def _duration(text: str | None) -> int | None:
    return None if text is None else duration.parse(text)
