"""``flexcore run``: start, watch and repair executions of pipelines."""

import json
from pathlib import Path
from typing import Any

import click

from app.cli.failure import Failed
from app.cli.many import moment
from app.cli.output import is_terminal, say, show_data, show_list, show_one
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_USAGE
from schemas.topics import LANES

run = noun("run", "Start, watch and repair executions of pipelines.")
_FIELDS = (
    "id", "pipeline", "status", "error", "reason", "trigger", "start_key", "priority", "created_at", "started_at", "ended_at", "rerun_of", "parent", "waiting_for", "slot",
)  # fmt: skip
_STEP_COLUMNS = (
    "name",
    "kind",
    "status",
    "attempt",
    "records_in",
    "records_out",
    "records_rejected",
    "percent",
    "progress",
    "error",
    "waits_for",
)


@run.command("start", cls=Verb, example='flexcore run start copy --input \'{"day": "2026-11-24"}\' --watch')
@click.argument("pipeline")
@click.option(
    "--input", "input_", default="{}", help="A JSON object that every step is given.", metavar="JSON"
)
@click.option("--full-refresh", is_flag=True, help="Read everything again, in a new generation.")
@click.option("--key", help="The same key starts the same run only once.")
@click.option(
    "--priority", type=click.Choice(LANES), help="Whose steps go first; what the file says unless told."
)
@click.option("--watch", is_flag=True, help="Stay until the run has ended.")
@click.pass_obj
def start(
    session: Session,
    pipeline: str,
    input_: str,
    full_refresh: bool,
    key: str | None,
    priority: str | None,
    watch: bool,
) -> int:
    """Start a run of the pipeline's current version."""
    body: dict[str, Any] = {"input": _object(input_, "--input"), "full_refresh": full_refresh}
    if key:
        body["key"] = key
    if priority:
        body["priority"] = priority
    started = session.api.write("POST", f"/v1/pipelines/{pipeline}/runs", body).body
    return _shown(session, started, watch)


@run.command("list", cls=Verb, example="flexcore run list --pipeline copy --status failed")
@click.option("--pipeline", help="Only of this pipeline.")
@click.option("--status", help="Only in this status.")
@click.option("--since", help="Only from this time on, or not older than 30m, 2h, 7d.")
@click.option("--limit", default=50, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, pipeline: str | None, status: str | None, since: str | None, limit: int) -> None:
    """List runs, the newest first."""
    query = {"pipeline": pipeline, "status": status, "since": moment(since)}
    items = session.api.items("/v1/runs", query, limit)
    wide = ("started_at", "ended_at", "trigger", "rerun_of", "error")
    show_list(session.output, items, ("id", "pipeline", "status", "created_at"), wide, name="id")


@run.command("get", cls=Verb, example="flexcore run get 5e0f… -o json")
@click.argument("run_id")
@click.pass_obj
def get(session: Session, run_id: str) -> None:
    """Show one run with its steps."""
    _show_run(session, session.api.get(f"/v1/runs/{run_id}").body)


@run.command("watch", cls=Verb, example="flexcore run watch 5e0f…")
@click.argument("run_id")
@click.pass_obj
def watch(session: Session, run_id: str) -> int:
    """Show the steps live until the run has ended; exits 0 when it succeeded, 1 when it did not."""
    from app.cli.watch import watch_run

    return watch_run(session, run_id)


@run.command("cancel", cls=Verb, example="flexcore run cancel 5e0f… --reason 'wrong file'")
@click.argument("run_id")
@click.option("--reason", help="Why; kept in the event.")
@click.option("--now", is_flag=True, help="Do not do the finally steps either.")
@click.pass_obj
def cancel(session: Session, run_id: str, reason: str | None, now: bool) -> None:
    """Stop the run and every program it executes, then do its finally steps."""
    body = {"reason": reason, "now": now}
    _show_run(session, session.api.write("POST", f"/v1/runs/{run_id}/cancel", body).body)


