"""``flexcore config``: every setting with its origin."""

import click

from app.cli.output import say, show_list
from app.cli.session import Session, Verb


@click.command("config", cls=Verb, example="flexcore config -o wide")
@click.pass_obj
def config(session: Session) -> None:
    """Show every setting, its value (secrets masked) and where it comes from."""
    found = session.config
    rows = [
        {
            "name": f"FLEXCORE_{value.name}",
            "value": value.shown,
            "origin": value.origin,
            "meaning": value.meaning,
        }
        for value in found.values.values()
    ]
    show_list(session.output, rows, ("name", "value", "origin"), ("meaning",))
    for name in found.unknown:
        say(f"warning: {name} is set, but no setting has this name")
