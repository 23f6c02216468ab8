"""What may be wrong with a pipeline file: every mistake at once, each with its place and the way out."""

from collections.abc import Callable, Mapping
from typing import Any

from streams.domain.alert.rule import rule_problems
from streams.domain.expression_problems import expression_problems
from streams.domain.expressions import Language
from streams.domain.findings import DAY_MS, Findings, Problem
from streams.domain.kinds import (
    KINDS,
    NAME,
    NAME_FIX,
    NO_RUNNER_KINDS,
    OWN_KINDS,
    STEP_KINDS,
    YEAR_MS,
    chosen,
    command,
    condition,
)
from streams.domain.labels import runs_on
from streams.domain.priority import LANES
from streams.domain.triggers import trigger_problems

STEPS_MAX = 2_000
ATTEMPTS_MAX = 100
MULTIPLIER_MAX = 100
OVERLAPS = ("skip", "buffer_one", "buffer_all", "cancel_other", "allow")
_SPEC = ("schedule", "triggers", "limits", "priority", "timeout", "steps", "finally", "alerts")
_RUNNER_TIMEOUTS = ("start_timeout", "heartbeat_timeout")
_KEYS = ("name", "after", "when", "runs_on", *STEP_KINDS, "retry", *_RUNNER_TIMEOUTS, "timeout", "compensate")
API_VERSION = "flexcore/v1"


NextSlot = Callable[[Mapping[str, Any], int], int]
"""``next_slot(schedule, after_ms)``: the first slot strictly after. Raises ValueError for a schedule that has none."""

ScheduleCheck = Callable[[Mapping[str, Any]], str | None]
"""Says what is wrong with a schedule whose shape is right (cron syntax, time zone), or None."""


def any_schedule(_schedule: Mapping[str, Any]) -> str | None:
    """Return None: cron syntax and time zone are left to whoever computes the slots."""
    return None


def problems(
    document: object, check_schedule: ScheduleCheck = any_schedule, language: Language | None = None
) -> list[Problem]:
    """Return every mistake in a pipeline file (parsed YAML or JSON), in reading order; nothing when it may be applied.

    Without ``language`` the syntax of expressions is not looked at.
    """
    found = Findings()
    found.plain("", document)
    if found.problems:
        return found.problems
    top = found.mapping("", document, ("apiVersion", "kind", "metadata", "spec"))
    if top is None:
        return found.problems
    found.equals("apiVersion", top.get("apiVersion"), API_VERSION)
    found.equals("kind", top.get("kind"), "Pipeline")
    _metadata(found, top.get("metadata"))
    _spec(found, top, check_schedule)
    expression_problems(found, top, language)
    return found.problems


def schedule_problems(schedule: object, check_schedule: ScheduleCheck = any_schedule) -> list[Problem]:
    """Return every mistake in a schedule by itself: a definition's ``spec.schedule``."""
    found = Findings()
    _schedule(found, schedule, check_schedule)
    return found.problems


def _metadata(found: Findings, value: object) -> None:
    metadata = found.mapping("metadata", value, ("name", "owner", "description", "tags"))
    if metadata is None:
        return
    found.name("metadata.name", metadata.get("name"), NAME, NAME_FIX)
    for key in ("owner", "description"):
        if key in metadata:
            found.text(f"metadata.{key}", metadata[key])
    for index, tag in found.items("metadata.tags", metadata.get("tags", [])):
        found.text(f"metadata.tags[{index}]", tag)


def _spec(found: Findings, top: dict[str, Any], check_schedule: ScheduleCheck) -> None:
    spec = found.mapping("spec", top.get("spec"), _SPEC)
    if spec is None:
        return
    if "schedule" in spec:
        _schedule(found, spec["schedule"], check_schedule)
    if "triggers" in spec:
        head = top.get("metadata")
        trigger_problems(found, spec["triggers"], head.get("name") if isinstance(head, dict) else None)
    for index, limit in found.items("spec.limits", spec.get("limits", [])):
        _limit(found, f"spec.limits[{index}]", limit)
    if "priority" in spec:
        found.one_of("spec.priority", spec["priority"], LANES)
    if "timeout" in spec:
        found.duration("spec.timeout", spec["timeout"], 1_000, YEAR_MS)
    _steps(found, spec.get("steps"), spec.get("finally", []))
    for index, alert in found.items("spec.alerts", spec.get("alerts", [])):
        rule_problems(found, f"spec.alerts[{index}]", alert)


def _schedule(found: Findings, value: object, check_schedule: ScheduleCheck) -> None:
    before = len(found.problems)
    keys = ("cron", "every", "timezone", "dst", "jitter", "overlap", "catch_up")
    schedule = found.mapping("spec.schedule", value, keys)
    if schedule is None:
        return
    _slots(found, schedule)
    for key, words in (("dst", ("first", "both", "skip")), ("overlap", OVERLAPS)):
        if key in schedule:
            found.one_of(f"spec.schedule.{key}", schedule[key], words)
    for key, most_ms in (("jitter", DAY_MS), ("catch_up", YEAR_MS)):
        if key in schedule:
            found.duration(f"spec.schedule.{key}", schedule[key], 0, most_ms)
    if len(found.problems) == before and (mistake := check_schedule(schedule)):
        found.add(
            "spec.schedule",
            mistake,
            "five fields: minute hour day month weekday; a time zone like Europe/Berlin",
        )


