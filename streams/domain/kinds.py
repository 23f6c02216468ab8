"""What each kind of step may say in its block of the pipeline file."""

import re
from collections.abc import Callable, Mapping

from streams.domain import instant
from streams.domain.expressions import holds, whole
from streams.domain.findings import DAY_MS, Findings

RECORD_KINDS = ("extract", "transform", "load")
OWN_KINDS = ("wait", "signal", "approval", "switch")
"""No runner takes these: the run itself waits, for time or for people, or chooses."""
FAN_KINDS = {"map": "mapping", "repeat": "repeating"}
"""What these do is steps of their own, one for each item or turn; and what a step of the kind is while they are at work."""
STEP_KINDS = (*RECORD_KINDS, "command", *FAN_KINDS, "pipeline", *OWN_KINDS)
NO_RUNNER_KINDS = ("pipeline", *OWN_KINDS)
"""No runner takes these: what a run calls is a run again."""

COMPENSATION = ":compensate"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
NAME_FIX = "use 1 to 63 of a-z, 0-9 and -, and begin with a letter or a digit"
YEAR_MS = 366 * DAY_MS
ITEMS_MAX = 10_000
TURNS_MAX = 10_000
PARALLEL_MAX = 1_000
_PERCENT = re.compile(r"(?:100|\d{1,2})%")
_FUNCTION = re.compile(r"transforms(\.[A-Za-z_]\w*)+:[A-Za-z_]\w*")


def compensation_of(step: str) -> str:
    """Return the name under which a step is undone."""
    return f"{step}{COMPENSATION}"


def undone_by(name: str) -> str:
    """Return the step that a compensation undoes; "" for any other step."""
    return name.removesuffix(COMPENSATION) if name.endswith(COMPENSATION) else ""


def _extract(found: Findings, path: str, value: object) -> None:
    block = found.mapping(
        path, value, ("tap", "source", "config", "catalog", "streams", "changed_only", "full_refresh")
    )
    if block is None:
        return
    found.exactly_one(path, block, "tap", "source", "tap: tap-jsonl==0.3.1, or source: file")
    for key in ("changed_only", "full_refresh"):
        if key in block:
            found.truth(f"{path}.{key}", block[key])
    if "catalog" in block:
        found.mapping(f"{path}.catalog", block["catalog"], None)
    for index, stream in found.items(f"{path}.streams", block.get("streams", [])):
        found.text(f"{path}.streams[{index}]", stream)


def _load(found: Findings, path: str, value: object) -> None:
    block = found.mapping(path, value, ("sink", "target", "config"))
    if block is None:
        return
    found.exactly_one(path, block, "sink", "target", "sink: postgres, or target: target-jsonl==0.1.4")


def _transform(found: Findings, path: str, value: object) -> None:
    block = found.mapping(path, value, ("python", "config", "tolerate"))
    if block is None:
        return
    if "config" in block:
        found.mapping(f"{path}.config", block["config"], None)
    if "tolerate" in block:
        found.number(f"{path}.tolerate", block["tolerate"], 0, 1)
    python = block.get("python")
    if not isinstance(python, str) or not _FUNCTION.fullmatch(python):
        fix = "name a function in the project's transforms folder: transforms.clean:customer"
        found.add(f"{path}.python", "is missing" if python is None else f"{python!r} names no function", fix)


def command(found: Findings, path: str, value: object) -> None:
    """Report what is wrong with a program to be run."""
    block = found.mapping(path, value, ("argv", "env", "timeout"))
    if block is None:
        return
    argv = block.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) and word for word in argv):
        found.add(f"{path}.argv", "must be the program and its arguments", "write argv: [dbt, build]")
    env = found.mapping(f"{path}.env", block.get("env", {}), None) or {}
    for key, text in env.items():
        found.text(f"{path}.env.{key}", text, empty=True)
    if "timeout" in block:
        found.duration(f"{path}.timeout", block["timeout"], 1_000, YEAR_MS)


def _wait(found: Findings, path: str, value: object) -> None:
    block = found.mapping(path, value, ("for", "until"))
    if block is None:
        return
    if ("for" in block) == ("until" in block):
        found.add(
            path, "needs exactly one of for and until", 'write for: 10m, or until: "2026-12-01T06:00:00Z"'
        )
    if "for" in block and not holds(block["for"]):
        found.duration(f"{path}.for", block["for"], 1, YEAR_MS)
    if "until" in block and not holds(block["until"]):
        _instant(found, f"{path}.until", block["until"])


def _instant(found: Findings, path: str, value: object) -> None:
    found.text(path, value)
    if not isinstance(value, str) or not value:
        return
    try:
        instant.parse(value)
    except ValueError as error:
        message, _, fix = str(error).partition(": ")
        found.add(path, message, fix)


def _signal(found: Findings, path: str, value: object) -> None:
    block = found.mapping(path, value, ("name", "deadline", "on_silence"))
    if block is None:
        return
    if "name" in block:
        found.name(f"{path}.name", block["name"], NAME, NAME_FIX)
    _silence(found, path, block, ("fail", "succeed"))


def _approval(found: Findings, path: str, value: object) -> None:
    block = found.mapping(path, value, ("by", "deadline", "on_silence"))
    if block is None:
        return
    for index, person in found.items(f"{path}.by", block.get("by", [])):
        found.text(f"{path}.by[{index}]", person)
    _silence(found, path, block, ("fail", "approve", "reject"))


