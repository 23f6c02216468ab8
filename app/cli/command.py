"""``flexcore command``: send any command, ask for outcomes."""

import json
import re
from uuid import uuid4

import click

from app.cli.failure import Failed
from app.cli.output import show_one
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_USAGE

command = noun("command", "Send commands, ask for their outcomes.")
_FIELDS = (
    "command_id", "command_type", "aggregate", "aggregate_id", "status", "reason", "detail", "first_version",
    "last_version", "position", "actor", "at",
)  # fmt: skip


@command.command(
    "send", cls=Verb, example="flexcore command send pipeline PausePipeline --id copy --data '{}' --wait 5s"
)
@click.argument("aggregate")
@click.argument("type_", metavar="TYPE")
@click.option("--id", "aggregate_id", required=True, help="Which aggregate of that kind.")
@click.option("--data", default="{}", help="The command's fields.", metavar="JSON")
@click.option("--command-id", help="Its id; sending the same id again changes nothing.")
@click.option(
    "--expect-version", type=click.IntRange(0), help="Refuse it when the aggregate has another version."
)
@click.option("--wait", default="5s", help="How long to wait for the outcome; 0 does not.", metavar="TIME")
@click.pass_obj
def send(
    session: Session,
    aggregate: str,
    type_: str,
    aggregate_id: str,
    data: str,
    command_id: str | None,
    expect_version: int | None,
    wait: str,
) -> None:
    """Send a command and print its outcome."""
    try:
        body = {"aggregate": aggregate, "type": type_, "id": aggregate_id, "data": json.loads(data)}
    except ValueError as error:
        raise Failed(
            f"--data is not JSON: {error}", hint="quote it for the shell", exit_code=EXIT_USAGE
        ) from None
    wait_s = seconds(wait)
    headers = {"Idempotency-Key": command_id or str(uuid4())}
    if expect_version is not None:
        headers["If-Match"] = f'"{expect_version}"'
    answer = session.api.write("POST", "/v1/commands", body, headers=headers, wait_s=wait_s)
    show_one(session.output, answer.body, _FIELDS, name="command_id")


@command.command("get", cls=Verb, example="flexcore command get 0b0a…")
@click.argument("command_id")
@click.pass_obj
def get(session: Session, command_id: str) -> None:
    """Show what became of a command: accepted, rejected, failed or pending."""
    body = session.api.get(f"/v1/commands/{command_id}").body
    show_one(session.output, body, _FIELDS, name="command_id")


def seconds(text: str) -> float:
    """Return a time such as 500ms, 5s, 2m (a bare number is seconds) in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", text.strip())
    if not found:
        raise Failed(f"{text!r} is no time", hint="write it like 500ms, 5s or 2m", exit_code=EXIT_USAGE)
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[2] or "s"]
