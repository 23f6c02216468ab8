"""``flexcore pipeline``: define what is moved, and how."""

from typing import Any

import click

from app.cli.failure import Failed
from app.cli.files import read_pipeline, read_pipelines
from app.cli.output import show_data, show_list, show_one
from app.cli.rehearsal import test
from app.cli.session import Session, Verb, noun
from app.errors import EXIT_NOT_FOUND, EXIT_USAGE

pipeline = noun("pipeline", "Define what is moved, and how.")
pipeline.add_command(test)
_FIELDS = (
    "name",
    "status",
    "reason",
    "number",
    "schedule",
    "triggers",
    "listeners",
    "last_run",
    "last_run_at",
    "updated_at",
    "definition_hash",
)
_FILES = click.option(
    "-f", "--file", "files", multiple=True, required=True, help="A pipeline file, YAML or Python; - is stdin."
)


@pipeline.command("apply", cls=Verb, example="flexcore pipeline apply -f pipelines/copy.yaml")
@_FILES
@click.pass_obj
def apply(session: Session, files: tuple[str, ...]) -> None:
    """Create pipelines from files, or give them a new version."""
    documents = [document for name in files for document in read_pipelines(name, session)]
    rows = []
    for document in documents:
        path = f"/v1/pipelines/{document['metadata']['name']}"
        answer = session.api.write("PUT", path, document)
        rows.append({**answer.body, "change": "created" if answer.status == 201 else "applied"})
    show_list(session.output, rows, ("name", "change", "number", "status"), ("version", "definition_hash"))


@pipeline.command("validate", cls=Verb, example="flexcore pipeline validate -f pipelines/copy.yaml")
@_FILES
@click.pass_obj
def validate(session: Session, files: tuple[str, ...]) -> None:
    """Check pipeline files without a cluster; every mistake is listed with its place."""
    rows = []
    for name in files:
        for document in read_pipelines(name, session):
            rows.append({"file": name, "name": document["metadata"]["name"], "result": "valid"})
    show_list(session.output, rows, ("file", "name", "result"))


