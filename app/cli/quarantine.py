"""``flexcore quarantine``: records nobody could handle; look, mend, send again, or drop."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from app.cli.failure import Failed
from app.cli.many import EVERYTHING, moment, paced, per_second
from app.cli.output import is_terminal, say, show_list, show_one
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_CONFLICT, EXIT_OK, EXIT_USAGE

quarantine = noun("quarantine", "Records nobody could handle; look, mend, send again, or drop.")
_FIELDS = (
    "id", "aggregate", "status", "cause", "detail", "fingerprint", "attempts", "failed_alike", "original_key",
    "command_id", "size", "at", "node", "headers", "command.type", "command.data", "sample", "redrives", "redriven_by",
    "redrive_command_id", "redriven_at", "edited", "dropped_by", "dropped_at", "drop_reason", "parked", "behind",
)  # fmt: skip
_PLACE = "TOPIC/PARTITION/OFFSET"
_FILTERS = (
    click.option("--cause", help="Only of this cause."),
    click.option("--aggregate", help="Only of this kind (run), or of one aggregate (run/ID)."),
    click.option("--fingerprint", help="Only those that failed at this place in the code."),
    click.option("--since", help="Only from this time on, or not older than 30m, 2h, 7d."),
)
Row = dict[str, Any]


def filtered(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that choose records."""
    for option in reversed(_FILTERS):
        verb = option(verb)
    return verb


@quarantine.command("list", cls=Verb, example="flexcore quarantine list --cause handler_error --since 2h")
@filtered
@click.option("--status", help="Only of this status.", type=click.Choice(["open", "redriven", "dropped"]))
@click.option("--limit", default=50, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, /, status: str | None, limit: int, **filters: str | None) -> None:
    """List quarantined records, the newest first."""
    items = session.api.items("/v1/quarantine", {**_query(filters), "status": status}, limit)
    columns = ("id", "status", "cause", "attempts", "behind", "detail", "at")
    show_list(session.output, items, columns, ("fingerprint", "command_id", "original_key", "node"), "id")


@quarantine.command("show", cls=Verb, example="flexcore quarantine show run.commands/3/1042")
@click.argument("record", metavar=_PLACE)
@click.pass_obj
def show(session: Session, record: str) -> None:
    """Show one record: its cause, its headers, the command in it, the beginning of its bytes."""
    path = _path(record)
    show_one(session.output, session.api.get(path).body, _FIELDS, name="id")


@quarantine.command(
    "edit", cls=Verb,
    example="""flexcore quarantine edit run.commands/3/1042 --data '{"reason": "moved"}'""",
)  # fmt: skip
@click.argument("record", metavar=_PLACE)
@click.option("--data", help="All fields of the command.", metavar="JSON")
@click.option("-f", "--file", "name", help="The same from a file; - is stdin.", metavar="FILE")
@click.option("--type", "type_", help="Which command it is, where it is another or cannot be told.")
@click.pass_obj
def edit(session: Session, record: str, data: str | None, name: str | None, type_: str | None) -> None:
    """Send one record again with another body; it is checked first, and nothing is sent that would fail again."""
    path = f"{_path(record)}/edit"
    if (data is None) == (name is None):
        raise Failed("the new body is not given", hint="--data JSON, or -f FILE", exit_code=EXIT_USAGE)
    body = {"data": _json(data if data is not None else _text(name or "-")), "type": type_}
    _show_sent(session, session.api.call("POST", path, body, timeout_s=_patience(session)))


@quarantine.command(
    "redrive", cls=Verb,
    example="flexcore quarantine redrive run.commands/3/1042\n"
    "flexcore quarantine redrive --fingerprint 5b1c09 --since 2h --dry-run\n"
    "flexcore quarantine redrive --all --rate 20/s",
)  # fmt: skip
@click.argument("records", nargs=-1, metavar=f"[{_PLACE}]...")
@filtered
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--dry-run", is_flag=True, help="Only show what would go, and what would not.")
@click.option("--force", is_flag=True, help="Also those that keep failing alike.")
@click.option("--rate", default="100/s", help="At most so many in a second or minute.", metavar="N/s")
@click.pass_obj
def redrive(
    session: Session,
    /,
    records: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    force: bool,
    rate: str,
    **filters: str | None,
) -> int:
    """Send records again, the oldest first, each under a new command id whose cause is the old one.

    What waits behind a record of the same aggregate goes by itself, in order, once that one is through.
    """
    if len(records) == 1 and not dry_run and not everything and not any(filters.values()):
        path = f"{_path(records[0])}/redrive"
        _show_sent(session, session.api.call("POST", path, {}, timeout_s=_patience(session)))
        return EXIT_OK
    chosen = _choose(session, records, everything, filters)
    follow = [name for name, row in chosen.items() if row.get("parked") == "behind"]
    if follow:
        say(f"{len(follow):,} wait behind others of their aggregate, and go by themselves after those")
    chosen = {name: row for name, row in chosen.items() if name not in set(follow)}
    return _do(session, chosen, "redrive", {"force": force, "dry_run": dry_run}, per_second(rate))