def _slots(found: Findings, schedule: Mapping[str, Any]) -> None:
    """Check what says when the slots are."""
    if ("cron" in schedule) == ("every" in schedule):
        found.add(
            "spec.schedule", "needs exactly one of cron and every", 'write cron: "0 */2 * * *" or every: 5m'
        )
    for key in ("cron", "timezone"):
        if key in schedule:
            found.text(f"spec.schedule.{key}", schedule[key])
    for key in ("timezone", "dst"):
        if key in schedule and "cron" not in schedule:
            found.add(f"spec.schedule.{key}", "means something only with cron", f"remove {key}, or use cron")
    if "every" in schedule:
        found.duration("spec.schedule.every", schedule["every"], 1_000, YEAR_MS)


def _limit(found: Findings, path: str, value: object) -> None:
    limit = found.mapping(path, value, ("name", "max"))
    if limit is not None:
        found.name(f"{path}.name", limit.get("name"), NAME, NAME_FIX)
        found.integer(f"{path}.max", limit.get("max"), 1, 1_000_000)


def _steps(found: Findings, steps: object, last: object) -> None:
    if not isinstance(steps, list) or not steps:
        found.add("spec.steps", "needs at least one step", "write a list of steps: - {name: …, extract: {…}}")
        return
    count = len(steps) + (len(last) if isinstance(last, list) else 0)
    if count > STEPS_MAX:
        found.add("spec.steps", f"has {count} steps, more than {STEPS_MAX}", "split the pipeline")
        return
    taken: set[str] = set()
    _part(found, "spec.steps", steps, taken)
    _part(found, "spec.finally", last, taken)


def _part(found: Findings, place: str, value: object, taken: set[str]) -> None:
    """Check a list of steps: they come after steps of the same list only."""
    kinds: dict[str, str] = {}
    after: dict[str, list[str]] = {}
    items = found.items(place, value)
    for index, item in items:
        path = f"{place}[{index}]"
        step = found.mapping(path, item, _KEYS)
        if step is None:
            continue
        kind = _step(found, path, step)
        if "compensate" in step:
            _compensate(found, f"{path}.compensate", step["compensate"], kind, place)
        name = step.get("name")
        if isinstance(name, str):
            if name in taken:
                found.add(f"{path}.name", f"{name!r} names two steps", "give every step a name of its own")
            taken.add(name)
            kinds[name] = kind
            after[name] = _names(step.get("after", []))
    for index, item in items:
        if isinstance(item, dict):
            _order(found, f"{place}[{index}]", item, kinds)
            _choices(found, f"{place}[{index}]", item, after)
    for cycle in _cycles(after):
        arrows = " → ".join(cycle)
        found.add(place, f"steps wait for each other: {arrows}", "remove one of these from its after list")


def _choices(found: Findings, path: str, step: dict[str, Any], after: Mapping[str, list[str]]) -> None:
    """Check the steps that a switch chooses from: they come after it."""
    own = step.get("name")
    for place, names in chosen(step.get("switch")).items():
        for index, name in enumerate(names):
            where = f"{path}.switch.{place}[{index}]"
            if not isinstance(name, str):
                found.add(where, f"{name!r} is no name", "write the name of a step")
            elif name not in after:
                found.unknown(where, f"no step is named {name!r}", name, after)
            elif own not in after[name]:
                found.add(
                    where, f"step {name} does not come after {own}", f"add {own} to the after list of {name}"
                )


def _step(found: Findings, path: str, step: dict[str, Any]) -> str:
    """Check one step by itself; return its kind, or "" when that is not clear."""
    found.name(f"{path}.name", step.get("name"), NAME, NAME_FIX)
    kinds = [kind for kind in STEP_KINDS if kind in step]
    if len(kinds) != 1:
        which = f"has {' and '.join(kinds)}" if kinds else "does nothing"
        found.add(path, f"the step {which}", f"give it exactly one of {', '.join(STEP_KINDS)}")
    for kind in kinds:
        KINDS[kind](found, f"{path}.{kind}", step[kind])
    if "when" in step:
        condition(found, f"{path}.when", step["when"])
    if "runs_on" in step:
        runs_on(found, f"{path}.runs_on", step["runs_on"], kinds[0] if kinds else "")
    for key in _RUNNER_TIMEOUTS:
        if key in step:
            _runner_timeout(found, f"{path}.{key}", step[key], kinds[0] if kinds else "")
    if "timeout" in step:
        found.duration(f"{path}.timeout", step["timeout"], 1_000, YEAR_MS)
        block = step.get("command")
        if isinstance(block, dict) and "timeout" in block:
            found.add(f"{path}.timeout", "is given twice, here and in command", "keep one of them")
    if "retry" in step:
        _retry(found, f"{path}.retry", step["retry"])
    for key in ("retry", "timeout"):
        if key in step and kinds and kinds[0] in OWN_KINDS:
            found.add(
                f"{path}.{key}", f"means nothing for a {kinds[0]}: nothing is tried", _INSTEAD[kinds[0]]
            )
    return kinds[0] if len(kinds) == 1 else ""