@run.command("pause", cls=Verb, example="flexcore run pause 5e0f…")
@click.argument("run_id")
@click.option("--reason", help="Why; kept in the event.")
@click.pass_obj
def pause(session: Session, run_id: str, reason: str | None) -> None:
    """Offer no further steps; what is executed now goes on."""
    _show_run(session, session.api.write("POST", f"/v1/runs/{run_id}/pause", {"reason": reason}).body)


@run.command("resume", cls=Verb, example="flexcore run resume 5e0f…")
@click.argument("run_id")
@click.pass_obj
def resume(session: Session, run_id: str) -> None:
    """Offer steps again."""
    _show_run(session, session.api.write("POST", f"/v1/runs/{run_id}/resume", {}).body)


@run.command(
    "rerun", cls=Verb,
    example="flexcore run rerun 5e0f… --from update-directory --watch\n"
    "flexcore run rerun --pipeline copy --status failed --since 24h --from-failed --dry-run",
)  # fmt: skip
@click.argument("run_id", required=False)
@click.option("--pipeline", help="Only of this pipeline.")
@click.option("--status", help="Only in this status.")
@click.option("--since", help="Only from this time on, or not older than 30m, 2h, 7d.")
@click.option("--from", "from_step", help="Keep the results of the steps before this one.", metavar="STEP")
@click.option("--from-failed", is_flag=True, help="Of many: each from its first step that failed.")
@click.option("--dry-run", is_flag=True, help="Of many: only show what would go, and what would not.")
@click.option("--rate", default="20/s", help="Of many: at most so many in a second or minute.", metavar="N/s")
@click.option("--watch", is_flag=True, help="Of one: stay until the new run has ended.")
@click.pass_obj
def rerun(session: Session, /, **options: Any) -> int:
    """Make a new run of an ended one, whole or from a step; or of all that pass the filters, the oldest first, each once."""
    from app.cli.reruns import FILTERS, rerun_many

    run_id = options["run_id"]
    if run_id is None or any(options[name] for name in (*FILTERS, "from_failed", "dry_run")):
        return rerun_many(session, options)
    again = session.api.write("POST", f"/v1/runs/{run_id}/rerun", {"from": options["from_step"]}).body
    return _shown(session, again, options["watch"])


@run.command(
    "signal",
    cls=Verb,
    example="flexcore run signal 5e0f… invoice-paid --payload '{\"amount\": 12}' --key evt-7",
)
@click.argument("run_id")
@click.argument("name")
@click.option(
    "--payload", default="{}", help="A JSON object: the output of the step that waits.", metavar="JSON"
)
@click.option("--key", help="The same key tells it only once.")
@click.pass_obj
def signal(session: Session, run_id: str, name: str, payload: str, key: str | None) -> None:
    """Tell a run that something has happened which a step waits for; what comes early is kept for it."""
    body = {"name": name, "payload": _object(payload, "--payload")}
    headers = {"Idempotency-Key": key} if key else {}
    told = session.api.write("POST", f"/v1/runs/{run_id}/signal", body, headers=headers)
    _show_run(session, told.body)


@run.command("approve", cls=Verb, example="flexcore run approve 5e0f… sign-off --note 'figures checked'")
@click.argument("run_id")
@click.argument("step")
@click.option("--note", help="Why; kept in the event.")
@click.pass_obj
def approve(session: Session, run_id: str, step: str, note: str | None) -> None:
    """Let a run go on past a step that asks for approval."""
    _tell_step(session, run_id, step, "approve", {"note": note})


@run.command("reject", cls=Verb, example="flexcore run reject 5e0f… sign-off --note 'wrong month'")
@click.argument("run_id")
@click.argument("step")
@click.option("--note", help="Why; kept in the event.")
@click.pass_obj
def reject(session: Session, run_id: str, step: str, note: str | None) -> None:
    """Refuse what a step asks approval for: the step fails, and what comes after it is skipped."""
    _tell_step(session, run_id, step, "reject", {"note": note})


@run.command(
    "skip", cls=Verb, example="flexcore run skip 5e0f… rebuild-marts --reason 'the warehouse is away'"
)
@click.argument("run_id")
@click.argument("step")
@click.option("--reason", help="Why; kept in the event.")
@click.pass_obj
def skip(session: Session, run_id: str, step: str, reason: str | None) -> None:
    """Leave a step out that has not ended; the run goes on as if it were done, and its program is stopped."""
    _tell_step(session, run_id, step, "skip", {"reason": reason})


