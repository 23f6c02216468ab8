"""The report of a run: what moved, what it cost, what went wrong. Made from its row and its events; no clock is asked."""

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.ports import Row

_ENDS = ("StepSucceeded", "StepRetryScheduled", "StepFailed", "StepLost", "StepCancelled")
_TROUBLES = {
    "StepRetryScheduled": "failed, tried again",
    "StepFailed": "failed",
    "StepLost": "its runner was not heard of any more",
}
_HANDED_BACK = "its runner was told to stop, and handed it back"
_COUNTS = ("records_in", "records_out", "records_rejected", "bytes")


def report(run: Row, events: Sequence[Row]) -> Row:
    """Return the report as data. Times are milliseconds; ``events`` are all of the run's, in order.

    ``late_ms`` is how long after its schedule slot the run ended; ``worked_ms`` sums the time of every attempt, repeated
    ones too; ``read`` counts what extracts wrote into datasets, ``written`` what loads wrote into systems.
    """
    worked: dict[str, int] = {}
    claimed: dict[tuple[str, int], int] = {}
    troubles: list[Row] = []
    for event in events:
        body = event["body"]
        step, attempt = body.get("step", ""), body.get("attempt", 0)
        if event["type"] == "StepClaimed":
            claimed[step, attempt] = event["at"]
        elif event["type"] in _ENDS and (begun := claimed.pop((step, attempt), None)) is not None:
            worked[step] = worked.get(step, 0) + event["at"] - begun
        if (what := _TROUBLES.get(event["type"])) is not None:
            what = _HANDED_BACK if body.get("handed_back") else what
            told = {"at": event["at"], "step": step, "attempt": attempt, "what": what}
            troubles.append({**told, "error": body.get("error")})
    steps = [_step(step, worked.get(step["name"], 0)) for step in run["steps"]]
    ended, begun = run["ended_at"], run["started_at"]
    return {
        **{name: run[name] for name in ("id", "pipeline", "status", "error", "trigger", "slot", "rerun_of")},
        **{name: run[name] for name in ("definition_hash", "created_at", "started_at", "ended_at")},
        "started_by": events[0]["actor"] if events else None,
        "waited_ms": None if begun is None else begun - run["created_at"],
        "took_ms": None if ended is None else ended - run["created_at"],
        "late_ms": None if ended is None or run["slot"] is None else ended - run["slot"],
        "worked_ms": sum(worked.values()),
        "read": _sum(steps, "extract", "records_out"),
        "written": sum(step["records_out"] for step in run["steps"] if _loads(step) and not step["reused"]),
        "rejected": sum(step["records_rejected"] for step in steps),
        "bytes": sum(step["bytes"] for step in steps),
        "steps": steps,
        "troubles": troubles,
    }


def _step(step: Mapping[str, Any], worked_ms: int) -> Row:
    told = {name: step[name] for name in ("name", "kind", "status", "error", "reused", *_COUNTS)}
    return {**told, "attempts": step["attempt"], "worked_ms": worked_ms}


def _loads(step: Mapping[str, Any]) -> bool:
    """Return whether the step is a load, or a map whose items are."""
    items = (step["output"] or {}).get("outputs") if step["kind"] == "map" else None
    return step["kind"] == "load" or any("sink" in (one or {}) for one in items or ())


def _sum(steps: Iterable[Row], kind: str, count: str) -> int:
    return sum(step[count] for step in steps if step["kind"] == kind and not step["reused"])


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ddd}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.failed,.timed_out,.lost{color:#b3261e}.succeeded{color:#1a7f37}"
)


def page(told: Row) -> str:
    """Return the report as one page of HTML that loads nothing from anywhere: to be mailed, printed or kept."""
    facts = [
        ("Started by", f"{told['started_by'] or '?'} ({told['trigger']})"),
        ("Created", _time(told["created_at"])),
        ("Ended", _time(told["ended_at"])),
        ("Took", _seconds(told["took_ms"])),
        ("After its slot", _seconds(told["late_ms"])),
        ("Work of all attempts", _seconds(told["worked_ms"])),
        ("Read", f"{told['read']:,}"),
        ("Written", f"{told['written']:,}"),
        ("Rejected", f"{told['rejected']:,}"),
        ("Definition", told["definition_hash"]),
    ]
    steps = [
        (
            (step["name"], ""), (step["kind"], ""), (step["status"], step["status"]),
            *((f"{step[name]:,}", "n") for name in ("attempts", "records_in", "records_out", "records_rejected")),
            (_seconds(step["worked_ms"]), "n"), (step["error"] or "", ""),
        )
        for step in told["steps"]
    ]  # fmt: skip
    troubles = [
        ((_time(one["at"]), ""), (one["step"], ""), (str(one["attempt"]), "n"), (one["what"], ""), (one["error"] or "", ""))
        for one in told["troubles"]
    ]  # fmt: skip
    title = f"{told['pipeline']}: {told['status']}"
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(told['pipeline'])}: <span class={told['status']}>{html.escape(told['status'])}</span></h1>",
        f"<p>Run {html.escape(told['id'])}</p>"
        + (f"<p>{html.escape(told['error'])}</p>" if told["error"] else ""),
        _table((), [((name, ""), (value or "–", "")) for name, value in facts]),
        "<h2>Steps</h2>",
        _table(("Step", "Kind", "Status", "Attempts", "In", "Out", "Rejected", "Work", "Error"), steps),
    ]
    if troubles:
        parts += [
            "<h2>What went wrong on the way</h2>",
            _table(("At", "Step", "Attempt", "What", "Error"), troubles),
        ]
    return "\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    lines = ["<table>", *(["<tr>" + "".join(f"<th>{head}" for head in heads)] if heads else [])]
    lines += [
        "<tr>" + "".join(f"<td class='{kind}'>{html.escape(text)}" for text, kind in row) for row in rows
    ]
    return "\n".join([*lines, "</table>"])


def _time(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", "seconds")


def _seconds(ms: int | None) -> str:
    return "" if ms is None else f"{ms / 1000:,.1f} s"
