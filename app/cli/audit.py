"""``flexcore audit``: who did what, and what the owners of the shards vouch for."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import click

from app.cli.output import show_list
from app.cli.session import Session, Verb, noun

if TYPE_CHECKING:
    from streams.proof.record import LogRecord

audit = noun("audit", "Who did what, and what the owners of the shards vouch for.")
_COLUMNS = ("at", "actor", "type", "aggregate", "aggregate_id", "version")
_WIDE = ("event_id", "command_id", "causation_id", "correlation_id", "position", "writer")
_SCANNED_MAX = 100_000
_REGISTRY = click.option(
    "--registry", help="Schema registry [FLEXCORE_REGISTRY_URL; else a node's].", metavar="URL"
)


@audit.command("search", cls=Verb, example="flexcore audit search --actor ada --type PipelinePaused")
@click.option("--actor", help="Only what this person or service asked for, of the newest 100,000 events.")
@click.option("--aggregate", help="Only of this kind.")
@click.option("--type", "type_", help="Only this type of event.")
@click.option("--correlation", help="Only of this correlation.")
@click.option("--limit", default=100, help="At most so many.", type=click.IntRange(1))
@click.pass_obj
def search(
    session: Session,
    actor: str | None,
    aggregate: str | None,
    type_: str | None,
    correlation: str | None,
    limit: int,
) -> None:
    """Search what was done, the newest first."""
    query = {"aggregate": aggregate, "type": type_, "correlation": correlation, "order": "desc"}
    found = session.api.items("/v1/events", query, limit if actor is None else _SCANNED_MAX)
    theirs = (event for event in found if actor is None or event["actor"] == actor)
    show_list(session.output, islice(theirs, limit), _COLUMNS, _WIDE, name="event_id")


@audit.command("keys", cls=Verb, example="flexcore audit keys -o jsonl > keys.jsonl")
@_REGISTRY
@click.pass_obj
def keys(session: Session, registry: str | None) -> None:
    """List the public keys on the audit topic; kept elsewhere, `event verify --keys` trusts no others."""
    from streams.checkpoints import AUDIT_KEY

    found = {
        record.body["key_id"]: record.body
        for record in _records(session, registry)
        if record.name == AUDIT_KEY
    }
    show_list(
        session.output, [found[name] for name in sorted(found)], ("key_id", "public_key"), name="key_id"
    )


@audit.command("export", cls=Verb, example="flexcore audit export -o jsonl > checkpoints.jsonl")
@_REGISTRY
@click.pass_obj
def export(session: Session, registry: str | None) -> None:
    """List the signed checkpoints, to be kept where nobody who can write to Kafka can reach them."""
    from streams.checkpoints import CHECKPOINT

    found = {record.key: record.body for record in _records(session, registry) if record.name == CHECKPOINT}
    columns = ("aggregate", "shard", "number", "after", "to", "events", "outcomes", "at", "key_id")
    wide = ("writer", "root", "signature")
    show_list(session.output, [found[key] for key in sorted(found)], columns, wide, name="root")


def _records(session: Session, registry_url: str | None) -> "Iterator[LogRecord]":
    from app.cli.failure import Failed
    from app.cli.log import Log
    from app.cli.proof import registry_of
    from schemas.codec import Codec
    from schemas.topics import AUDIT, Topics

    session.config.require_kafka()
    log = Log(session.config.kafka, Codec(registry_of(session, registry_url)))
    topic = Topics(session.config.get("TOPIC_PREFIX")).named(AUDIT)
    count = log.topics().get(topic)
    if count is None:
        raise Failed(f"there is no topic {topic}", hint="flexcore dev up, or set FLEXCORE_TOPIC_PREFIX")
    return (log.decoded(message) for message in log.read({topic: count}))
