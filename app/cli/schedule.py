"""``flexcore schedule``: when pipelines start by themselves."""

import time
from typing import Any

import click

from app.cli.failure import Failed
from app.cli.output import show_list, show_one
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_USAGE

schedule = noun("schedule", "When pipelines start by themselves.")
_SLOTS_MAX = 1_000
_POLL_S = 0.2
_FIELDS = (
    "pipeline", "status", "reason", "spec", "next_slot", "last_slot", "last_run", "fired", "skipped", "last_skip",
    "active_runs", "kept_slots",
)  # fmt: skip


@schedule.command("list", cls=Verb, example="flexcore schedule list")
@click.option("--limit", default=100, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, limit: int) -> None:
    """List schedules with their next slot."""
    items = session.api.items("/v1/schedules", {}, limit)
    columns = ("pipeline", "status", "next_slot", "fired", "skipped")
    show_list(session.output, items, columns, ("spec", "last_slot", "last_run"), name="pipeline")


@schedule.command("get", cls=Verb, example="flexcore schedule get copy")
@click.argument("pipeline")
@click.pass_obj
def get(session: Session, pipeline: str) -> None:
    """Show the schedule of a pipeline."""
    _shown(session, session.api.get(f"/v1/schedules/{pipeline}").body)


@schedule.command("trigger", cls=Verb, example="flexcore schedule trigger copy")
@click.argument("pipeline")
@click.pass_obj
def trigger(session: Session, pipeline: str) -> None:
    """Fire once, now."""
    _shown(session, session.api.write("POST", f"/v1/schedules/{pipeline}/trigger", {}).body)


@schedule.command("pause", cls=Verb, example="flexcore schedule pause copy --reason maintenance")
@click.argument("pipeline")
@click.option("--reason", help="Why; kept in the event.")
@click.pass_obj
def pause(session: Session, pipeline: str, reason: str | None) -> None:
    """Fire no more."""
    _shown(session, session.api.write("POST", f"/v1/schedules/{pipeline}/pause", {"reason": reason}).body)


@schedule.command("resume", cls=Verb, example="flexcore schedule resume copy")
@click.argument("pipeline")
@click.pass_obj
def resume(session: Session, pipeline: str) -> None:
    """Fire again, from the next slot after now."""
    _shown(session, session.api.write("POST", f"/v1/schedules/{pipeline}/resume", {}).body)


@schedule.command(
    "backfill",
    cls=Verb,
    example="flexcore schedule backfill copy --from 2026-11-01 --to 2026-11-08T00:00:00Z --max-parallel 2",
)
@click.argument("pipeline")
@click.option("--from", "begin", required=True, help="The first slot is at this time or after it (RFC 3339).")
@click.option("--to", "end", required=True, help="The last slot is before this time.")
@click.option(
    "--max-parallel",
    "most",
    type=click.IntRange(1),
    help="So many of these runs at once: wait for their ends [all].",
)
@click.option("--dry-run", is_flag=True, help="Only show the slots.")
@click.pass_obj
def backfill(session: Session, pipeline: str, begin: str, end: str, most: int | None, dry_run: bool) -> None:
    """Start a run for each slot of a time that has passed; a slot that has had its run gets no second one.

    When it is interrupted, the same line again goes on with what is left.
    """
    from streams.domain.identity import run_id, slot_key

    spec = session.api.get(f"/v1/schedules/{pipeline}").body["spec"]
    if not dry_run:
        _starts(session, pipeline)
    rows: list[dict[str, Any]] = []
    at_work: list[str] = []
    for slot in _slots(spec, _moment("--from", begin), _moment("--to", end)):
        run = run_id(session.api.tenant, pipeline, slot_key(slot))
        rows.append({"slot": slot, "run": run, "result": "would be started"})
        if dry_run:
            continue
        while most is not None and len(at_work) >= most:
            time.sleep(_POLL_S)
            at_work = [each for each in at_work if not _ended(session, pipeline, each)]
        at_work.append(run)
        data = {"run_id": run, "key": slot_key(slot), "trigger": "schedule", "slot": slot}
        body = {"aggregate": "pipeline", "id": pipeline, "type": "StartRun", "data": data}
        outcome = session.api.write("POST", "/v1/commands", body).body
        rows[-1]["result"] = "started" if outcome["first_version"] else "had its run"
    show_list(session.output, rows, ("slot", "run", "result"), name="run")


def _slots(spec: dict[str, Any], begin: int, end: int) -> list[int]:
    from streams.cron import next_slot

    found: list[int] = []
    slot = next_slot(spec, begin - 1)
    while slot < end:
        found.append(slot)
        if len(found) > _SLOTS_MAX:
            raise Failed(
                f"there are more than {_SLOTS_MAX} slots", hint="choose a shorter time", exit_code=EXIT_USAGE
            )
        slot = next_slot(spec, slot)
    return found


def _starts(session: Session, pipeline: str) -> None:
    """Fail unless the pipeline starts runs: a slot's start is accepted in any case, and refused by an event."""
    status = session.api.get(f"/v1/pipelines/{pipeline}").body["status"]
    if status != "active":
        hint = f"flexcore pipeline resume {pipeline}, then the same line again" if status == "paused" else ""
        raise Failed(f"pipeline {pipeline} is {status}", hint=hint, exit_code=EXIT_CONFLICT)


def _ended(session: Session, pipeline: str, run: str) -> bool:
    from streams.domain.run.state import RUN_ENDED

    try:
        return session.api.get(f"/v1/runs/{run}").body["status"] in RUN_ENDED
    except Failed as error:
        if error.exit_code != EXIT_NOT_FOUND:
            raise
        _starts(session, pipeline)
        return False  # its creation follows


def _moment(option: str, text: str) -> int:
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Failed(
            f"{option} is {text!r}, which is no time",
            hint="2026-11-24 or 2026-11-24T06:00:00Z",
            exit_code=EXIT_USAGE,
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def _shown(session: Session, body: dict[str, Any]) -> None:
    show_one(session.output, body, _FIELDS, name="pipeline")
