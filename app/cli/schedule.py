"""``flexcore schedule``: when pipelines start by themselves."""

from typing import Any

import click

from app.cli.output import show_list, show_one
from app.cli.session import Session, Verb, noun

schedule = noun("schedule", "When pipelines start by themselves.")
_FIELDS = (
    "pipeline", "status", "reason", "spec", "next_slot", "last_slot", "last_run", "fired", "skipped", "last_skip",
    "active_runs",
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


def _shown(session: Session, body: dict[str, Any]) -> None:
    show_one(session.output, body, _FIELDS, name="pipeline")