def _runner_timeout(found: Findings, path: str, value: object, kind: str) -> None:
    found.duration(path, value, 1_000, YEAR_MS)
    if kind in NO_RUNNER_KINDS:
        found.add(path, f"means nothing for a {kind}: no runner takes it", "remove it")


_INSTEAD = {
    "wait": "remove it",
    "signal": "write signal: {deadline: 1h}",
    "approval": "write approval: {deadline: 1d}",
    "switch": "remove it",
}


def _compensate(found: Findings, path: str, value: object, kind: str, place: str) -> None:
    """Check what undoes a step when the run does not succeed."""
    if place == "spec.finally":
        found.add(path, "means nothing here: finally steps are done however the run ends", "remove it")
    elif kind in ("wait", "switch"):
        found.add(path, f"means nothing for a {kind}: there is nothing to undo", "remove it")
    block = found.mapping(path, value, ("command", "retry", "start_timeout", "timeout"))
    if block is None:
        return
    command(found, f"{path}.command", block.get("command"))
    if "retry" in block:
        _retry(found, f"{path}.retry", block["retry"])
    if "start_timeout" in block:
        _runner_timeout(found, f"{path}.start_timeout", block["start_timeout"], "command")
    if "timeout" in block:
        found.duration(f"{path}.timeout", block["timeout"], 1_000, YEAR_MS)
        if isinstance(block.get("command"), dict) and "timeout" in block["command"]:
            found.add(f"{path}.timeout", "is given twice, here and in command", "keep one of them")


def _retry(found: Findings, path: str, value: object) -> None:
    retry = found.mapping(
        path, value, ("attempts", "initial", "multiplier", "max", "jitter", "non_retryable")
    )
    if retry is None:
        return
    found.integer(f"{path}.attempts", retry.get("attempts"), 1, ATTEMPTS_MAX)
    for key in ("initial", "max"):
        if key in retry:
            found.duration(f"{path}.{key}", retry[key], 0, 30 * DAY_MS)
    if "multiplier" in retry:
        found.number(f"{path}.multiplier", retry["multiplier"], 1, MULTIPLIER_MAX)
    if "jitter" in retry:
        found.one_of(f"{path}.jitter", retry["jitter"], ("full", "none"))
    for index, text in found.items(f"{path}.non_retryable", retry.get("non_retryable", [])):
        found.text(f"{path}.non_retryable[{index}]", text)


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _order(found: Findings, path: str, step: dict[str, Any], kinds: Mapping[str, str]) -> None:
    """Check what one step comes after, now that all names are known."""
    names = []
    for index, name in found.items(f"{path}.after", step.get("after", [])):
        place = f"{path}.after[{index}]"
        if not isinstance(name, str):
            found.add(place, f"{name!r} is no name", "write the name of a step")
        elif name not in kinds:
            found.unknown(place, f"no step is named {name!r}", name, kinds)
        elif name in names:
            found.add(place, f"{name!r} is there twice", "keep one of them")
        else:
            names.append(name)
    for kind in ("transform", "load"):
        if kind in step and not names:
            found.add(
                f"{path}.after", f"a {kind} reads the records of a step before it", "write after: [<a step>]"
            )
        elif kind in step and not any(kinds[name] in ("extract", "transform", "") for name in names):
            fix = "add an extract or transform step to after"
            found.add(f"{path}.after", f"none of {', '.join(names)} makes records for this {kind}", fix)
    _mapped_dataset(found, f"{path}.map.dataset", step.get("map"), {name: kinds[name] for name in names})


def _mapped_dataset(found: Findings, path: str, block: object, before: Mapping[str, str]) -> None:
    """Check whose partitions a map goes over: those of a step that it comes after, and that makes records."""
    if not isinstance(block, dict) or "dataset" not in block:
        return
    name = block["dataset"]
    if not isinstance(name, str) or name not in before:
        found.add(
            path, f"{name!r} is no step in its after list", "add the step that makes the records to after"
        )
    elif before[name] not in ("extract", "transform", ""):
        found.add(path, f"{name} makes no records", "name an extract or transform step")


def _cycles(after: Mapping[str, list[str]]) -> list[list[str]]:
    """Return cycles such that removing one edge of each leaves none of these; each as a, …, a. No recursion: bounded."""
    cycles = []
    done: set[str] = set()
    for start in after:
        path: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            name, entered = stack.pop()
            if entered:
                path.pop()
                done.add(name)
                continue
            if name in path:
                cycles.append([*path[path.index(name) :], name])
                continue
            if name in done or name not in after:
                continue
            path.append(name)
            stack.append((name, 1))
            stack.extend((before, 0) for before in reversed(after[name]))
    return cycles
