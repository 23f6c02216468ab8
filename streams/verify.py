"""Proof that the log is whole: a fold over its records that looks for gaps, duplicates and records out of place.

Pure: whoever reads Kafka hands the records in, in the order of each partition, and asks for the findings at the end.
Nothing here trusts a counter of the product.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.partitioning import partition_of
from schemas.topics import key_of

_HEADERS: Mapping[str, str] = {
    "ce_id": "event_id",
    "command-id": "command_id",
    "causation-id": "causation_id",
    "correlation-id": "correlation_id",
    "actor": "actor",
    "writer": "writer",
    "version": "version",
    "sequence": "sequence",
    "source-offset": "source_offset",
}
CHECKS: Mapping[str, str] = {
    "decodable": "every record is a known schema's",
    "partition": "every record is where murmur2 of its subject puts it",
    "envelope": "key, headers and envelope of every event agree",
    "unique": "no event id and no key stands twice",
    "versions": "each aggregate's versions are 1, 2, 3, …",
    "sequences": "each shard's events and outcomes are numbered without a gap",
    "fold": "today's rules can fold every event",
    "datasets": "each dataset holds the records its bookmark counts",
}


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record as it was read; ``name`` is the schema's full name, ``body`` the decoded value, empty if neither could be."""

    topic: str
    partition: int
    offset: int
    key: bytes
    headers: Mapping[str, str]
    name: str
    body: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Where it is: ``topic/partition/offset``."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(slots=True)
class Check:
    """One law: how many records were examined under it, how many break it, and the first that does."""

    name: str
    law: str
    examined: int = 0
    wrong: int = 0
    first: str = ""

    def see(self, ok: bool, complaint: Callable[[], str]) -> None:
        """Count one examination; ``complaint`` is asked only for what is wrong."""
        self.examined += 1
        if not ok:
            self.wrong += 1
            self.first = self.first or complaint()


@dataclass(slots=True)
class Numbers:
    """The sequence numbers of one (aggregate, shard).

    ``low`` is the first that can be judged; None: the beginning of the outcomes is gone, and none was seen yet.
    """

    seen: set[int] = field(default_factory=set)
    low: int | None = 1

    def gaps(self, ceiling: int) -> Iterator[int]:
        """Yield each number up to ``ceiling`` that no record has."""
        low = ceiling + 1 if self.low is None else self.low
        return (number for number in range(low, ceiling + 1) if number not in self.seen)


@dataclass(slots=True)
class Generation:
    """What the log says about a dataset: where its generation starts and how many records each partition got.

    ``held``: an attempt is writing now, so the topic may be ahead of the counts.
    """

    generation: str
    topic_id: str
    starts: Mapping[str, int]
    counts: dict[str, int] = field(default_factory=dict)
    held: bool = True


Evolve = Callable[[str, Any, Mapping[str, Any], str], Any]
"""``(aggregate, state or None, body, event type) -> state``; raises what the rules raise."""


