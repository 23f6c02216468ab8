"""``flexcore event verify --runs``: the invariants of runs, judged over the log in Kafka or over an export."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.cli.export import Export
from app.cli.log import Log, progress
from app.cli.output import is_terminal, say, show_data, show_table
from app.cli.proof import registry_of
from app.cli.session import Session
from app.errors import EXIT_FAILED, EXIT_OK
from schemas.codec import Codec
from schemas.topics import Topics
from streams.proof.record import LogRecord
from streams.proof.runs import ELSEWHERE, EVENTS, OUTCOMES, RunJudge

_SHOWN = 10
Records = Iterable[tuple[str, LogRecord]]


def verify_runs(session: Session, registry_url: str | None, folder: Path | None) -> int:
    """Read, judge, print; return 0 when every invariant holds, else 1. ``folder``: an export; needs no Kafka then."""
    judge, tell = RunJudge(), progress(is_terminal(), say)
    read = _kafka(session, registry_url) if folder is None else _export(folder)
    for count, (topic, record) in enumerate(read, 1):
        aggregate, _, kind = topic.rpartition(".")
        if kind == "outcomes":
            judge.outcome(record)
        else:
            judge.event(aggregate, record)
        tell(count)
    judge.finish()
    return _show(session, judge)


def _kafka(session: Session, registry_url: str | None) -> Records:
    config = session.config
    config.require_kafka()
    log = Log(config.kafka, Codec(registry_of(session, registry_url)))
    topics = Topics(config.get("TOPIC_PREFIX"))
    shards = log.aggregates(topics, log.topics())
    # Outcomes first: whatever was answered by then stands among the events that are read after them.
    for aggregates, named in ((OUTCOMES, topics.outcomes), (EVENTS, topics.events)):
        counts = {named(aggregate): shards[aggregate] for aggregate in aggregates if aggregate in shards}
        for message in log.read(counts):
            yield (message.topic() or "").removeprefix(topics.prefix), log.decoded(message)


def _export(folder: Path) -> Records:
    export = Export(folder)
    for kind, aggregates in (("outcomes", OUTCOMES), ("events", EVENTS)):
        for file, topic, shard in export.files(kind):
            if topic.rpartition(".")[0] in aggregates:
                yield from ((topic, record) for record in export.records(file, topic, shard))


def _show(session: Session, judge: RunJudge) -> int:
    checks, broken = judge.checks, [check for check in judge.checks.values() if check.wrong]
    if session.output in ("json", "jsonl", "yaml"):
        rows: list[dict[str, Any]] = [
            {
                "id": name,
                "law": check.law,
                "examined": check.examined,
                "wrong": check.wrong,
                "first": check.first or None,
                "not_judged": ELSEWHERE.get(name),
            }
            for name, check in checks.items()
        ]
        found = [asdict(finding) for finding in judge.findings]
        told = {"runs": judge.runs, "open": judge.open, "invariants": rows, "findings": found}
        show_data(session.output, {"whole": not broken, **told})
    else:
        table = [
            [
                name,
                check.law,
                *(["-", ELSEWHERE[name]] if name in ELSEWHERE else _counts(check.examined, check.wrong)),
            ]
            for name, check in checks.items()
        ]
        show_table(("id", "invariant", "examined", "wrong"), table)
        verdict = (
            f"broken: {', '.join(check.name for check in broken)}" if broken else "every invariant holds"
        )
        say(f"{judge.runs:,} runs, {judge.open:,} of them open: {verdict}")
    for finding in judge.findings[:_SHOWN]:
        where = f"{finding.place}: {finding.run} version {finding.version}"
        say(f"error: {finding.invariant}: {where}: {finding.said}")
    return EXIT_FAILED if broken else EXIT_OK


def _counts(examined: int, wrong: int) -> list[str]:
    return [f"{examined:,}", f"{wrong:,}"]
