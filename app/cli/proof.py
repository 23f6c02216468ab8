"""``flexcore event verify``: the log is read from Kafka and every law of it is checked."""

from collections.abc import Mapping
from typing import Any

from app.cli.failure import Failed
from app.cli.log import EARLIEST, LATEST, Log, Spot, progress
from app.cli.output import is_terminal, say, show_data, show_table
from app.cli.session import Session
from app.errors import EXIT_FAILED, EXIT_OK
from schemas.topics import Topics
from streams.aggregates import builtin
from streams.translation import from_record, vocabulary
from streams.verify import Check, Generation, Verifier

_ROUNDS = 3


def verify(session: Session, registry_url: str | None) -> int:
    """Read, check, print; return 0 when every law holds, else 1 with the first record that breaks one."""
    from schemas.codec import Codec
    from schemas.registry import HttpRegistry

    config = session.config
    config.require_kafka()
    registry = HttpRegistry(registry_url or _registry_url(session))
    log = Log(config.kafka, Codec(registry))
    proof = _Proof(log, Topics(config.get("TOPIC_PREFIX")))
    checks = proof.run()
    return _show(session, proof.verifier, checks)


class _Proof:
    """One reading of everything, and as much of it again as was written meanwhile."""

    def __init__(self, log: Log, topics: Topics) -> None:
        self._log = log
        self._topics = topics
        all_topics = log.topics()
        self._partitions = {
            name.removeprefix(topics.prefix).removesuffix(".events"): count
            for name, count in all_topics.items()
            if name.startswith(topics.prefix) and name.endswith(".events")
        }
        if not self._partitions:
            where = f"topics beginning with {topics.prefix!r}" if topics.prefix else "topics"
            raise Failed(
                f"there is no log among the {where}", hint="flexcore dev up, or set FLEXCORE_TOPIC_PREFIX"
            )
        self._all_topics = all_topics
        self.verifier = Verifier(_fold(), self._partitions)
        self._rejected_advances: set[str] = set()
        self._count = 0
        self._tell = progress(is_terminal(), say)

    def run(self) -> list[Check]:
        """Read and judge."""
        self._note_forgotten()
        self._read()
        ceilings = self.verifier.ceilings()
        for _ in range(_ROUNDS):
            if not self.verifier.gaps():
                break
            # A transaction may have been read in halves: all that was written before a number is there by now.
            self._read()
        self.verifier.judge_numbers(ceilings)
        self._datasets()
        return self.verifier.report()

    def _note_forgotten(self) -> None:
        outcomes = [
            (self._topics.outcomes(aggregate), shard)
            for aggregate, count in self._partitions.items()
            for shard in range(count)
        ]
        for (topic, shard), low in self._log.offsets(outcomes, EARLIEST).items():
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
        lows = self._log.offsets(spots, EARLIEST)
        starts: dict[Spot, int] = {spot: generation.starts.get(str(spot[1]), 0) for spot in spots}
        ends = self._log.offsets(spots, LATEST)
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


def _fold() -> Any:
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


def _registry_url(session: Session) -> str:
    if url := session.config.get("REGISTRY_URL") or (session.config.stack.get("registry") or {}).get("url"):
        return str(url)
    for node in session.api.get("/v1/cluster").body["nodes"]:
        if node["status"] == "alive" and node.get("registry_url"):
            return str(node["registry_url"])
    raise Failed("no schema registry is known", hint="--registry http://HOST:PORT (FLEXCORE_REGISTRY_URL)")


def _show(session: Session, verifier: Verifier, checks: list[Check]) -> int:
    broken = [check for check in checks if check.wrong]
    if session.output in ("json", "jsonl", "yaml"):
        result = {
            "whole": not broken,
            "events": verifier.events,
            "outcomes": verifier.outcomes,
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
        say(f"{totals}: {'no gap, no duplicate' if not broken else 'the log is not whole'}")
    for check in broken:
        say(f"error: {check.first} ({check.law})")
    return EXIT_FAILED if broken else EXIT_OK