class Verifier:
    """Takes every record once and keeps what the laws need: ids, versions, numbers, states."""

    def __init__(self, evolve: Evolve, shards: Mapping[str, int]) -> None:
        """``shards``: aggregate → partitions of its topics."""
        self.checks = {name: Check(name, law) for name, law in CHECKS.items()}
        self.events: dict[str, int] = {}
        self.outcomes: dict[str, int] = {}
        self.generations: dict[tuple[str, str], Generation] = {}
        self._evolve = evolve
        self._shards = shards
        self._numbers: dict[tuple[str, int], Numbers] = {}
        self._versions: dict[tuple[str, bytes], int] = {}
        self._states: dict[tuple[str, bytes], Any] = {}
        self._ids: set[bytes] = set()

    def event(self, aggregate: str, record: LogRecord) -> None:
        """Take the next event of its partition."""
        self.events[aggregate] = self.events.get(aggregate, 0) + 1
        envelope = record.body.get("envelope") or {}
        self.checks["decodable"].see(
            bool(envelope), lambda: f"{record.place} cannot be decoded: {record.name}"
        )
        if not envelope:
            return
        subject = key_of(envelope["tenant"], envelope["aggregate_id"])
        self._placed(aggregate, subject, record)
        self._agreed(aggregate, subject, envelope, record)
        self._unique(record)
        self._version(aggregate, subject, envelope["version"], record)
        self._number(aggregate, envelope["sequence"], record)
        self._folded(aggregate, subject, record)
        if aggregate == "bookmark":
            self._bookmark(envelope["tenant"], envelope["aggregate_id"], record)

    def outcome(self, aggregate: str, record: LogRecord) -> None:
        """Take the next outcome of its partition. A repeated answer has no number of its own."""
        self.outcomes[aggregate] = self.outcomes.get(aggregate, 0) + 1
        self.checks["decodable"].see(
            bool(record.body), lambda: f"{record.place} cannot be decoded: {record.name}"
        )
        if not record.body:
            return
        self._placed(aggregate, key_of(record.body["tenant"], record.body["aggregate_id"]), record)
        if "replayed" not in record.headers:
            self._number(aggregate, record.body["sequence"], record)

    def forgotten(self, aggregate: str, shard: int) -> None:
        """Note that the beginning of this outcomes partition was deleted: numbers before the first one left are gone."""
        numbers = self._numbers.setdefault((aggregate, shard), Numbers())
        numbers.low = None

    def ceilings(self) -> dict[tuple[str, int], int]:
        """Return the highest number seen of each (aggregate, shard): what may be judged after a second reading."""
        return {place: max(numbers.seen, default=0) for place, numbers in self._numbers.items()}

    def gaps(self) -> bool:
        """Return whether a number is missing so far; it may belong to a transaction that was read in halves."""
        return any(next(self._numbers[place].gaps(top), None) for place, top in self.ceilings().items())

    def judge_numbers(self, ceilings: Mapping[tuple[str, int], int]) -> None:
        """Judge the numbers up to ``ceilings``, after everything that was written before them has been read."""
        check = self.checks["sequences"]
        for (aggregate, shard), top in sorted(ceilings.items()):
            numbers = self._numbers[aggregate, shard]
            missing = list(numbers.gaps(top))
            check.examined += max(top + 1 - (numbers.low or top + 1), 0)
            if missing:
                check.wrong += len(missing)
                check.first = check.first or f"{aggregate} shard {shard}: nothing has sequence {missing[0]}"

    def dataset(self, topic: str, partition: str, counted: int, found: int, ahead: int | None = 0) -> None:
        """Compare the records found in a partition with what the bookmark counts.

        ``ahead``: so many more may be there (their advance was rejected); None: any number (an attempt is writing).
        """
        most = found if ahead is None else counted + ahead
        self.checks["datasets"].see(
            counted <= found <= most,
            lambda: f"{topic}/{partition} holds {found} records, the bookmark counts {counted}",
        )

    def report(self) -> list[Check]:
        """Return the checks, in the order of the table."""
        return list(self.checks.values())

    def _placed(self, aggregate: str, subject: bytes, record: LogRecord) -> None:
        wanted = partition_of(subject, self._shards[aggregate])
        self.checks["partition"].see(
            wanted == record.partition,
            lambda: f"{record.place} is about {subject.decode()}, which belongs to {wanted}",
        )

    def _agreed(self, aggregate: str, subject: bytes, envelope: Mapping[str, Any], record: LogRecord) -> None:
        wanted = {header: str(envelope[name]) for header, name in _HEADERS.items()}
        wanted["ce_subject"] = subject.decode()
        wanted["ce_type"] = record.name.rpartition(".")[2]
        wrong = [header for header, value in wanted.items() if record.headers.get(header) != value]
        key = b"%b/%020d/%b" % (subject, envelope["version"], envelope["event_id"].encode())
        if key != record.key:
            wrong.append("key")
        if envelope["aggregate"] != aggregate:
            wrong.append("aggregate")
        self.checks["envelope"].see(
            not wrong, lambda: f"{record.place} disagrees with its envelope: {', '.join(wrong)}"
        )

    def _unique(self, record: LogRecord) -> None:
        identity = record.key.rpartition(b"/")[2]
        known = identity in self._ids
        self._ids.add(identity)
        self.checks["unique"].see(not known, lambda: f"{record.place} repeats the event {identity.decode()}")

    def _version(self, aggregate: str, subject: bytes, version: int, record: LogRecord) -> None:
        before = self._versions.get((aggregate, subject), 0)
        self._versions[aggregate, subject] = version
        self.checks["versions"].see(
            version == before + 1,
            lambda: f"{record.place}: {aggregate} {subject.decode()} goes from version {before} to {version}",
        )

    def _number(self, aggregate: str, sequence: int, record: LogRecord) -> None:
        numbers = self._numbers.setdefault((aggregate, record.partition), Numbers())
        if numbers.low is None and record.topic.endswith(".outcomes"):
            numbers.low = sequence
        if sequence in numbers.seen:
            self.checks["sequences"].see(False, lambda: f"{record.place} repeats sequence {sequence}")
        numbers.seen.add(sequence)

    def _folded(self, aggregate: str, subject: bytes, record: LogRecord) -> None:
        complaint = ""
        try:
            state = self._states.get((aggregate, subject))
            kind = record.name.rpartition(".")[2]
            self._states[aggregate, subject] = self._evolve(aggregate, state, record.body, kind)
        except Exception as error:  # noqa: BLE001 - whatever a rule raises is the finding
            complaint = f"{record.place} cannot be folded: {type(error).__name__}: {error}"
        self.checks["fold"].see(not complaint, lambda: complaint)

    def _bookmark(self, tenant: str, name: str, record: LogRecord) -> None:
        body = record.body
        known = self.generations.get((tenant, name))
        match record.name.rpartition(".")[2]:
            case "GenerationStarted":
                self.generations[tenant, name] = Generation(
                    body["generation"], body["topic_id"], body["starts"]
                )
            case "BookmarkAdvanced" if known is not None:
                for partition, count in body["counts"].items():
                    known.counts[partition] = known.counts.get(partition, 0) + count
            case "BookmarkBegun" if known is not None:
                known.held = True
            case "BookmarkReleased" if known is not None:
                known.held = False
            case _:
                pass
