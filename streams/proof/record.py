"""A record of the log as the proof sees it, and what it can be accused of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.topics import AUDIT

Kind = Literal["missing", "altered", "duplicated", "reordered", "truncated", "misplaced", "unfoldable"]

CHECKS: Mapping[str, str] = {
    "decodable": "every record is a known schema's",
    "partition": "every record is where murmur2 of its subject puts it",
    "envelope": "key, headers and envelope of every event agree",
    "chain": "each event's chain is the hash of its key, its value and the chain before it",
    "unique": "no event id and no key stands twice",
    "versions": "each aggregate's versions are 1, 2, 3, …",
    "sequences": "each shard's events and outcomes are numbered without a gap",
    "order": "each shard's events and outcomes stand in the order of their numbers",
    "checkpoints": "each signed checkpoint vouches for the events and outcomes that are there",
    "redactions": "each redacted event keeps its key and chain, and its aggregate says what took its place, who wanted it, why",
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
    value: bytes
    headers: Mapping[str, bytes]
    name: str
    body: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Where it is: ``topic/partition/offset``."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def kind(self) -> str:
        """The short name of its schema."""
        return self.name.rpartition(".")[2]

    def told(self, header: str) -> str | None:
        """Return a header as text, None if there is none."""
        raw = self.headers.get(header)
        return None if raw is None else raw.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Fault:
    """One bad record: what is wrong with it, where it stands, its key. ``said`` is one sentence about it.

    Of what is ``missing`` the record after it is named, of what is ``truncated`` the last one that is left.
    """

    kind: Kind
    topic: str
    partition: int
    offset: int
    key: str
    said: str

    @property
    def order(self) -> tuple[str, int, int]:
        """Which of several comes first."""
        return self.topic, self.partition, self.offset


@dataclass(slots=True)
class Check:
    """One law: how many records were examined under it, how many break it, and the first that does."""

    name: str
    law: str
    examined: int = 0
    wrong: int = 0
    first: str = ""

    def note(self, said: str) -> None:
        """Count something that is wrong."""
        self.wrong += 1
        self.first = self.first or said


@dataclass(slots=True)
class Findings:
    """What was found: per law, and per record that breaks one. Only the first thousand faults are kept."""

    checks: dict[str, Check] = field(
        default_factory=lambda: {name: Check(name, law) for name, law in CHECKS.items()}
    )
    faults: list[Fault] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)

    def see(self, law: str, ok: bool, kind: Kind, record: LogRecord, said: Callable[[], str]) -> bool:
        """Count one examination of a record; ``said`` is asked only for what is wrong."""
        self.checks[law].examined += 1
        if not ok:
            self.accuse(law, kind, record, said())
        return ok

    def accuse(self, law: str, kind: Kind, record: LogRecord, said: str) -> None:
        """Note that a record breaks a law."""
        key = record.key.decode("utf-8", "replace")
        self.blame(law, Fault(kind, record.topic, record.partition, record.offset, key, said))

    def blame(self, law: str, fault: Fault) -> None:
        """Note a fault. A record is named once for each kind."""
        self.checks[law].note(fault.said)
        known = any(one.kind == fault.kind and one.order == fault.order for one in self.faults)
        if not known and len(self.faults) < 1000:
            self.faults.append(fault)

    @property
    def first(self) -> Fault | None:
        """The first bad record, by topic, partition and offset, checkpoints last; None when the log is whole."""
        return min(self.faults, key=lambda fault: (fault.topic.endswith(AUDIT), fault.order), default=None)