def _switch(found: Findings, path: str, value: object) -> None:
    block = found.mapping(path, value, ("cases", "default"))
    if block is None:
        return
    cases = found.items(f"{path}.cases", block.get("cases"))
    if block.get("cases") == []:
        found.add(f"{path}.cases", "needs at least one case", _CASE)
    for index, item in cases:
        case = found.mapping(f"{path}.cases[{index}]", item, ("when", "then"))
        if case is not None:
            condition(found, f"{path}.cases[{index}].when", case.get("when"))
            if "then" not in case:
                found.add(f"{path}.cases[{index}].then", "is missing", _CASE)
            else:
                found.items(f"{path}.cases[{index}].then", case["then"])
    if "default" in block:
        found.items(f"{path}.default", block["default"])


_CASE = 'write {when: "${{ … }}", then: [<steps>]}'


def condition(found: Findings, path: str, value: object) -> None:
    """Report what is no expression that could be true or false."""
    found.text(path, value)
    if not isinstance(value, str) or not value:
        return
    try:
        if whole(value) is None:
            found.add(path, f"{value!r} is always the same", 'write one expression: "${{ … }}"')
    except ValueError:
        return  # reported with the other expressions


def chosen(switch: object) -> dict[str, list[object]]:
    """Return the steps that a switch names, by the place where it names them, as far as it can be read."""
    if not isinstance(switch, dict):
        return {}
    named = {"default": switch.get("default")}
    cases = switch.get("cases")
    for index, case in enumerate(cases if isinstance(cases, list) else []):
        named[f"cases[{index}].then"] = case.get("then") if isinstance(case, dict) else None
    return {place: names for place, names in named.items() if isinstance(names, list)}


def _map(found: Findings, path: str, value: object) -> None:
    block = found.mapping(
        path, value, ("over", "dataset", "max_parallel", "tolerated_failures", "command", "load")
    )
    if block is None:
        return
    over = block.get("over")
    if ("over" in block) == ("dataset" in block):
        found.add(
            path, "needs exactly one of over and dataset", "write over: [<items>], or dataset: <a step>"
        )
    elif isinstance(over, list) and len(over) > ITEMS_MAX:
        found.add(f"{path}.over", f"has {len(over)} items, more than {ITEMS_MAX}", "map over batches")
    elif "over" in block and not isinstance(over, list):
        condition(found, f"{path}.over", over)
    if "max_parallel" in block:
        found.integer(f"{path}.max_parallel", block["max_parallel"], 1, PARALLEL_MAX)
    tolerated = block.get("tolerated_failures", 0)
    if isinstance(tolerated, str) and not _PERCENT.fullmatch(tolerated):
        found.add(f"{path}.tolerated_failures", f"{tolerated!r} does not fit", 'write a number, or "5%"')
    elif not isinstance(tolerated, str):
        found.integer(f"{path}.tolerated_failures", tolerated, 0, ITEMS_MAX)
    if "load" in block:
        _load_of_partition(found, path, block)
    else:
        command(found, f"{path}.command", block.get("command"))


def _load_of_partition(found: Findings, path: str, block: Mapping[str, object]) -> None:
    """Report what cannot be done for one partition beside the others: they share a table, and nothing else."""
    if "command" in block:
        found.add(path, "does two things, command and load", "keep one of them")
    if "dataset" not in block:
        fix = "write dataset: <the step that makes the records>"
        found.add(f"{path}.load", "reads the partitions of a dataset, and none is named", fix)
    load = block["load"]
    _load(found, f"{path}.load", load)
    if not isinstance(load, dict):
        return
    if load.get("sink") != "postgres":
        why = "needs a sink that keeps a position for each partition"
        found.add(f"{path}.load", why, "write sink: postgres, or a load step of its own")
    config = load.get("config")
    mode = config.get("mode", "upsert") if isinstance(config, dict) else "upsert"
    if mode not in ("append", "upsert"):
        fix = "write append or upsert, or a load step of its own"
        found.add(f"{path}.load.config.mode", f"{mode!r} is for the whole dataset at once", fix)


def _repeat(found: Findings, path: str, value: object) -> None:
    block = found.mapping(path, value, ("command", "until", "max", "wait"))
    if block is None:
        return
    condition(found, f"{path}.until", block.get("until"))
    found.integer(f"{path}.max", block.get("max"), 1, TURNS_MAX)
    if "wait" in block:
        found.duration(f"{path}.wait", block["wait"], 0, YEAR_MS)
    command(found, f"{path}.command", block.get("command"))


def _pipeline(found: Findings, path: str, value: object) -> None:
    block = found.mapping(path, value, ("name", "input", "on_parent_close"))
    if block is None:
        return
    found.name(f"{path}.name", block.get("name"), NAME, NAME_FIX)
    given = block.get("input", {})
    if holds(given):
        condition(found, f"{path}.input", given)
    else:
        found.mapping(f"{path}.input", given, None)
    if "on_parent_close" in block:
        found.one_of(f"{path}.on_parent_close", block["on_parent_close"], ("cancel", "leave"))


def _silence(found: Findings, path: str, block: Mapping[str, object], choices: tuple[str, ...]) -> None:
    if "deadline" in block:
        found.duration(f"{path}.deadline", block["deadline"], 1, YEAR_MS)
    if "on_silence" in block:
        found.one_of(f"{path}.on_silence", block["on_silence"], choices)
        if "deadline" not in block:
            found.add(f"{path}.deadline", "is missing: silence for how long?", "write deadline: 1d")


KINDS: Mapping[str, Callable[[Findings, str, object], None]] = {
    "extract": _extract,
    "transform": _transform,
    "load": _load,
    "command": command,
    "wait": _wait,
    "signal": _signal,
    "approval": _approval,
    "switch": _switch,
    "map": _map,
    "repeat": _repeat,
    "pipeline": _pipeline,
}
