"""A pipeline's steps as lines of text, in the order they can run."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.cli.output import local_time

_INDENTED_MAX = 5
"""Layers below this one stand as far to the right: a long chain leaves room for names."""

MARKS: Mapping[str, str] = {
    "pending": "·",
    "queued": "○",
    "running": "●",
    "retrying": "↻",
    "waiting": "◷",
    "mapping": "●",
    "repeating": "●",
    "succeeded": "✓",
    "failed": "✗",
    "timed_out": "✗",
    "cancelled": "⊘",
    "skipped": "–",
    "compensated": "↶",
}


def layers(after: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the steps in layers: each step stands below everything it comes after, in the file's order otherwise."""
    depth: dict[str, int] = {}
    waiting = dict(after)
    while waiting:
        ready = [name for name, befores in waiting.items() if all(before in depth for before in befores)]
        if not ready:  # a cycle cannot be applied, but whatever is shown must end
            ready = list(waiting)
        for name in ready:
            befores = [depth.get(before, 0) for before in waiting.pop(name)]
            depth[name] = max(befores, default=-1) + 1
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in after:
        rows[depth[name]].append(name)
    return rows


def order(steps: Iterable[Mapping[str, Any]]) -> dict[str, Iterable[str]]:
    """Return what each step comes after, by name; steps of ``finally`` come after all others."""
    known = list(steps)
    proper = [step["name"] for step in known if not step.get("finally")]
    return {
        step["name"]: [*(step.get("after") or ()), *(proper if step.get("finally") else ())] for step in known
    }


def step_lines(run: Mapping[str, Any], now_ms: int) -> list[tuple[str, str, str, str, str]]:
    """Return one line per step: mark and indented name, status, attempt, time, what there is to say.

    ``now_ms`` is what unfinished steps are measured against.
    """
    steps = {step["name"]: step for step in run["steps"]}
    lines = []
    for depth, names in enumerate(layers(order(run["steps"]))):
        for name in names:
            step = steps[name]
            mark = MARKS.get(step["status"], "?")
            attempt = f"#{step['attempt']}" if step["attempt"] > 1 else ""
            lines.append(
                (
                    f"{mark} {'  ' * min(depth, _INDENTED_MAX)}{name}",
                    step["status"],
                    attempt,
                    _spent(step, now_ms),
                    _said(step),
                )
            )
    return lines


def duration(ms: int) -> str:
    """Return a duration as people read it: 0.4 s, 12 s, 3 m 05 s, 2 h 10 m."""
    seconds = max(ms, 0) / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def _spent(step: Mapping[str, Any], now_ms: int) -> str:
    if step.get("started_at") is None or step.get("reused"):
        return ""
    return duration((step.get("ended_at") or now_ms) - step["started_at"])


def _said(step: Mapping[str, Any]) -> str:
    if step.get("reused"):
        return "reused"
    if step.get("items") and step["status"] == "mapping":
        items = step["items"]
        failed = f", {items['failed']:,} failed" if items["failed"] else ""
        missing = f", waits for {step['waits_for']}" if step.get("waits_for") else ""
        return f"{items['ended']:,} of {items['total']:,} items{failed}{missing}"
    if step.get("items") and step["status"] == "repeating":
        items, until = step["items"], step.get("waits_until")
        return (
            f"turn {items['ended'] + 1:,} of {items['total']:,}{f', at {local_time(until)}' if until else ''}"
        )
    if step["status"] == "waiting" or (step["status"] == "queued" and _awaited(step)):
        until = step.get("waits_until")
        return f"for {step.get('waits_for') or 'a runner'}{f', until {local_time(until)}' if until else ''}"
    if step.get("error") and step["status"] != "succeeded":
        return " ".join(str(step["error"]).split())
    return " · ".join((*_progress(step), *_counts(step)))


def _awaited(step: Mapping[str, Any]) -> bool:
    """Return whether there is more to say of a step on offer than that it is."""
    return bool(step.get("waits_for") or step.get("waits_until"))


def _progress(step: Mapping[str, Any]) -> Iterable[str]:
    """Yield what a step at work says of itself."""
    if step.get("percent") is not None:
        yield f"{step['percent']:.0f} %"
    if step.get("progress"):
        yield " ".join(str(step["progress"]).split())


def _counts(step: Mapping[str, Any]) -> Iterable[str]:
    for field, word in (("records_in", "in"), ("records_out", "out"), ("records_rejected", "rejected")):
        if step.get(field):
            yield f"{step[field]:,} {word}"
    if step["status"] == "running" and step.get("bytes"):
        yield size(step["bytes"])


def size(count: int) -> str:
    """Return so many bytes as people read it: 512 B, 4.2 kB, 17 MB."""
    if count < 1000:
        return f"{count} B"
    amount, units = count / 1000, ["kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        del units[0]
    return f"{amount:.{1 if amount < 10 else 0}f} {units[0]}"
