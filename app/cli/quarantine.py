"""``flexcore quarantine``: records nobody could handle; look, and send them again."""

import click

from app.cli.failure import Failed
from app.cli.output import show_list, show_one
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_USAGE

quarantine = noun("quarantine", "Records nobody could handle; look, and send them again.")
_FIELDS = (
    "id", "aggregate", "status", "cause", "detail", "original_key", "command_id", "size", "at", "node", "headers",
    "sample", "redriven_by", "redrive_command_id", "redriven_at",
)  # fmt: skip


@quarantine.command("list", cls=Verb, example="flexcore quarantine list --cause undecodable")
@click.option("--cause", help="Only of this cause.")
@click.option("--limit", default=50, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, cause: str | None, limit: int) -> None:
    """List quarantined records, the newest first."""
    items = session.api.items("/v1/quarantine", {"cause": cause}, limit)
    show_list(
        session.output, items, ("id", "status", "cause", "detail", "at"), ("command_id", "node"), name="id"
    )


@quarantine.command("show", cls=Verb, example="flexcore quarantine show run.commands/3/1042")
@click.argument("record", metavar="TOPIC/PARTITION/OFFSET")
@click.pass_obj
def show(session: Session, record: str) -> None:
    """Show one record: its cause, its headers, the beginning of its bytes."""
    path = _path(record)
    show_one(session.output, session.api.get(path).body, _FIELDS, name="id")


@quarantine.command("redrive", cls=Verb, example="flexcore quarantine redrive run.commands/3/1042")
@click.argument("record", metavar="TOPIC/PARTITION/OFFSET")
@click.pass_obj
def redrive(session: Session, record: str) -> None:
    """Send the record again, under a new command id whose cause is the old one."""
    path = f"{_path(record)}/redrive"
    body = session.api.call("POST", path, {}, timeout_s=session.timeout_s + 15).body
    show_one(
        session.output, body, ("command_id", "causation_id", "aggregate", "aggregate_id"), name="command_id"
    )


def _path(record: str) -> str:
    parts = record.rsplit("/", 2)
    if len(parts) != 3 or not all(parts):
        raise Failed(
            f"{record!r} is no quarantined record", hint="flexcore quarantine list", exit_code=EXIT_USAGE
        )
    return f"/v1/quarantine/{'/'.join(parts)}"
