"""What a scenario file says, and what may be wrong with it: every mistake at once, each with its place and the way out."""

from collections.abc import Mapping
from typing import Any

from streams.domain import duration, instant
from streams.domain.alert.rule import OPTIONS
from streams.domain.definition import Definition, compact
from streams.domain.findings import DAY_MS, Findings, Problem
from streams.domain.kinds import FAN_KINDS, NAME, NAME_FIX, OWN_KINDS, YEAR_MS
from streams.domain.run import commands as asked
from streams.domain.run.state import RUN_ENDED, STEP_ENDED, item_of
from streams.rehearsal.scenario import BEHAVIOURS, START, Behaviour, Deed, Expectation, Scenario
from streams.rehearsal.trigger import read_trigger

API_VERSION = "flexcore/v1"
KIND = "PipelineTest"
TIMES_MAX = 1_000
ATTEMPTS_MAX = 100_000
PLACES_MAX = 1_000
COUNTS = ("records_in", "records_out", "records_rejected", "bytes")
RUN_STATUSES = ("running", "queued", "cancelling", "compensating", *sorted(RUN_ENDED))
STEP_STATUSES = (
    "pending",
    "queued",
    "running",
    "waiting",
    "retrying",
    *FAN_KINDS.values(),
    *sorted(STEP_ENDED),
)


def pipeline_of(document: object) -> tuple[str, list[Problem]]:
    """Return the pipeline that a scenario file is about, and what is wrong with the file's head."""
    found = Findings()
    found.plain("", document)
    top = found.mapping("", document, ("apiVersion", "kind", "pipeline", "scenarios"))
    if top is None:
        return "", found.problems
    found.equals("apiVersion", top.get("apiVersion"), API_VERSION)
    found.equals("kind", top.get("kind"), KIND)
    found.text("pipeline", top.get("pipeline"))
    return str(top.get("pipeline")), found.problems


def scenarios_of(document: Mapping[str, Any], plan: Definition) -> tuple[list[Scenario], list[Problem]]:
    """Return the scenarios of a file whose head is right, or what is wrong with them."""
    found = Findings()
    if not document.get("scenarios"):
        found.add("scenarios", "needs at least one scenario", "write a list: - {name: …, expect: {…}}")
        return [], found.problems
    scenarios, names = [], set()
    for index, item in found.items("scenarios", document["scenarios"]):
        reader = _Reader(found, f"scenarios[{index}]", plan)
        scenario = reader.scenario(item)
        if scenario.name in names:
            found.add(f"scenarios[{index}].name", f"{scenario.name!r} names two scenarios", "choose another")
        names.add(scenario.name)
        scenarios.append(scenario)
    return scenarios, found.problems


