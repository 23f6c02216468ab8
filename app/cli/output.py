"""How data leaves the command line: tables for people, TSV in a pipe, JSON, JSON lines, YAML or bare names."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import click

_FREE_TEXT = (
    "value",
    "meaning",
    "law",
    "detail",
    "error",
    "definition",
    "bookmark",
    "what",
    "why",
    "headers",
    "sample",
    "scenario",
)
_KEPT_WHOLE = (
    "id",
    "event_id",
    "command_id",
    "status",
    "created_at",
    "at",
    "name",
    "node",
    "field",
    "next_slot",
    "check",
    "virtual_time",
)
_WIDTH_MIN = 6
_YEAR_2001_MS = 978_307_200_000


def is_terminal() -> bool:
    """Return whether a person is looking at stdout."""
    return sys.stdout.isatty()


def show_list(
    output: str,
    items: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    wide: Sequence[str] = (),
    name: str = "name",
) -> None:
    """Print ``items``; ``columns`` are the fields of a table, ``wide`` the further ones of ``-o wide``."""
    rows = list(items)
    if output in ("json", "yaml"):
        show_data(output, rows)
    elif output == "jsonl":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif output == "name":
        for row in rows:
            click.echo(str(field_of(row, name)))
    else:
        shown = [*columns, *(wide if output == "wide" else ())]
        show_table(shown, [[text_of(field_of(row, column), column) for column in shown] for row in rows])


def show_one(output: str, item: Mapping[str, Any], fields: Sequence[str], name: str = "name") -> None:
    """Print one thing: ``fields`` line by line, or all of it in a data format."""
    if output in ("json", "yaml", "jsonl"):
        show_data(output, item)
    elif output == "name":
        click.echo(str(field_of(item, name)))
    else:
        rows = [
            [field, text_of(field_of(item, field), field)]
            for field in fields
            if field_of(item, field) is not None
        ]
        show_table(("field", "value"), rows)


def show_data(output: str, data: Any) -> None:
    """Print ``data`` whole, as JSON unless ``output`` is yaml or jsonl."""
    if output == "yaml":
        import yaml  # here: only this format needs it

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(data, ensure_ascii=False, indent=None if output == "jsonl" else 2))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, tab-separated with a header line in a pipe."""
    if not is_terminal():
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich.box import SIMPLE_HEAD  # here: rich takes longer to import than most verbs take to run
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    widths = fitting(columns, rows, console.width - 3 * len(columns))
    for column, width in zip(columns, widths, strict=True):
        overflow: Literal["fold", "ellipsis"] = "fold" if column in _FREE_TEXT else "ellipsis"
        table.add_column(
            column.replace("_", " "), no_wrap=overflow == "ellipsis", overflow=overflow, width=width
        )
    for row in rows:
        table.add_row(*(Text(cell, style=style_of(cell)) for cell in row))
    console.print(table)


def fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], available: int) -> list[int]:
    """Return column widths whose sum is at most ``available``, where that can be: the widest give way first.

    Ids, states and times give way last: an id that is cut cannot be copied.
    """
    widths = [max(len(column), *(len(row[place]) for row in rows), 1) for place, column in enumerate(columns)]
    for yielding in ([column not in _KEPT_WHOLE for column in columns], [True] * len(columns)):
        while sum(widths) > available:
            widest = max((width for width, may in zip(widths, yielding, strict=True) if may), default=0)
            if widest <= _WIDTH_MIN:
                break
            place = next(i for i, width in enumerate(widths) if width == widest and yielding[i])
            widths[place] -= 1
    return widths


def say(text: str) -> None:
    """Tell the person something that is not data (stderr)."""
    click.echo(text, err=True)


def field_of(item: Any, path: str) -> Any:
    """Return the field at a dotted path, or None."""
    for part in path.split("."):
        item = item.get(part) if isinstance(item, Mapping) else None
    return item


def text_of(value: Any, column: str = "") -> str:
    """Return a field as a table shows it: local times, short lists, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value > _YEAR_2001_MS and column.rpartition("_")[2] in ("at", "slot"):
        return local_time(value)
    if isinstance(value, str) and column.endswith("_at"):
        return local_time(value)
    if isinstance(value, list):
        return ", ".join(text_of(part) for part in value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def local_time(value: int | str) -> str:
    """Return milliseconds since the epoch, or an RFC 3339 time, in local time to the second."""
    try:
        moment = (
            datetime.fromtimestamp(value / 1000, UTC)
            if isinstance(value, int)
            else datetime.fromisoformat(value)
        )
    except (ValueError, OverflowError):
        return str(value)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def style_of(word: str) -> str:
    """Return the colour a status is shown in."""
    return {
        "succeeded": "green",
        "ok": "green",
        "accepted": "green",
        "ready": "green",
        "running": "cyan",
        "mapping": "cyan",
        "repeating": "cyan",
        "claimed": "cyan",
        "failed": "red",
        "timed_out": "red",
        "rejected": "red",
        "cancelled": "yellow",
        "paused": "yellow",
        "retrying": "yellow",
        "waiting": "yellow",
        "compensating": "yellow",
        "compensated": "yellow",
        "skipped": "dim",
        "never": "yellow",
        "pending": "dim",
    }.get(word, "")