@pipeline.command("list", cls=Verb, example="flexcore pipeline list -o wide")
@click.option("--limit", default=100, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def list_(session: Session, limit: int) -> None:
    """List pipelines."""
    items = session.api.items("/v1/pipelines", {}, limit)
    show_list(
        session.output,
        items,
        ("name", "status", "number", "schedule", "last_run_at"),
        ("triggers", "last_run", "updated_at"),
    )


@pipeline.command("get", cls=Verb, example="flexcore pipeline get copy -o yaml")
@click.argument("name")
@click.pass_obj
def get(session: Session, name: str) -> None:
    """Show one pipeline, with its definition in a data format."""
    show_one(session.output, session.api.get(f"/v1/pipelines/{name}").body, _FIELDS)


@pipeline.command(
    "graph",
    cls=Verb,
    example="flexcore pipeline graph copy\nflexcore pipeline graph -f pipelines/copy.yaml",
)
@click.argument("name", required=False)
@click.option("-f", "--file", help="Draw what a file says instead, without a cluster.")
@click.pass_obj
def graph(session: Session, name: str | None, file: str | None) -> None:
    """Draw the steps in the order they can run, each with what it comes after."""
    if file is not None:
        spec = read_pipeline(file, session, name)["spec"]
    elif name is not None:
        spec = session.api.get(f"/v1/pipelines/{name}").body["definition"]["spec"]
    else:
        raise Failed(
            "there is nothing to draw", hint="name a pipeline, or a file with -f", exit_code=EXIT_USAGE
        )
    steps = [*spec["steps"], *({**step, "finally": True} for step in spec.get("finally", ()))]
    if session.output in ("json", "yaml", "jsonl"):
        edges = [{"from": before, "to": step["name"]} for step in steps for before in step.get("after", ())]
        show_data(session.output, {"steps": [step["name"] for step in steps], "edges": edges})
        return
    from app.cli.dag import layers, order
    from streams.domain.kinds import STEP_KINDS

    for number, names in enumerate(layers(order(steps))):
        for step_name in names:
            step = next(step for step in steps if step["name"] == step_name)
            kind = next((kind for kind in STEP_KINDS if kind in step), "")
            after = f"  ← {', '.join(step['after'])}" if step.get("after") else ""
            after += "  finally" if step.get("finally") else ""
            click.echo(f"{'  ' * number}{'└ ' if number else ''}{step_name} ({kind}){after}")


@pipeline.command(
    "diff",
    cls=Verb,
    example="flexcore pipeline diff copy --from 3 --to 5\nflexcore pipeline diff copy -f copy.yaml",
)
@click.argument("name")
@click.option("--from", "old", type=click.IntRange(1), help="The number of a version [the one before --to].")
@click.option("--to", "new", type=click.IntRange(1), help="The number of a version [the newest].")
@click.option("-f", "--file", help="Compare the newest version with a file instead.")
@click.pass_obj
def diff(session: Session, name: str, old: int | None, new: int | None, file: str | None) -> None:
    """Show what changed between two versions, or what a file would change, place by place."""
    if file is not None and (old or new):
        raise Failed(
            "a file is compared with the newest version",
            hint="leave out --from and --to",
            exit_code=EXIT_USAGE,
        )
    from app.cli.changes import changes

    if file is not None:
        after = read_pipeline(file, session, name)
        before = session.api.get(f"/v1/pipelines/{name}").body["definition"]
    else:
        versions = _versions(session, name)
        new = new or max(versions)
        old = old or max((number for number in versions if number < new), default=new)
        for number in (old, new):
            if number not in versions:
                known = ", ".join(map(str, sorted(versions)))
                raise Failed(
                    f"there is no version {number}", hint=f"one of {known}", exit_code=EXIT_NOT_FOUND
                )
        before, after = versions[old], versions[new]
    show_list(session.output, changes(before, after), ("path", "before", "after"), name="path")


def _versions(session: Session, name: str) -> dict[int, Any]:
    """Return every version's definition by its number, from the events."""
    import json

    query = {"aggregate": "pipeline", "id": name, "type": "PipelineApplied"}
    bodies = [item["body"] for item in session.api.items("/v1/events", query, 10_000)]
    if not bodies:
        raise Failed(f"no pipeline {name!r}", hint="flexcore pipeline list", exit_code=EXIT_NOT_FOUND)
    return {body["number"]: json.loads(body["definition"]) for body in bodies}


@pipeline.command("pause", cls=Verb, example="flexcore pipeline pause copy --reason holidays")
@click.argument("name")
@click.option("--reason", help="Why; kept in the event.")
@click.pass_obj
def pause(session: Session, name: str, reason: str | None) -> None:
    """Start no more runs, and let its schedule rest."""
    _changed(session, session.api.write("POST", f"/v1/pipelines/{name}/pause", {"reason": reason}).body)


@pipeline.command("resume", cls=Verb, example="flexcore pipeline resume copy")
@click.argument("name")
@click.pass_obj
def resume(session: Session, name: str) -> None:
    """Start runs again."""
    _changed(session, session.api.write("POST", f"/v1/pipelines/{name}/resume", {}).body)


@pipeline.command("delete", cls=Verb, example="flexcore pipeline delete copy")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also while runs of it are at work, or other pipelines name it.")
@click.pass_obj
def delete(session: Session, name: str, force: bool) -> None:
    """Forget a pipeline that is not in use; its runs and its history stay."""
    path = f"/v1/pipelines/{name}{'?force=true' if force else ''}"
    _changed(session, session.api.write("DELETE", path).body)


def _changed(session: Session, body: dict[str, Any]) -> None:
    show_one(session.output, body, ("name", "status", "reason", "number", "version"))