@quarantine.command(
    "drop", cls=Verb,
    example="flexcore quarantine drop run.commands/3/1042 --reason 'sent by a test'\n"
    "flexcore quarantine drop --cause undecodable --since 7d --reason 'old client, switched off' --dry-run",
)  # fmt: skip
@click.argument("records", nargs=-1, metavar=f"[{_PLACE}]...")
@filtered
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--reason", required=True, help="Why; kept with the record, as is who did it.")
@click.option("--dry-run", is_flag=True, help="Only show what would be dropped.")
@click.pass_obj
def drop(
    session: Session,
    /,
    records: tuple[str, ...],
    everything: bool,
    reason: str,
    dry_run: bool,
    **filters: str | None,
) -> int:
    """Note that nobody will send these records again; their bytes stay until their time is over."""
    chosen = _choose(session, records, everything, filters)
    # Those that wait first: else those they wait for would let them go.
    chosen = dict(sorted(chosen.items(), key=lambda item: item[1].get("parked") != "behind"))
    return _do(session, chosen, "drop", {"reason": reason, "dry_run": dry_run}, None)


def _choose(
    session: Session, records: Sequence[str], everything: bool, filters: Mapping[str, str | None]
) -> dict[str, Row]:
    """Return the records meant, by id, the oldest first: named, or all that wait and pass the filters."""
    chosen = any(value is not None for value in filters.values())
    if sum((bool(records), everything or chosen)) != 1:
        text = (
            "say which records: name them, or choose with --cause, --aggregate, --fingerprint, --since, --all"
        )
        raise Failed(text, hint="flexcore quarantine list --status open", exit_code=EXIT_USAGE)
    for record in records:
        _path(record)
    if records:
        return {record: {"id": record} for record in records}
    query = {**_query(filters), "status": "open"}
    rows = session.api.items("/v1/quarantine", query, EVERYTHING)
    return {row["id"]: row for row in reversed(rows)}


def _do(
    session: Session, chosen: Mapping[str, Row], deed: str, body: Mapping[str, Any], pace: float | None
) -> int:
    """Do it a page at a time, at the pace that was asked for, and show what was done and what was not."""
    rows: list[Row] = []
    for page in paced([*chosen], None if body["dry_run"] else pace):
        request = {**body, "records": page}
        path = f"/v1/quarantine/{deed}"
        answer = session.api.call("POST", path, request, timeout_s=_patience(session)).body
        rows += [{**chosen[item["id"]], **item} for item in answer["items"]]
        if is_terminal() and len(rows) < len(chosen):
            say(f"{len(rows):,} of {len(chosen):,}")
    columns = ("id", "done", "why_not", "cause", "attempts", "command_id")
    show_list(session.output, rows, columns, ("detail", "fingerprint", "at"), "id")
    done = sum(row["why_not"] is None for row in rows)
    verb = {"redrive": "sent", "drop": "dropped"}[deed]
    say(f"{done:,} {'would be ' if body['dry_run'] else ''}{verb}, {len(rows) - done:,} not")
    return EXIT_OK if body["dry_run"] or done == len(rows) else EXIT_CONFLICT


def _show_sent(session: Session, answer: Any) -> None:
    fields = ("command_id", "causation_id", "aggregate", "aggregate_id")
    show_one(session.output, answer.body, fields, name="command_id")
    say(f"what becomes of it: flexcore command get {answer.body['command_id']}")


def _query(filters: Mapping[str, str | None]) -> dict[str, Any]:
    return {**filters, "since": moment(filters.get("since"))}


def _text(name: str) -> str:
    try:
        if name == "-":
            return click.get_text_stream("stdin").read()
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{name} cannot be read: {error}", exit_code=EXIT_USAGE) from None


def _json(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        hint = "quote it for the shell, or use -f FILE"
        raise Failed(f"the new body is not JSON: {error}", hint=hint, exit_code=EXIT_USAGE) from None
    if not isinstance(data, dict):
        raise Failed("the new body is no JSON object", hint='{"field": …}', exit_code=EXIT_USAGE)
    return data


def _patience(session: Session) -> float:
    return session.timeout_s + 15


def _path(record: str) -> str:
    if not re.fullmatch(r".+/\d+/\d+", record):
        raise Failed(
            f"{record!r} is no quarantined record", hint="flexcore quarantine list", exit_code=EXIT_USAGE
        )
    return f"/v1/quarantine/{record}"
