"""``flexcore alert``: what failed, went quiet or is unusual, and who looks after it."""

from typing import Any

import click

from app.cli.output import show_list, show_one
from app.cli.session import Session, Verb, noun

alert = noun("alert", "What failed, went quiet or is unusual, and who looks after it.")
_FIELDS = ("pipeline", "rules", "unresolved", "last_run", "last_status", "usual", "incidents")


@alert.command("list", cls=Verb, example="flexcore alert list --unresolved")
@click.option("--unresolved", is_flag=True, help="Only pipelines with something to look after.")
@click.option("--limit", default=100, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, unresolved: bool, limit: int) -> None:
    """List pipelines with alerts, and how many incidents of each are not resolved."""
    items = session.api.items("/v1/alerts", {"status": "unresolved"} if unresolved else {}, limit)
    columns = ("pipeline", "unresolved", "last_status", "last_run")
    show_list(session.output, items, columns, ("rules",), name="pipeline")


@alert.command("get", cls=Verb, example="flexcore alert get copy")
@click.argument("pipeline")
@click.pass_obj
def get(session: Session, pipeline: str) -> None:
    """Show the rules of a pipeline, what is usual for it, and its latest incidents, the newest first."""
    _shown(session, session.api.get(f"/v1/alerts/{pipeline}").body)


@alert.command("acknowledge", cls=Verb, example="flexcore alert acknowledge copy failed-1764000000000-1")
@click.argument("pipeline")
@click.argument("incident")
@click.option("--note", help="What you know; kept in the event.")
@click.pass_obj
def acknowledge(session: Session, pipeline: str, incident: str, note: str | None) -> None:
    """Say that you look after an incident."""
    _change(session, pipeline, incident, "acknowledge", note)


@alert.command("resolve", cls=Verb, example="flexcore alert resolve copy failed-1764000000000-1")
@click.argument("pipeline")
@click.argument("incident")
@click.option("--note", help="How it ended; kept in the event.")
@click.pass_obj
def resolve(session: Session, pipeline: str, incident: str, note: str | None) -> None:
    """Say that an incident is over. A run that succeeds says so by itself."""
    _change(session, pipeline, incident, "resolve", note)


def _change(session: Session, pipeline: str, incident: str, verb: str, note: str | None) -> None:
    path = f"/v1/alerts/{pipeline}/incidents/{incident}/{verb}"
    _shown(session, session.api.write("POST", path, {"note": note}).body)


def _shown(session: Session, body: dict[str, Any]) -> None:
    show_one(session.output, body, _FIELDS, name="pipeline")
