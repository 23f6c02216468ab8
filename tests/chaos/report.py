"""What a run says: ``verdict.json``, and the same as a table for people."""

from collections import Counter, defaultdict
from typing import Any

from tests.chaos.check import INVARIANTS, Anomaly
from tests.chaos.truth import Row

_SOON_S = 1.0  # a shard is affected by a fault if it was asked for something this soon after it
_SLOW_S = 1.0  # a shard that lets a client wait longer than this is away meanwhile


def outages(history: list[Row], faults: list[Row]) -> dict[str, list[float]]:
    """Return, by kind of fault, how long the slowest shard took to answer again (s), one figure for each fault.

    Clients know nothing of owners, so this is what they saw: from the fault until the first answer to what was asked
    for before it and unanswered, or within a second after it. Faults overlap; each gets the wait that it fell into.
    """
    by_shard: dict[int, list[Row]] = defaultdict(list)
    for op in history:
        by_shard[op["home"]].append(op)
    found: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        if not fault["done"]:
            continue
        waits = [wait for ops in by_shard.values() if (wait := _wait(ops, fault["at"])) is not None]
        found[fault["kind"]].append(max(waits, default=0.0))
    return found


def _wait(ops: list[Row], at: float) -> float | None:
    """Return how long after ``at`` everything was answered that waited then, or None if nothing did."""
    waiting = [op for op in ops if op["complete"] > at and op["since"] < at + _SOON_S]
    answered = [op["complete"] for op in waiting if op["result"] != "info"]
    if waiting and not answered:  # whoever waited has given up: the first who came later tells
        answered = [
            min((op["complete"] for op in ops if op["since"] > at and op["result"] != "info"), default=at)
        ]
    return max(answered) - at if answered else None


def away(history: list[Row]) -> dict[int, float]:
    """Return, by shard, the seconds in which some client had waited for more than a second."""
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for op in history:
        if op["complete"] - op["since"] > _SLOW_S:
            spans[op["home"]].append((op["since"] + _SLOW_S, op["complete"]))
    total: dict[int, float] = {}
    for shard, found in spans.items():
        until, seconds = 0.0, 0.0
        for start, end in sorted(found):
            seconds += max(0.0, end - max(start, until))
            until = max(until, end)
        total[shard] = seconds
    return total


def quantile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def verdict(
    history: list[Row],
    faults: list[Row],
    found: list[Anomaly],
    log_counts: dict[str, int],
    run: dict[str, Any],
) -> dict[str, Any]:
    """Return everything a run is judged by."""
    results = Counter(op["result"] for op in history)
    counted = Counter(one.invariant for one in found)
    takeover = outages(history, faults)
    seconds = max((op["complete"] for op in history), default=0.0) - min(
        (op["invoke"] for op in history), default=0.0
    )
    gone = away(history)
    return {
        **run,
        "asked": len(history),
        "results": dict(results),
        "log": log_counts,
        "faults": sum(fault["done"] for fault in faults),
        "faults_without_effect": sum(not fault["done"] for fault in faults),
        "outage_s": {
            kind: {
                "count": len(values),
                "p50": round(quantile(values, 0.5), 2),
                "p95": round(quantile(values, 0.95), 2),
                "max": round(max(values), 2),
            }
            for kind, values in sorted(takeover.items())
        },
        "away_s": {str(shard): round(value, 1) for shard, value in sorted(gone.items())},
        "away_share": round(sum(gone.values()) / max(1e-9, seconds * max(1, len(gone))), 4),
        "anomalies": {name: counted[name] for name in INVARIANTS},
        "anomalies_in_all": len(found),
        "examples": [one._asdict() for one in found[:50]],
    }


def table(verdict: dict[str, Any]) -> str:
    """Return the verdict as a table for people."""
    lines = [
        f"seed {verdict['seed']}, {verdict['brokers']} brokers, {verdict['workers']} workers, {verdict['seconds']:.0f} s",
        f"kept in {verdict['folder']}",
        f"asked {verdict['asked']}: {verdict['results']};  log: {verdict['log']}",
        "",
        f"{'fault':<18} {'times':>6} {'p50 s':>7} {'p95 s':>7} {'max s':>7}   until the slowest shard answers again",
    ]
    for kind, row in verdict["outage_s"].items():
        lines.append(f"{kind:<18} {row['count']:>6} {row['p50']:>7.2f} {row['p95']:>7.2f} {row['max']:>7.2f}")
    lines += [
        f"{'all':<18} {verdict['faults']:>6}   a shard kept somebody waiting {verdict['away_share']:.1%} of the time",
        *([f"{'without effect':<18} {idle:>6}"] if (idle := verdict["faults_without_effect"]) else []),
        "",
    ]
    for name, count in verdict["anomalies"].items():
        lines.append(f"{name:<4} {count:>6}   {INVARIANTS[name]}")
    lines += [f"  {one['invariant']}: {one['detail']}" for one in verdict["examples"][:10]]
    lines.append(f"anomalies: {verdict['anomalies_in_all']}")
    return "\n".join(lines)
