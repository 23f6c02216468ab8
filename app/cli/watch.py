"""A run, live: drawn anew on a terminal, one line per change in a pipe."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from app.cli.dag import duration, step_lines
from app.cli.output import is_terminal, say, show_data, style_of
from app.cli.session import Session
from app.errors import EXIT_FAILED, EXIT_OK

ENDED = ("succeeded", "failed", "cancelled", "timed_out", "compensated", "compensation_failed")
_POLL_S = 0.3
_DRAW_S = 0.1


def watch_run(session: Session, run_id: str) -> int:
    """Follow the run until it has ended; return 0 when it succeeded, 1 when it did not. Ctrl-C leaves it running."""
    last: Mapping[str, Any] = {}
    if session.output in ("json", "jsonl", "yaml"):
        for last in _polled(session, run_id):  # noqa: B007 - only the last one is printed
            pass
        show_data(session.output, last)
    elif is_terminal():
        last = _draw(session, run_id)
    else:
        last = _print(session, run_id)
    if last["status"] != "succeeded" and last.get("error"):
        say(f"error: {last['error']}")
    return EXIT_OK if last["status"] == "succeeded" else EXIT_FAILED


def _polled(session: Session, run_id: str) -> Iterator[Mapping[str, Any]]:
    while True:
        run = session.api.get(f"/v1/runs/{run_id}").body
        yield run
        if run["status"] in ENDED:
            return
        time.sleep(_POLL_S)


def _print(session: Session, run_id: str) -> Mapping[str, Any]:
    """Print each change as a line of its own: step, status, attempt, time, what there is to say."""
    seen: dict[str, tuple[str, str]] = {}
    run: Mapping[str, Any] = {}
    status = ""
    for run in _polled(session, run_id):
        for line in step_lines(run, _now_ms()):
            name = line[0][2:].strip()
            if seen.get(name) != (line[1], line[2]) and line[1] != "pending":
                click.echo("\t".join((name, *line[1:])).rstrip())
            seen[name] = (line[1], line[2])
        if run["status"] != status and run["status"] not in ENDED:
            click.echo(f"run\t{run['status']}")
        status = run["status"]
    click.echo(f"run\t{status}\t\t{_age(run)}")
    return run


def _draw(session: Session, run_id: str) -> Mapping[str, Any]:
    """Draw the run over itself until it has ended; what is left on the screen is its last state."""
    from rich.console import Console  # here: only a terminal needs it
    from rich.live import Live

    run: Mapping[str, Any] = {}
    with Live(console=Console(), auto_refresh=False, transient=False) as live:
        for run in _polled(session, run_id):
            until = time.monotonic() + (0 if run["status"] in ENDED else _POLL_S)
            while True:
                live.update(_picture(run), refresh=True)
                if time.monotonic() >= until:
                    break
                time.sleep(_DRAW_S)
    return run


def _picture(run: Mapping[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text.assemble(
        (str(run["pipeline"]), "bold"),
        f"  {run['id']}  ",
        (run["status"], style_of(run["status"])),
        f"  {_age(run)}",
    )
    table = Table.grid(padding=(0, 2))
    # On 80 columns the names keep their width and what there is to say is cut, never the other way round.
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, width=9)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for name, status, attempt, spent, said in step_lines(run, _now_ms()):
        style = style_of(status)
        table.add_row(Text(name, style), Text(status, style), attempt, spent, Text(said, "dim"))
    return Group(head, table)


def _age(run: Mapping[str, Any]) -> str:
    begun = run.get("created_at")
    return duration((run.get("ended_at") or _now_ms()) - begun) if isinstance(begun, int) else ""


def _now_ms() -> int:
    return int(time.time() * 1000)
