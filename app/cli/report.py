"""The report of a run on a terminal."""

from collections.abc import Mapping
from typing import Any

import click

from app.cli.dag import duration
from app.cli.output import local_time, show_table, style_of

_COLUMNS = ("step", "status", "attempts", "in", "out", "rejected", "work")


def show_report(told: Mapping[str, Any]) -> None:
    """Print what ``GET /v1/runs/{id}/report`` answers."""
    status = click.style(told["status"], fg=style_of(told["status"]) or None)
    click.echo(f"{told['pipeline']}: {status}  (run {told['id']})")
    for line in lines(told):
        click.echo(f"  {line}")
    click.echo()
    show_table(_COLUMNS, [row(step) for step in told["steps"]])
    for trouble in told["troubles"]:
        where = f"{trouble['step']} attempt {trouble['attempt']} {trouble['what']}"
        click.echo(
            f"  {local_time(trouble['at'])}  {where}" + (f": {trouble['error']}" if trouble["error"] else "")
        )


def lines(told: Mapping[str, Any]) -> list[str]:
    """Return what is to be said of the whole run."""
    began = f"started by {told['started_by'] or '?'} ({told['trigger']}), {local_time(told['created_at'])}"
    if told["slot"] is not None:
        began += f", for the slot {local_time(told['slot'])}"
    found = [began]
    if told["took_ms"] is not None:
        took = f"took {duration(told['took_ms'])}; all attempts together worked {duration(told['worked_ms'])}"
        late = "" if told["late_ms"] is None else f"; there {duration(told['late_ms'])} after its slot"
        found.append(took + late)
    found.append(f"read {told['read']:,} · written {told['written']:,} · rejected {told['rejected']:,}")
    if told["error"]:
        found.append(told["error"])
    return found


def row(step: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a step's row of the table."""
    counts = (f"{step[name]:,}" for name in ("attempts", "records_in", "records_out", "records_rejected"))
    status = f"{step['status']} (reused)" if step["reused"] else step["status"]
    return (step["name"], status, *counts, duration(step["worked_ms"]) if step["worked_ms"] else "")
