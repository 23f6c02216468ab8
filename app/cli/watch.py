"""A run, live: drawn anew on a terminal, one line per change in a pipe."""

import time
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

import click

from app.cli.dag import duration, step_lines
from app.cli.output import is_terminal, say, show_data, style_of
from app.cli.session import Session
from app.errors import EXIT_FAILED, EXIT_OK

FAILED = ("failed", "timed_out")
ENDED = ("succeeded", "failed", "cancelled", "timed_out", "compensated", "compensation_failed")
_POLL_S = 0.3
_DRAW_S = 0.1
_NAME_WIDTH_MAX = 36
_ERROR_LINES_MAX = 2


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
    console = Console()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for run in _polled(session, run_id):
            until = time.monotonic() + (0 if run["status"] in ENDED else _POLL_S)
            while True:
                live.update(picture(run, console.width), refresh=True)
                if time.monotonic() >= until:
                    break
                time.sleep(_DRAW_S)
    return run


def picture(run: Mapping[str, Any], width: int) -> Any:
    """Return the run as a rich text, at most ``width`` columns wide: one line per step, what it says cut where needed.

    Why a step failed is what is looked for: where it has no room beside the step, it has two lines below.
    """
    from rich.text import Text  # here: only a terminal needs it

    lines = step_lines(run, _now_ms())
    name_width = min(max((len(line[0]) for line in lines), default=0), _NAME_WIDTH_MAX, width * 7 // 20)
    text = Text.assemble(
        (str(run["pipeline"]), "bold"), "  ", (run["status"], style_of(run["status"])), f"  {_age(run)}\n"
    )
    text.append(f"run {run['id']}", "dim")
    for name, status, attempt, spent, said in lines:
        line = Text(f"{_cut(name, name_width):<{name_width}}  {status:<9}  ", style_of(status))
        line.append(f"{attempt:<3}{spent:>8}  ", "")
        below = status in FAILED and len(said) > width - len(line)
        line.append("" if below else _cut(said, max(width - len(line), 0)), "dim")
        line.rstrip()
        text.append("\n").append_text(line)
        if below:
            for part in wrap(said, width - 4, max_lines=_ERROR_LINES_MAX, placeholder="…"):
                text.append(f"\n    {part}", style_of(status))
    return text


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def _age(run: Mapping[str, Any]) -> str:
    begun = run.get("created_at")
    return duration((run.get("ended_at") or _now_ms()) - begun) if isinstance(begun, int) else ""


def _now_ms() -> int:
    return int(time.time() * 1000)
