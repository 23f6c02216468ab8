"""``flexcore limit``: how many runs may be at work at once, and which wait."""

import click

from app.cli.output import show_list, show_one
from app.cli.session import Session, Verb, noun

limit = noun("limit", "How many runs may be at work at once, and which wait.")


@limit.command("list", cls=Verb, example="flexcore limit list")
@click.option("--limit", "most", default=100, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, most: int) -> None:
    """List limits with the runs that are in and the runs that wait."""
    items = session.api.items("/v1/limits", {}, most)
    show_list(session.output, items, ("name", "max", "holders", "waiting"), (), name="name")


@limit.command("get", cls=Verb, example="flexcore limit get crm-database")
@click.argument("name")
@click.pass_obj
def get(session: Session, name: str) -> None:
    """Show which runs are in, and which wait."""
    body = session.api.get(f"/v1/limits/{name}").body
    show_one(session.output, body, ("name", "max", "holders", "waiting"), name="name")