class _Reader:
    """Reads one scenario; what is wrong goes to ``found``, and what it returns then is of no use."""

    def __init__(self, found: Findings, path: str, plan: Definition) -> None:
        self.found = found
        self.path = path
        self.plan = plan
        self.start = START

    def scenario(self, value: object) -> Scenario:
        known = ("name", "start", "input", "full_refresh", "slot", "schedule", "trigger", "usual", "steps", "limits", "labels", "signals", "approvals", "skips", "cancel", "expect")  # fmt: skip
        item = self.found.mapping(self.path, value, known) or {}
        self.found.text(f"{self.path}.name", item.get("name"))
        self.start = self._instant(f"{self.path}.start", item.get("start")) or START
        if "full_refresh" in item:
            self.found.truth(f"{self.path}.full_refresh", item["full_refresh"])
        schedule_ms = self._duration(f"{self.path}.schedule", item.get("schedule"))
        trigger = (
            read_trigger(self.found, f"{self.path}.trigger", item["trigger"], self.plan)
            if "trigger" in item
            else None
        )
        self._alone(item)
        deeds = [
            *self._list("signals", item, self._signal),
            *self._list("approvals", item, self._approval),
            *self._list("skips", item, self._skip),
            *([self._cancel(f"{self.path}.cancel", item["cancel"])] if "cancel" in item else ()),
        ]
        return Scenario(
            name=str(item.get("name")),
            start=self.start,
            input=compact(self._mapping(f"{self.path}.input", item.get("input", {}))),
            full_refresh=item.get("full_refresh", False),
            slot=self._instant(f"{self.path}.slot", item.get("slot")),
            schedule_ms=schedule_ms,
            trigger=trigger,
            **self._usual(f"{self.path}.usual", item.get("usual", {})),
            steps=self._steps(f"{self.path}.steps", item.get("steps", {})),
            limits=self._limits(f"{self.path}.limits", item.get("limits", {})),
            labels=self._labels(f"{self.path}.labels", item["labels"]) if "labels" in item else None,
            deeds=tuple(deeds),
            expect=self._expect(f"{self.path}.expect", item.get("expect", {}), item),
        )

    def _alone(self, item: Mapping[str, Any]) -> None:
        """Report what does not go with a run that nobody starts by hand."""
        if "schedule" in item and self.plan.schedule is None:
            self.found.add(
                f"{self.path}.schedule", f"pipeline {self.plan.name} has no schedule", "leave it out"
            )
        by_hand = ("input", "full_refresh", "slot")
        alone = {
            "trigger": by_hand,
            "schedule": (*by_hand, "trigger", "signals", "approvals", "skips", "cancel"),
        }
        for other, keys in alone.items():
            for key in keys if other in item else ():
                if key in item:
                    wrong = "is for a run that is started by hand"
                    self.found.add(f"{self.path}.{key}", wrong, f"leave out {other}")

    def _usual(self, path: str, value: object) -> dict[str, int | None]:
        usual = self.found.mapping(path, value, ("duration", "records")) or {}
        if "records" in usual:
            self.found.integer(f"{path}.records", usual["records"], 0, 2**53)
        if usual and not any(rule["on"] in ("late", "records") for rule in self.plan.alerts):
            self.found.add(path, f"no alert of pipeline {self.plan.name} asks what is usual", "leave it out")
        usual_ms = self._duration(f"{path}.duration", usual.get("duration"))
        return {"usual_ms": usual_ms, "usual_records": usual.get("records")}

    # ------------------------------------------------------------ what steps do
    def _steps(self, path: str, value: object) -> dict[str, tuple[Behaviour, ...]]:
        behaviours = {}
        for name, said in self._mapping(path, value).items():
            place = f"{path}.{name}"
            if self._known(place, name, items=True):
                kind = self.plan.step(name).kind
                if kind in OWN_KINDS:
                    instead = {"signal": "say it under signals", "approval": "say it under approvals"}
                    fix = instead.get(kind, "leave it out")
                    self.found.add(place, f"no runner takes a step of kind {kind}", fix)
            several = list(enumerate(said)) if isinstance(said, list) else [(-1, said)]
            behaviours[name] = tuple(
                self._behaviour(place if index < 0 else f"{place}[{index}]", one) for index, one in several
            )
        return behaviours

    def _behaviour(self, path: str, value: object) -> Behaviour:
        if isinstance(value, str):
            self.found.one_of(path, value, BEHAVIOURS)
            return Behaviour(value)
        if not isinstance(value, dict) or len(value) != 1:
            self.found.add(path, f"needs exactly one of {', '.join(BEHAVIOURS)}", "write {fail: {error: …}}")
            return Behaviour()
        ((does, said),) = value.items()
        self.found.one_of(path, does, BEHAVIOURS)
        known = {"succeed": ("output", *COUNTS), "fail": ("error", "tail", "retryable")}.get(does, ())
        duration_known = () if does == "hang" else ("duration",)
        path = f"{path}.{does}"
        block = (
            self.found.mapping(path, {} if said is None else said, (*known, *duration_known, "times")) or {}
        )
        for count in COUNTS:
            if count in block:
                self.found.integer(f"{path}.{count}", block[count], 0, 2**53)
        if "times" in block:
            self.found.integer(f"{path}.times", block["times"], 1, TIMES_MAX)
        if "retryable" in block:
            self.found.truth(f"{path}.retryable", block["retryable"])
        for text in ("error", "tail"):
            if text in block:
                self.found.text(f"{path}.{text}", block[text], empty=text == "tail")
        return Behaviour(
            does=does,
            duration_ms=self._duration(f"{path}.duration", block.get("duration")) or 0,
            times=block.get("times"),
            output=compact(self._mapping(f"{path}.output", block.get("output", {}))),
            counts={count: block[count] for count in COUNTS if count in block},
            **{name: block[name] for name in ("error", "tail", "retryable") if name in block},
        )

    def _limits(self, path: str, value: object) -> dict[str, int]:
        limits = self._mapping(path, value)
        for name in limits:
            if name not in self.plan.limits:
                self.found.unknown(f"{path}.{name}", f"no limit is named {name!r}", name, self.plan.limits)
            elif self.plan.limits[name] > PLACES_MAX:
                self.found.add(f"{path}.{name}", f"has more than {PLACES_MAX} places", "leave it out")
        return {name: self._duration(f"{path}.{name}", said) or 0 for name, said in limits.items()}

    def _labels(self, path: str, value: object) -> tuple[str, ...]:
        labels = self.found.items(path, value)
        for index, label in labels:
            self.found.name(f"{path}[{index}]", label, NAME, NAME_FIX)
        return tuple(str(label) for _, label in labels)

    # ------------------------------------------------------------ what people and other systems do
    def _list(self, key: str, item: Mapping[str, Any], read: Any) -> list[Deed]:
        path = f"{self.path}.{key}"
        return [read(f"{path}[{index}]", deed) for index, deed in self.found.items(path, item.get(key, []))]

    def _signal(self, path: str, value: object) -> Deed:
        item = self.found.mapping(path, value, ("name", "payload", "at", "after")) or {}
        name = self._word(f"{path}.name", item.get("name"))
        waiting = {
            step.name for step in self.plan.steps.values() if step.kind == "signal" and step.signal == name
        }
        if name and not waiting:
            names = sorted({step.signal for step in self.plan.steps.values() if step.kind == "signal"})
            self.found.unknown(f"{path}.name", f"no step waits for a signal {name!r}", name, names)
        payload = self._mapping(f"{path}.payload", item.get("payload", {}))
        return self._deed(path, f"signal {name}", asked.SignalRun(name, compact(payload)), item, waiting)

    def _approval(self, path: str, value: object) -> Deed:
        item = self.found.mapping(path, value, ("step", "decision", "by", "note", "at", "after")) or {}
        name, decision = self._word(f"{path}.step", item.get("step")), item.get("decision", "approve")
        approvals = {step.name: step for step in self.plan.steps.values() if step.kind == "approval"}
        if name and name not in approvals:
            self.found.unknown(f"{path}.step", f"{name!r} is no approval step", name, approvals)
        self.found.one_of(f"{path}.decision", decision, ("approve", "reject"))
        kind = asked.RejectStep if decision == "reject" else asked.ApproveStep
        may = approvals[name].spec.get("by") if name in approvals else None
        item = {"by": may[0], **item} if may else item
        return self._deed(path, f"{decision} {name}", kind(name, item.get("note")), item, {name})

    def _skip(self, path: str, value: object) -> Deed:
        item = self.found.mapping(path, value, ("step", "by", "reason", "at")) or {}
        name = self._word(f"{path}.step", item.get("step"))
        if name:
            self._known(f"{path}.step", name, items=True)
        return self._deed(path, f"skip {name}", asked.SkipStep(name, item.get("reason")), item)

    def _cancel(self, path: str, value: object) -> Deed:
        item = self.found.mapping(path, value, ("by", "reason", "now", "at")) or {}
        if "now" in item:
            self.found.truth(f"{path}.now", item["now"])
        command = asked.CancelRun(item.get("reason"), item.get("now", False))
        return self._deed(path, "cancel", command, item)

    def _deed(
        self, path: str, what: str, command: Any, item: Mapping[str, Any], answers: set[str] | None = None
    ) -> Deed:
        for text in ("by", "note", "reason"):
            if text in item:
                self.found.text(f"{path}.{text}", item[text])
        at = self._moment(f"{path}.at", item.get("at"))
        after_ms = self._duration(f"{path}.after", item.get("after"))
        if at is not None and after_ms is not None:
            self.found.add(f"{path}.after", "stands beside at", "keep one of them")
        if answers is None and at is None:
            self.found.add(f"{path}.at", "is missing", "write at: 2h, counted from the start")
        actor = str(item.get("by", "test"))
        return Deed(
            path.removeprefix(f"{self.path}."),
            what,
            command,
            actor,
            at,
            after_ms or 0,
            frozenset(answers or ()),
        )

    # ------------------------------------------------------------ what must come of it
    def _expect(self, path: str, value: object, scenario: Mapping[str, Any]) -> Expectation:
        of_a_run = ("status", "steps", "outputs", "attempts", "duration", "alerts")
        special = [key for other, key in (("schedule", "slots"), ("trigger", "started")) if other in scenario]
        item = self.found.mapping(path, value, (*of_a_run, "error", *special)) or {}
        if "started" in item:
            self.found.truth(f"{path}.started", item["started"])
            for key in of_a_run if item["started"] is False else ():
                if key in item:
                    self.found.add(f"{path}.{key}", "is of a run, and none is expected", "leave it out")
        status = item.get("status", "succeeded")
        self.found.one_of(f"{path}.status", status, RUN_STATUSES)
        if "error" in item:
            self.found.text(f"{path}.error", item["error"])
        steps = self._by_step(f"{path}.steps", item.get("steps", {}))
        for name, said in steps.items():
            self.found.one_of(f"{path}.steps.{name}", said, STEP_STATUSES)
        attempts = self._by_step(f"{path}.attempts", item.get("attempts", {}), items=True)
        for name, said in attempts.items():
            self.found.integer(f"{path}.attempts.{name}", said, 0, ATTEMPTS_MAX)
        outputs = self._by_step(f"{path}.outputs", item.get("outputs", {}))
        for name, said in outputs.items():
            self._mapping(f"{path}.outputs.{name}", said)
        least, most = self._bounds(f"{path}.duration", item.get("duration"))
        alerts = [rule for _, rule in self.found.items(f"{path}.alerts", item.get("alerts", []))]
        for index, rule in enumerate(alerts):
            self.found.one_of(f"{path}.alerts[{index}]", rule, tuple(OPTIONS))
        slots = [
            self._instant(f"{path}.slots[{index}]", slot) or 0
            for index, slot in self.found.items(f"{path}.slots", item.get("slots", []))
        ]
        return Expectation(
            status=status,
            error=item.get("error"),
            steps=steps,
            outputs=outputs,
            attempts=attempts,
            at_least_ms=least,
            at_most_ms=most,
            alerts=tuple(map(str, alerts)) if "alerts" in item else None,
            slots=tuple(slots) if "slots" in item else None,
            started=item.get("started", True) is not False,
        )

    def _by_step(self, path: str, value: object, *, items: bool = False) -> dict[str, Any]:
        said = self._mapping(path, value)
        for name in said:
            self._known(f"{path}.{name}", name, items=items)
        return said

    def _bounds(self, path: str, value: object) -> tuple[int | None, int | None]:
        if value is None or isinstance(value, str):
            exact = self._duration(path, value)
            return exact, exact
        item = self.found.mapping(path, value, ("at_least", "at_most")) or {}
        least = self._duration(f"{path}.at_least", item.get("at_least"))
        return least, self._duration(f"{path}.at_most", item.get("at_most"))

    # ------------------------------------------------------------ words that stand in many places
    def _word(self, path: str, value: object) -> str:
        self.found.text(path, value)
        return value if isinstance(value, str) else ""

    def _known(self, path: str, name: str, *, items: bool) -> bool:
        if (
            name in self.plan.steps
            or name in self.plan.compensations
            or (items and item_of(name) in self.plan.items)
        ):
            return True
        self.found.unknown(path, f"no step is named {name!r}", name, self.plan.steps)
        return False

    def _mapping(self, path: str, value: object) -> dict[str, Any]:
        return self.found.mapping(path, value, None) or {}

    def _duration(self, path: str, value: object) -> int | None:
        if value is None:
            return None
        self.found.duration(path, value, 0, 10 * YEAR_MS)
        return _try(duration.parse, value)

    def _instant(self, path: str, value: object) -> int | None:
        if value is None:
            return None
        at = _try(instant.parse, value)
        if at is None:
            self.found.add(path, f"{value!r} is no point in time", 'write for example "2026-12-01T06:00:00Z"')
        return at

    def _moment(self, path: str, value: object) -> int | None:
        if value is None:
            return None
        length = _try(duration.parse, value)
        at = _try(instant.parse, value) if length is None else self.start + length
        if at is None or not self.start <= at <= self.start + 3650 * DAY_MS:
            fix = 'write how long after the start (2h), or a later moment ("2026-12-01T06:00:00Z")'
            self.found.add(path, f"{value!r} is no moment of this scenario", fix)
        return at


def _try(parse: Any, value: object) -> int | None:
    """Return what the text says; None when it does not say it."""
    try:
        return int(parse(value)) if isinstance(value, str) else None
    except ValueError:
        return None
