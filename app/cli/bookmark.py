"""``flexcore bookmark``: how far each step has read its source."""

import json
from typing import Any

import click

from app.cli.failure import Failed
from app.cli.output import show_list, show_one
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_USAGE

bookmark = noun("bookmark", "How far each step has read its source.")
_FIELDS = (
    "pipeline", "step", "bookmark", "generation", "records", "rejected", "holder_run", "holder_attempt", "updated_at",
)  # fmt: skip


@bookmark.command("list", cls=Verb, example="flexcore bookmark list --pipeline copy")
@click.option("--pipeline", help="Only of this pipeline.")
@click.option("--limit", default=100, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, pipeline: str | None, limit: int) -> None:
    """List bookmarks."""
    items = session.api.items("/v1/bookmarks", {"pipeline": pipeline}, limit)
    columns = ("pipeline", "step", "records", "rejected", "holder_run", "updated_at")
    show_list(session.output, items, columns, ("generation", "bookmark"), name="step")


@bookmark.command("get", cls=Verb, example="flexcore bookmark get copy/extract-customers -o json")
@click.argument("name", metavar="PIPELINE/STEP")
@click.pass_obj
def get(session: Session, name: str) -> None:
    """Show one bookmark."""
    path = _path(name)
    _shown(session, session.api.get(path).body)


@bookmark.command(
    "set", cls=Verb, example="flexcore bookmark set copy/extract-customers '{\"bookmarks\": {}}'"
)
@click.argument("name", metavar="PIPELINE/STEP")
@click.argument("value", metavar="JSON")
@click.pass_obj
def set_(session: Session, name: str, value: str) -> None:
    """Move a bookmark by hand; refused while a run holds it."""
    try:
        body = {"bookmark": json.loads(value)}
    except ValueError as error:
        raise Failed(
            f"the bookmark is not JSON: {error}", hint="quote it for the shell", exit_code=EXIT_USAGE
        ) from None
    path = _path(name)
    _shown(session, session.api.write("PUT", path, body).body)


@bookmark.command("reset", cls=Verb, example="flexcore bookmark reset copy/extract-customers")
@click.argument("name", metavar="PIPELINE/STEP")
@click.pass_obj
def reset(session: Session, name: str) -> None:
    """Make the next run read everything, in a new generation."""
    path = f"{_path(name)}/reset"
    _shown(session, session.api.write("POST", path, {}).body)


def _path(name: str) -> str:
    pipeline, slash, step = name.partition("/")
    if not (pipeline and slash and step):
        raise Failed(f"{name!r} is no bookmark", hint="name it PIPELINE/STEP", exit_code=EXIT_USAGE)
    return f"/v1/bookmarks/{pipeline}/{step}"


def _shown(session: Session, body: dict[str, Any]) -> None:
    show_one(session.output, body, _FIELDS, name="step")
