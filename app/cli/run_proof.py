"""``flexcore event verify --runs``: the invariants of runs, judged over the log in Kafka or over an export."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.cli.export import Export
from app.cli.log import Log, progress
from app.cli.output import is_terminal, say, show_data, show_table
from app.cli.proof import registry_of
from app.cli.run_rows import Unreadable, read_rows
from app.cli.session import Session
from app.errors import EXIT_FAILED, EXIT_OK
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.topics import Topics
from streams.aggregates import builtin
from streams.proof.derived import Rows, Snapshots
from streams.proof.record import LogRecord
from streams.proof.runs import ELSEWHERE, EVENTS, OUTCOMES, RunJudge
from streams.recovery.snapshots import StateCodec, fold_hash

_SHOWN = 10
Records = Iterable[tuple[str, LogRecord]]


def verify_runs(session: Session, registry_url: str | None, folder: Path | None) -> int:
    """Read, judge, print; return 0 when every invariant holds, else 1. ``folder``: an export; needs no Kafka then."""
    proof = _Proof(session)
    proof.take(proof.kafka(registry_url) if folder is None else _export(folder))
    return _show(session, proof.judge, proof.elsewhere)


class _Proof:
    """One reading of everything that tells of runs; ``elsewhere``: what could not be judged, and what it takes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.judge = RunJudge()
        self.elsewhere = dict(ELSEWHERE)
        self._run = next(aggregate for aggregate in builtin() if aggregate.name == "run")
        self._derived: list[Snapshots | Rows] = []

    def take(self, records: Records) -> None:
        """Judge."""
        tell = progress(is_terminal(), say)
        for count, (topic, record) in enumerate(records, 1):
            aggregate, _, kind = topic.rpartition(".")
            if kind == "outcomes":
                self.judge.outcome(record)
            else:
                self.judge.event(aggregate, record)
                if aggregate == self._run.name and record.body:
                    for one in self._derived:
                        one.event(record)
            tell(count)
        self.judge.finish()
        for one in self._derived:
            one.finish()

    def kafka(self, registry_url: str | None) -> Records:
        """Yield the records of a log. What is made from events is read first: all of it stands among them then."""
        config = self._session.config
        config.require_kafka()
        log = Log(config.kafka, Codec(registry_of(self._session, registry_url)))
        topics, known = Topics(config.get("TOPIC_PREFIX")), log.topics()
        shards = log.aggregates(topics, known)
        if topics.snapshots(self._run.name) in known:
            self._snapshots(log, topics, shards[self._run.name])
        if config.get("POSTGRES_URL"):
            self._rows(log, topics.events(self._run.name))
        # Outcomes before events: whatever was answered by then stands among the events that are read after them.
        for aggregates, named in ((OUTCOMES, topics.outcomes), (EVENTS, topics.events)):
            counts = {named(aggregate): shards[aggregate] for aggregate in aggregates if aggregate in shards}
            for message in log.read(counts):
                yield (message.topic() or "").removeprefix(topics.prefix), log.decoded(message)

    def _snapshots(self, log: Log, topics: Topics, shards: int) -> None:
        name = self._run.name
        written = (topics.events(name), topics.outcomes(name))
        ids = log.topic_ids(written)
        fold = fold_hash(self._run, Catalogue.load(), " ".join(ids.get(topic, "") for topic in written))
        snapshots = Snapshots(self._run, StateCodec(self._run, fold), self.judge.see_at)
        for message in log.read({topics.snapshots(name): shards}):
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            snapshots.snapshot(message.key() or b"", message.value(), place)
        self._derived.append(snapshots)
        del self.elsewhere["I12"]

    def _rows(self, log: Log, topic: str) -> None:
        url, schema = (self._session.config.get(name) for name in ("POSTGRES_URL", "POSTGRES_SCHEMA"))
        try:
            rows = read_rows(
                url, schema, topic, log.topic_ids([topic])[topic],
                lambda below: Rows(self._run, below, self.judge.see_at),
            )  # fmt: skip
        except Unreadable as error:
            self.elsewhere["I16"] = str(error)
        else:
            self._derived.append(rows)
            del self.elsewhere["I16"]


def _export(folder: Path) -> Records:
    export = Export(folder)
    for kind, aggregates in (("outcomes", OUTCOMES), ("events", EVENTS)):
        for file, topic, shard in export.files(kind):
            if topic.rpartition(".")[0] in aggregates:
                yield from ((topic, record) for record in export.records(file, topic, shard))


def _show(session: Session, judge: RunJudge, elsewhere: Mapping[str, str]) -> int:
    checks, broken = judge.checks, [check for check in judge.checks.values() if check.wrong]
    if session.output in ("json", "jsonl", "yaml"):
        rows: list[dict[str, Any]] = [
            {
                "id": name,
                "law": check.law,
                "examined": check.examined,
                "wrong": check.wrong,
                "first": check.first or None,
                "not_judged": elsewhere.get(name),
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
                *(["-", elsewhere[name]] if name in elsewhere else _counts(check.examined, check.wrong)),
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
