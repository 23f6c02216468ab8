"""``flexcore event``: the log of everything that was decided; audit and proof."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from app.cli.output import local_time, show_data, show_list, show_one
from app.cli.session import Session, Verb, noun

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
event = noun("event", "The log of everything that was decided; audit and proof.")
_COLUMNS = ("at", "actor", "type", "aggregate", "aggregate_id", "version")
_WIDE = ("event_id", "command_id", "causation_id", "correlation_id", "position")


@event.command("search", cls=Verb, example="flexcore event search --aggregate run --type RunEnded")
@click.option("--aggregate", help="Only of this kind.")
@click.option("--type", "type_", help="Only this type of event.")
@click.option("--correlation", help="Only of this correlation.")
@click.option("--limit", default=100, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def search(
    session: Session, aggregate: str | None, type_: str | None, correlation: str | None, limit: int
) -> None:
    """Search events, the newest first."""
    query = {"aggregate": aggregate, "type": type_, "correlation": correlation, "order": "desc"}
    show_list(session.output, session.api.items("/v1/events", query, limit), _COLUMNS, _WIDE, name="event_id")


@event.command("get", cls=Verb, example="flexcore event get 7c9e…")
@click.argument("event_id")
@click.pass_obj
def get(session: Session, event_id: str) -> None:
    """Show one event with its cause and its body."""
    fields = (*_COLUMNS, *_WIDE, "writer", "body")
    show_one(session.output, session.api.get(f"/v1/events/{event_id}").body, fields, name="event_id")


@event.command("tail", cls=Verb, example="flexcore event tail --aggregate run")
@click.option("--aggregate", help="Only of this kind.")
@click.option("--type", "type_", help="Only this type of event.")
@click.pass_obj
def tail(session: Session, aggregate: str | None, type_: str | None) -> None:
    """Print events as they happen, until interrupted."""
    query = {"aggregate": aggregate, "type": type_}
    for line in session.api.lines("/v1/events/stream", query, {"Accept": "text/event-stream"}):
        if line.startswith("data:"):
            _print(session.output, json.loads(line[5:]))


@event.command(
    "redact",
    cls=Verb,
    example="flexcore event redact run 5f0c… --sequence 1042 --field input --reason 'request 4711' --dry-run",
)
@click.argument("aggregate")
@click.argument("aggregate_id", metavar="ID")
@click.option(
    "--sequence", required=True, type=click.IntRange(1), help="Which event: the last part of its position."
)
@click.option("--field", "fields", required=True, multiple=True, help="Whose value goes; may be given again.")
@click.option("--reason", required=True, help="Why; kept, so name nobody in it.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.pass_obj
def redact(
    session: Session,
    aggregate: str,
    aggregate_id: str,
    sequence: int,
    fields: tuple[str, ...],
    reason: str,
    dry_run: bool,
) -> None:
    """Take personal data out of an event; the log still proves itself, and keeps who did it and why."""
    body = {
        "aggregate": aggregate, "id": aggregate_id, "sequence": sequence, "fields": fields, "reason": reason,
        "dry_run": dry_run,
    }  # fmt: skip
    done = session.api.write("POST", "/v1/events/redact", body).body
    shown = (
        "aggregate",
        "id",
        "type",
        "event_id",
        "version",
        "sequence",
        "fields",
        "dry_run",
        "redacted_by_version",
    )
    show_one(session.output, done, shown, name="event_id")


@event.command("verify", cls=Verb, example="flexcore event verify -o json\nflexcore event verify --runs")
@click.option("--registry", help="Schema registry [FLEXCORE_REGISTRY_URL; else a node's].", metavar="URL")
@click.option(
    "--keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust only these public keys (`flexcore audit keys -o jsonl`) [those on the audit topic].",
)
@click.option("--export", "folder", type=_FOLDER, help="Check this export instead; needs no Kafka.")
@click.option("--runs", is_flag=True, help="Judge what the runs did instead: the invariants I1 to I17.")
@click.pass_obj
def verify(session: Session, registry: str | None, keys: Path | None, folder: Path | None, runs: bool) -> int:
    """Prove that the log is whole: reads Kafka itself, checks every record, exits 1 naming the first bad one."""
    if runs:
        if keys is not None:
            raise click.UsageError("--runs checks no signatures: leave --keys out")
        from app.cli.run_proof import verify_runs

        return verify_runs(session, registry, folder)
    if folder is not None:
        from app.cli.export import verify_export

        return verify_export(session, folder, keys)
    from app.cli.proof import verify as prove

    return prove(session, registry, keys)


@event.command(
    "export", cls=Verb, example="flexcore event export backup\nflexcore event export again --at backup"
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--at", type=click.Path(exists=True, path_type=Path), help="Up to where that export has come.")
@click.option("--registry", help="Schema registry [FLEXCORE_REGISTRY_URL; else a node's].", metavar="URL")
@click.pass_obj
def export(session: Session, folder: Path, at: Path | None, registry: str | None) -> int:
    """Write the log as CloudEvents, JSON lines with a manifest; the same positions give the same bytes."""
    from app.cli.export import export as write

    return write(session, registry, folder, at)


@event.command("import", cls=Verb, example="flexcore event import backup")
@click.argument("folder", type=_FOLDER)
@click.option("--registry", help="Schema registry [FLEXCORE_REGISTRY_URL; else a node's].", metavar="URL")
@click.pass_obj
def import_(session: Session, folder: Path, registry: str | None) -> int:
    """Make an export a log again, where there is none; all nodes must be stopped. Twice is the same as once."""
    from app.cli.importing import import_ as take

    return take(session, registry, folder)


def _print(output: str, found: Mapping[str, Any]) -> None:
    if output in ("json", "jsonl", "yaml"):
        show_data("jsonl" if output == "json" else output, found)
    else:
        subject = f"{found['aggregate']} {found['aggregate_id']} v{found['version']}"
        click.echo(f"{local_time(found['at'])}\t{found['actor']}\t{found['type']}\t{subject}")
