"""``flexcore event verify``: the log is read from Kafka and every law of it is checked."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.failure import Failed
from app.cli.log import Log, Spot, progress
from app.cli.output import is_terminal, say, show_data, show_table
from app.cli.session import Session
from app.errors import EXIT_FAILED, EXIT_OK
from schemas.topics import AUDIT, Topics
from streams.aggregates import builtin
from streams.checkpoints import key_id_of
from streams.proof.verifier import Generation, Verifier
from streams.recovery.offsets import sequence_in
from streams.translation import from_record, vocabulary

if TYPE_CHECKING:
    from schemas.registry import HttpRegistry

_ROUNDS = 3


def verify(session: Session, registry_url: str | None, keys: Path | None) -> int:
    """Read, check, print; return 0 when every law holds, else 1 with the first record that breaks one."""
    from schemas.codec import Codec

    config = session.config
    config.require_kafka()
    log = Log(config.kafka, Codec(registry_of(session, registry_url)))
    trusted = trusted_keys(keys)
    proof = _Proof(log, Topics(config.get("TOPIC_PREFIX")), config.get("CLUSTER"), trusted)
    proof.run()
    return show(session, proof.verifier)


def trusted_keys(file: Path | None) -> dict[str, bytes] | None:
    """Return the public keys of a file that ``audit keys -o jsonl`` has made, by id; None for no file. Raises
    :class:`Failed`.
    """
    if file is None:
        return None
    try:
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
        keys = [bytes.fromhex(one["public_key"]) for one in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failed(f"{file} holds no public keys: {error}", hint="flexcore audit keys -o jsonl") from None
    return {key_id_of(key): key for key in keys}


class _Proof:
    """One reading of everything, and as much of it again as was written meanwhile."""

    def __init__(
        self, log: Log, topics: Topics, cluster: str, trusted: Mapping[str, bytes] | None = None
    ) -> None:
        self._log = log
        self._cluster = cluster
        self._topics = topics
        all_topics = log.topics()
        self._partitions = log.aggregates(topics, all_topics)
        self._all_topics = all_topics
        self.verifier = Verifier(todays_fold(), self._partitions, trusted)
        self._rejected_advances: set[str] = set()
        self._count = 0
        self._tell = progress(is_terminal(), say)

    def run(self) -> None:
        """Read and judge."""
        self._note_forgotten()
        self._note_promises()
        self._read()
        ceilings = self.verifier.ceilings()
        for _ in range(_ROUNDS):
            if not self.verifier.gaps():
                break
            # A transaction may have been read in halves: all that was written before a number is there by now.
            self._read()
        self.verifier.judge(ceilings)
        self._datasets()

    def _note_promises(self) -> None:
        """What checkpoints vouch for, and what was committed with the offsets, must be in the log."""
        audit = self._topics.named(AUDIT)
        if audit in self._all_topics:
            for message in self._log.read({audit: self._all_topics[audit]}):
                self.verifier.audit(self._log.decoded(message))
        self.verifier.arrange()
        commands = {
            (self._topics.commands(aggregate), shard): (aggregate, shard)
            for aggregate, count in self._partitions.items()
            for shard in range(count)
        }
        for spot, metadata in self._log.committed(f"{self._cluster}.worker", list(commands)).items():
            self.verifier.promise(*commands[spot], sequence_in(metadata))

    def _note_forgotten(self) -> None:
        outcomes = [
            (self._topics.outcomes(aggregate), shard)
            for aggregate, count in self._partitions.items()
            for shard in range(count)
        ]
        for (topic, shard), low in self._log.starts(outcomes).items():
            if low > 0:
                aggregate = topic.removeprefix(self._topics.prefix).removesuffix(".outcomes")
                self.verifier.forgotten(aggregate, shard)

    def _read(self) -> None:
        by_topic = {self._topics.events(aggregate): (aggregate, True) for aggregate in self._partitions}
        by_topic |= {self._topics.outcomes(aggregate): (aggregate, False) for aggregate in self._partitions}
        counts = {topic: self._partitions[aggregate] for topic, (aggregate, _) in by_topic.items()}
        for message in self._log.read(counts):
            aggregate, is_event = by_topic[message.topic() or ""]
            record = self._log.decoded(message)
            self._count += 1
            self._tell(self._count)
            if is_event:
                self.verifier.event(aggregate, record)
                continue
            self.verifier.outcome(aggregate, record)
            if record.body.get("command_type") == "Advance" and record.body["status"] != "accepted":
                self._rejected_advances.add(record.body["command_id"])

    def _datasets(self) -> None:
        """Recount each generation. Who writes meanwhile is noticed by a further reading of the bookmarks."""
        before = {name: dict(one.counts) for name, one in self.verifier.generations.items()}
        generations = {
            self._topics.dataset(tenant, *name.split("/", 1)): ((tenant, name), one)
            for (tenant, name), one in self.verifier.generations.items()
        }
        existing = [topic for topic in generations if topic in self._all_topics]
        ids = self._log.topic_ids(existing)
        recounted = {
            topic: self._recount(topic, generations[topic][1])
            for topic in existing
            if ids.get(topic) == generations[topic][1].topic_id
        }
        self._read()
        extra = self._rejected() if self._rejected_advances else {}
        for topic, found in recounted.items():
            name, _ = generations[topic]
            now = self.verifier.generations[name]
            moving = now.held or now.counts != before[name]
            self._compare(topic, before[name], found, None if moving else extra.get(name, {}))

    def _compare(
        self,
        topic: str,
        counted: Mapping[str, int],
        found: Mapping[str, int] | None,
        extra: Mapping[str, int] | None,
    ) -> None:
        if found is None:
            say(f"note: {topic} has lost records of its generation to retention, and cannot be recounted")
            return
        for partition in sorted({*counted, *found}, key=int):
            ahead = None if extra is None else extra.get(partition, 0)
            self.verifier.dataset(topic, partition, counted.get(partition, 0), found.get(partition, 0), ahead)

    def _recount(self, topic: str, generation: Generation) -> dict[str, int] | None:
        count = self._all_topics[topic]
        spots = [(topic, partition) for partition in range(count)]
        lows = self._log.starts(spots)
        starts: dict[Spot, int] = {spot: generation.starts.get(str(spot[1]), 0) for spot in spots}
        ends = self._log.ends(spots)
        if any(lows[spot] > starts[spot] and ends[spot] > starts[spot] for spot in spots):
            return None
        found: dict[str, int] = {}
        wanted = generation.generation.encode()
        for message in self._log.read({topic: count}, starts):
            raw: Any = message.headers() or []
            if dict(raw).get("generation") == wanted:
                partition = str(message.partition())
                found[partition] = found.get(partition, 0) + 1
            self._count += 1
            self._tell(self._count)
        return found

    def _rejected(self) -> dict[tuple[str, str], dict[str, int]]:
        """Return the counts of advances that were written with their records and then refused."""
        extra: dict[tuple[str, str], dict[str, int]] = {}
        commands = self._topics.commands("bookmark")
        for message in self._log.read({commands: self._partitions["bookmark"]}):
            raw: Any = message.headers() or []
            if (dict(raw).get("command-id") or b"").decode() not in self._rejected_advances:
                continue
            tenant, _, name = (message.key() or b"").decode().partition("/")
            counts = extra.setdefault((tenant, name), {})
            for partition, count in self._log.decoded(message).body.get("counts", {}).items():
                counts[partition] = counts.get(partition, 0) + count
        return extra


def todays_fold() -> Any:
    """Return today's rules as one function; events of aggregates that are not ours are taken as they are."""
    known = {aggregate.name: (aggregate, vocabulary(aggregate).events) for aggregate in builtin()}

    def evolve(name: str, state: Any, body: Mapping[str, Any], kind: str) -> Any:
        if name not in known:
            return state
        aggregate, events = known[name]
        if kind not in events:
            raise ValueError(f"{name} has no event {kind}")
        event = from_record(
            events[kind], {field: value for field, value in body.items() if field != "envelope"}
        )
        return aggregate.evolve(aggregate.initial if state is None else state, event)

    return evolve


