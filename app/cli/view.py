"""``flexcore view``: the read store, folded from the log."""

import click

from app.cli.output import show_list, show_one
from app.cli.session import Session, Verb, noun

view = noun("view", "The read store, folded from the log.")
_COLUMNS = ("name", "table", "complete", "lag")


@view.command("list", cls=Verb, example="flexcore view list")
@click.pass_obj
def list_(session: Session) -> None:
    """List the views with the table each one fills."""
    show_list(session.output, session.api.get("/v1/views").body["items"], _COLUMNS)


@view.command("status", cls=Verb, example="flexcore view status -o json")
@click.pass_obj
def status(session: Session) -> None:
    """Show how far each view has followed the log."""
    items = session.api.get("/v1/views").body["items"]
    show_list(session.output, items, _COLUMNS, ("positions",))


@view.command("rebuild", cls=Verb, example="flexcore view rebuild run")
@click.argument("name")
@click.pass_obj
def rebuild(session: Session, name: str) -> None:
    """Fold one view anew from the log; it answers as before when it has caught up."""
    show_one(session.output, session.api.call("POST", f"/v1/views/{name}/rebuild", {}).body, _COLUMNS)
