"""``flexcore dataset``: the records of steps."""

import click

from app.cli.output import say, show_data, show_list, show_one
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


@dataset.command(
    "redrive", cls=Verb,
    example="flexcore dataset redrive copy/clean-customers --dry-run\n"
    "flexcore dataset redrive copy/clean-customers --run 5e0f…",
)  # fmt: skip
@click.argument("name", metavar="PIPELINE/STEP")
@click.option("--run", "run_id", help="Only what was rejected in this run.", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Only show what waits.")
@click.pass_obj
def redrive(session: Session, name: str, run_id: str | None, dry_run: bool) -> None:
    """Take rejected records up again: what the step accepts now goes into the same generation, each once.

    This is a rerun from the step, so the steps after it get the records too. What it still rejects stays, and so does what a
    newer record of the same primary key has overtaken.
    """
    body = {"run": run_id, "dry_run": dry_run}
    told = session.api.call("POST", f"/v1/datasets/{name}/redrive", body).body
    if "dataset" not in told:
        show_one(session.output, told, ("command_id", "status"), name="command_id")
        return
    show_one(session.output, told, ("dataset", "generation", "records", "runs", "run"), name="run")
    if not told["complete"]:
        say("more may wait: only the first 200,000 records of each partition were looked at")
    if told["run"]:
        say(f"what becomes of it: flexcore run watch {told['run']}")