def registry_of(session: Session, url: str | None) -> "HttpRegistry":
    """Return a client of the schema registry. Raises :class:`Failed` when none is known."""
    from schemas.registry import HttpRegistry

    return HttpRegistry(url or _registry_url(session))


def _registry_url(session: Session) -> str:
    if url := session.config.get("REGISTRY_URL") or (session.config.stack.get("registry") or {}).get("url"):
        return str(url)
    # That of the node that answers: others are believed to be alive for some seconds after their death.
    if url := session.api.get("/health").body.get("registry_url"):
        return str(url)
    raise Failed("no schema registry is known", hint="--registry http://HOST:PORT (FLEXCORE_REGISTRY_URL)")


def show(session: Session, verifier: Verifier, complaints: Sequence[str] = ()) -> int:
    """Print the verdict; ``complaints`` are about what is not a record. Returns the exit code."""
    findings = verifier.findings
    checks, faults, first = list(findings.checks.values()), findings.faults, findings.first
    broken = [check for check in checks if check.wrong]
    counts = dict(sorted(Counter(fault.kind for fault in faults).items()))
    if session.output in ("json", "jsonl", "yaml"):
        result = {
            "whole": not broken and not complaints,
            "events": verifier.events,
            "outcomes": verifier.outcomes,
            "faults": counts,
            "redacted": findings.redacted,
            "first": None if first is None else asdict(first),
            "checks": [
                {"name": check.name, "law": check.law, "examined": check.examined, "wrong": check.wrong,
                 "first": check.first or None}
                for check in checks
            ],
        }  # fmt: skip
        show_data(session.output, result)
    else:
        rows = [
            [check.name, check.law, f"{check.examined:,}", f"{check.wrong:,}" if check.wrong else "0"]
            for check in checks
        ]
        show_table(("check", "law", "examined", "wrong"), rows)
        totals = f"{sum(verifier.events.values()):,} events, {sum(verifier.outcomes.values()):,} outcomes"
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        say(f"{totals}: {'no gap, no duplicate' if not broken else f'the log is not whole: {told}'}")
        if findings.redacted:
            say(f"{len(findings.redacted)} redacted, each with reason and approver (-o json lists them)")
        if first is not None:
            say(f"first bad record, {first.kind}: {first.topic}/{first.partition}/{first.offset} {first.key}")
    for check in broken:
        say(f"error: {check.first} ({check.law})")
    for complaint in complaints:
        say(f"error: {complaint}")
    return EXIT_FAILED if broken or complaints else EXIT_OK