@run.command("logs", cls=Verb, example="flexcore run logs 5e0f… extract-customers --grep timeout")
@click.argument("run_id")
@click.argument("step", required=False)
@click.option("--grep", help="Only lines with this text, in capitals or not.", metavar="TEXT")
@click.option("--limit", default=1000, help="At most so many lines.", type=click.IntRange(1))
@click.pass_obj
def logs(session: Session, run_id: str, step: str | None, grep: str | None, limit: int) -> None:
    """Show what the programs of a run printed."""
    items = session.api.items(f"/v1/runs/{run_id}/logs", {"step": step, "contains": grep}, limit)
    if session.output == "table":
        for item in items:
            click.echo(f"{item.get('step', '')}\t{item.get('line', '')}")
    else:
        show_list(session.output, items, ("at", "step", "attempt", "line"), name="line")


@run.command("report", cls=Verb, example="flexcore run report 5e0f… --html report.html")
@click.argument("run_id")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page to be kept or mailed."
)
@click.pass_obj
def report(session: Session, run_id: str, html: Path | None) -> None:
    """Tell what a run moved, what it cost and what went wrong on the way."""
    from app.cli.report import show_report

    if html is not None:
        html.write_text(session.api.get(f"/v1/runs/{run_id}/report.html").body, encoding="utf-8")
        say(f"written: {html}")
        return
    told = session.api.get(f"/v1/runs/{run_id}/report").body
    if session.output == "table":
        show_report(told)
    else:
        show_data(session.output, told)


@run.command("lineage", cls=Verb, example="flexcore run lineage 5e0f… -o json")
@click.argument("run_id")
@click.pass_obj
def lineage(session: Session, run_id: str) -> None:
    """Tell what a run read and wrote; as JSON, with the OpenLineage events that are sent."""
    told = session.api.get(f"/v1/runs/{run_id}/lineage").body
    if session.output in ("json", "yaml"):
        show_data(session.output, told)
        return
    rows = [{**one, "dataset": f"{one['namespace']}/{one['name'].lstrip('/')}"} for one in told["datasets"]]
    show_list(session.output, rows, ("dataset", "written_by", "read_by"), ("columns",), name="dataset")


@run.command("trace", cls=Verb, example="flexcore run trace 5e0f…")
@click.argument("run_id")
@click.pass_obj
def trace(session: Session, run_id: str) -> None:
    """Tell who did what, when and why, from the event log: the run's events and all that belongs to them."""
    from app.cli.trace import show_trace

    show_trace(session, run_id)


def _tell_step(session: Session, run_id: str, step: str, what: str, body: dict[str, Any]) -> None:
    _show_run(session, session.api.write("POST", f"/v1/runs/{run_id}/steps/{step}/{what}", body).body)


def _shown(session: Session, found: dict[str, Any], watch: bool) -> int:
    if not watch:
        _show_run(session, found)
        return 0
    from app.cli.watch import watch_run

    return watch_run(session, found["id"])


def _show_run(session: Session, found: dict[str, Any]) -> None:
    if session.output in ("json", "jsonl", "yaml"):
        show_data(session.output, found)
    elif session.output == "name":
        click.echo(found["id"])
    elif session.output == "table" and is_terminal():
        from rich.console import Console

        from app.cli.watch import picture

        console = Console(highlight=False)
        console.print(picture(found, console.width), soft_wrap=True)
        show_one(session.output, found, _FIELDS[3:], name="id")
    else:
        show_one(session.output, found, _FIELDS, name="id")
        show_list(
            session.output, found["steps"], _STEP_COLUMNS, ("runner", "started_at", "ended_at", "bytes")
        )


def _object(text: str, option: str) -> dict[str, Any]:
    hint = f"{option} '{{\"day\": 1}}'"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Failed(f"{option} is not JSON: {error}", hint=hint, exit_code=EXIT_USAGE) from None
    if not isinstance(value, dict):
        raise Failed(f"{option} must be a JSON object", hint=hint, exit_code=EXIT_USAGE)
    return value
