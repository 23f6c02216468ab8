"""``flexcore cluster``: nodes, shards and health."""

import click

from app.cli.output import show_data, show_list
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_FAILED, EXIT_OK

cluster = noun("cluster", "Nodes, shards and health.")


@cluster.command("health", cls=Verb, example="flexcore cluster health")
@click.pass_obj
def health(session: Session) -> int:
    """Show every part of the node that answers; exits 1 when one does not work."""
    body = session.api.get("/health").body
    if session.output in ("json", "jsonl", "yaml"):
        show_data(session.output, body)
    else:
        show_list(session.output, body["parts"], ("name", "status", "detail"))
    return EXIT_OK if body["status"] == "ready" else EXIT_FAILED


@cluster.command("members", cls=Verb, example="flexcore cluster members -o wide")
@click.pass_obj
def members(session: Session) -> None:
    """List the nodes with their roles, the labels of their runners and the shards they own."""
    nodes = session.api.get("/v1/cluster").body["nodes"]
    show_list(
        session.output,
        nodes,
        ("node", "status", "roles", "labels", "shards", "url"),
        ("pid", "registry_url", "at"),
        "node",
    )
