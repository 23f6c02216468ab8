"""The report of a run: the same facts as JSON for programs and as Markdown for people, and the plot beside them."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.performance.plot import latency_plot
from tests.performance.targets import bytes_per_aggregate, targets

PLOT = "latency.svg"


def write(folder: Path, report: dict[str, Any]) -> Path:
    """Write report.json, report.md and, if latencies were measured, the plot; return the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if paced := report["results"].get("paced"):
        (folder / PLOT).write_text(latency_plot(paced), "utf-8")
    page = folder / "report.md"
    page.write_text("\n".join(markdown(report)) + "\n", "utf-8")
    return page


def markdown(report: dict[str, Any]) -> Iterator[str]:
    """Return the lines of the report."""
    results = report["results"]
    yield f"# Benchmark of {report['at']}"
    yield ""
    yield report["what"]
    yield ""
    if report["problems"]:
        yield "**Wrong or failed runs; the figures below are not results:**"
        yield from (f"- {problem}" for problem in report["problems"])
    else:
        yield "Every run of a contestant that claims exactly-once went through the gate: each event and outcome once, no"
        yield "hole in any account's versions, every balance right."
    yield from _list("Not there", [f"{title}: {reason}" for title, reason in report["skipped"].items()])
    yield from _list("Observed at the contestants that are at least once", report["observed"])
    yield from _table(
        "What we want to reach",
        ["what", "wanted", "found", "reached"],
        [target.told() for target in targets(results)],
    )
    yield from _drain(results)
    yield from _paced(results)
    yield from _others(results)
    for title in ("hardware", "versions", "settings"):
        rows = [f"| {name} | {value} |" for name, value in report[title].items()]
        yield from _table(title.capitalize(), ["what", "value"], rows)


def _drain(results: dict[str, Any]) -> Iterator[str]:
    rows = [
        f"| {title} | {found['commands']:,} | {_spread(found['rate'])} | {_spread(found['warm'])} |"
        f" {_spread(found['cpu_us'], 1)} |"
        for title, found in results.get("drain", {}).items()
    ]
    head = ["contestant", "commands", "commands/s", "without the first fifth", "CPU µs per command"]
    yield from _table("Drain: median (minimum to maximum)", head, rows)
    if found := results.get("breakdown"):
        yield ""
        size = f"{found['commands_per_transaction']:,} commands a transaction"
        yield f"Our CPU µs per command by part, from source, {size}: "
        yield ", ".join(f"{part} {value}" for part, value in found["parts_us"].items()) + "."


def _paced(results: dict[str, Any]) -> Iterator[str]:
    rows = []
    for title, steps in results.get("paced", {}).items():
        for rate, step in steps.items():
            kept = [i for i, followed in enumerate(step["followed"]) if followed]
            told = (
                " | ".join(_spread([step[name][i] for i in kept], 1) for name in ("p50", "p95", "p99"))
                if kept
                else "falls behind | | "
            )
            rows.append(f"| {title} | {int(rate):,} | {told} | {len(kept)} of {len(step['followed'])} |")
    head = ["contestant", "commands/s", "p50 ms", "p95 ms", "p99 ms", "rounds it kept up"]
    yield from _table("Paced: from when a command is due to its event visible to read_committed", head, rows)
    if rows:
        yield ""
        yield f"![latency against rate]({PLOT})"


def _others(results: dict[str, Any]) -> Iterator[str]:
    rows = [
        f"| {title} | {found['commands']:,} | {_spread(found['standstill_s'], 1)} |"
        for title, found in results.get("kill", {}).items()
    ]
    head = ["contestant", "commands", "seconds until something new was visible"]
    yield from _table("Kill: SIGKILL twice while draining, started again at once", head, rows)
    rows = [
        f"| {title} | {found['events']:,} | {_spread(found['first_answer_s'], 1)} |"
        for title, found in results.get("recovery", {}).items()
    ]
    head = ["contestant", "events in the log", "seconds from process start to the first answer"]
    yield from _table("Recovery: on an empty disk", head, rows)
    rows = [
        f"| {way} | {_spread(found[way]['records'])} | {_spread(found[way]['took_s'], 2)} |"
        f" {_spread(found[way]['events_per_s'])} | {_spread(found[way]['events_per_core_s'])} |"
        for found in results.get("recovery", {}).values()
        for way in ("cold", "with snapshots")
        if way in found
    ]
    head = ["way", "records read", "seconds", "events of the log per second", "per second and core"]
    yield from _table("Our take-over of all shards, one after the other", head, rows)
    rows = [
        f"| {name} | {found['commands']:,} | {found['memory_mb']:,} | {found['files_mb']:,} | {found['mb_per_hour']:+,} |"
        f" {found['mb_per_million']:+,} | {found['backlog_growth']:+,.0f} |"
        for name, found in results.get("soak", {}).items()
    ]
    head = [
        "rate",
        "commands",
        "MB of its own at the end",
        "MB of files",
        "MB per hour",
        "MB per million commands",
        "backlog",
    ]
    yield from _table("Soak: how memory of its own and backlog grew in the second half", head, rows)
    yield from _runs(results.get("runs", {}))
    growth = results.get("growth", {})
    rows = [
        f"| {name} | {_spread(found['cpu_us'], 1)} | {_spread(found['warm'])} | {_spread(found['per_transaction'])} |"
        f" {_spread(found['memory_mb'])} |"
        for name, found in growth.items()
    ]
    head = ["variant", "CPU µs per command", "commands/s warm", "commands a transaction", "resident MB"]
    yield from _table("Growth", head, rows)
    if "plain" in growth and (each := bytes_per_aggregate(growth)):
        yield ""
        yield f"Memory per idle aggregate: {_spread(each)} bytes."


def _runs(runs: dict[str, Any]) -> Iterator[str]:
    rows = [
        f"| {title} | {_spread(found['runs_per_s'], 1)} | {_spread(found['chain_s'], 2)} |"
        f" {_spread(found.get('map_s', []), 2)} | {_spread(found.get('timer_late_p99_ms', []))} |"
        for title, found in runs.items()
    ]
    head = [
        "engine",
        "one-step runs/s",
        "s for 40 steps in a row",
        "s for a map of 1,000",
        "timers late, p99 ms",
    ]
    yield from _table(
        "Runs: steps do nothing; ours are claimed and ended over Kafka, Prefect's in the flow's process",
        head,
        rows,
    )
    rows = [
        f"| {_spread(found['sleeping'])} | {_spread(found['sleeping_made_per_s'])} | {_spread(found['sleeping_mb'])} |"
        f" {_spread(found['load_s'], 1)} | {_spread(found['restored_per_s'])} | {_spread(found['restore_s'], 1)} |"
        for found in runs.values()
        if "sleeping" in found
    ]
    head = ["sleeping runs", "made/s", "MB", "s to load after kill -9", "runs/s", "s from the start to ready"]
    yield from _table("Sleeping runs", head, rows)


def _list(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"{title}:", "", *(f"- {line}" for line in lines))


def _table(title: str, head: list[str], rows: list[str]) -> Iterator[str]:
    if rows:
        yield from ("", f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows)


def _spread(values: list[float], digits: int = 0) -> str:
    """Return median with minimum and maximum."""
    if not values:
        return "–"
    middle = f"{median(values):,.{digits}f}"
    return (
        middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
    )
