"""``flexcore dataset``: the records of steps."""

import click

from app.cli.output import show_data, show_list, show_one
from app.cli.session import Session, Verb, noun

dataset = noun("dataset", "The records of steps.")


@dataset.command("list", cls=Verb, example="flexcore dataset list")
@click.option("--limit", default=100, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, limit: int) -> None:
    """List datasets with their counts."""
    items = session.api.items("/v1/datasets", {}, limit)
    show_list(session.output, items, ("name", "records", "rejected", "updated_at"), ("topic", "generation"))


@dataset.command("get", cls=Verb, example="flexcore dataset get copy/extract-customers")
@click.argument("name", metavar="PIPELINE/STEP")
@click.pass_obj
def get(session: Session, name: str) -> None:
    """Show one dataset: its topic, generation and counts."""
    fields = ("name", "topic", "generation", "records", "rejected", "starts", "counts", "updated_at")
    show_one(session.output, session.api.get(f"/v1/datasets/{name}").body, fields)


@dataset.command("head", cls=Verb, example="flexcore dataset head copy/extract-customers -n 5")
@click.argument("name", metavar="PIPELINE/STEP")
@click.option("-n", "--limit", default=10, help="So many records.", type=click.IntRange(1, 500))
@click.pass_obj
def head(session: Session, name: str, limit: int) -> None:
    """Show the first records that are kept, one JSON object a line."""
    for item in session.api.get(f"/v1/datasets/{name}/records", {"limit": limit}).body["items"]:
        show_data("jsonl", item)
