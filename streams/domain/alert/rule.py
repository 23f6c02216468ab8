"""A line of ``alerts`` in a pipeline file, and what may be wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from streams.domain.findings import Findings
from streams.domain.kinds import YEAR_MS

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "failed": (),
    "succeeded": (),
    "quiet": ("for",),
    "slow": ("for",),
    "late": ("factor", "after"),
    "records": ("factor", "min", "max"),
    "quarantine": ("above",),
}
"""What each kind of rule may say besides ``notify``."""
TIMED = ("slow", "late")
"""Kinds that come true while a run is at work."""
FACTOR_MAX = 100
RECORDS_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Rule:
    """``for_ms``, ``after_ms`` and ``above`` are 0 where they play no part.

    ``factor`` times what is usual is too much, and a ``factor``-th too little; None: what is usual is not asked.
    """

    on: str
    notify: str
    for_ms: int = 0
    after_ms: int = 0
    factor: float | None = None
    least: int | None = None
    most: int | None = None
    above: int = 0


def rule_problems(found: Findings, path: str, value: object) -> None:
    """Note what is wrong with one line of ``alerts``."""
    on = value.get("on") if isinstance(value, dict) else None
    every = tuple(dict.fromkeys(option for options in OPTIONS.values() for option in options))
    options = OPTIONS.get(on, every) if isinstance(on, str) else every
    line = found.mapping(path, value, ("on", *options, "notify"))
    if line is None:
        return
    found.one_of(f"{path}.on", on, tuple(OPTIONS))
    found.text(f"{path}.notify", line.get("notify"))
    for option in ("for", "after"):
        if option in line:
            found.duration(f"{path}.{option}", line[option], 1_000, YEAR_MS)
    if "for" not in line and on in ("quiet", "slow"):
        found.add(f"{path}.for", f"is missing: {on} for how long?", "write for: 3h")
    if "factor" in line:
        found.number(f"{path}.factor", line["factor"], 1, FACTOR_MAX)
    before = len(found.problems)
    for option in ("min", "max", "above"):
        if option in line:
            found.integer(f"{path}.{option}", line[option], 0, RECORDS_MAX)
    if len(found.problems) == before and line.get("min", 0) > line.get("max", RECORDS_MAX):
        found.add(f"{path}.max", f"is less than min: {line['min']}", "exchange the two")
