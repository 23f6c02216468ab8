"""Quarantine in memory: an owner of accounts that park, and people who redrive and drop what is there.

The owner, the fold of its successor, the view and the records that the edge writes are the product's own.
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.adapters.quarantine import KafkaQuarantine, redrive_id
from schemas.topics import Topics
from streams.domain.aggregate import Aggregate, Decision, Message
from streams.projections import quarantine
from streams.projections.quarantine import Entry, place_of
from streams.protocol.record import Record
from streams.shards.parked import Queue, Waiting
from streams.writer.staged import Staged
from tests.performance.account import AGGREGATE
from tests.support.messages import FakeMessage
from tests.support.records import Bench, deposit, record_of
from tests.unit.streams.recovery.log import Log

QUARANTINE = "account.quarantine"


@dataclass
class World:
    """One shard of accounts. ``bad`` are the amounts that the rules cannot take yet."""

    chunk: int = 2000
    aggregate: Aggregate = AGGREGATE
    bad: set[int] = field(default_factory=set)
    arrived: deque[Record] = field(default_factory=deque)
    staged: list[Staged] = field(default_factory=list)

    def __post_init__(self) -> None:
        def decide(message: Message, account: Any) -> Decision:
            if message.body.amount in self.bad:
                raise RuntimeError("a bug")
            return self.aggregate.decide(message, account)

        bench = Bench(replace(self.aggregate, decide=decide, parks=True), command_ids_max=1_000_000)
        self.log = Log(bench)
        self.edge = KafkaQuarantine({}, Topics(), 1, None, {}, {"account"})  # type: ignore[arg-type]  # reads no rows

    # ---------------------------------------------------------------- who sends
    def send(self, amount: int, account: str = "a", command_id: str | None = None) -> None:
        """A command arrives."""
        self.arrived.append(deposit(amount, 0, command_id, f"default/{account}".encode()))

    def garbage(self, account: str = "a") -> None:
        """A record arrives that is no command."""
        self.arrived.append(record_of(b"\xffgarbage", f"default/{account}".encode()))

    # ---------------------------------------------------------------- the owner
    def work(self, at_once: int = 128) -> None:
        """Decide everything that has arrived, and what is let go by it."""
        while self.arrived or self.log.bench.slice.released():
            self.step(at_once)

    def step(self, at_once: int = 128) -> None:
        """Commit one transaction, and read back what it lets go."""
        piece = self.log.bench.slice
        if piece.released() and not (self.arrived and isinstance(self.arrived[0], Waiting)):
            self._read_back()
        taken = [self.arrived.popleft() for _ in range(min(at_once, len(self.arrived)))]
        before = self.log.bench.slice.next
        staged = self.log.commit(*taken)
        self.staged.append(staged)
        assert staged.next >= before, "the offset goes back"
        decided = staged.commands
        self.arrived.extendleft(reversed(taken[decided:]))

    def _read_back(self) -> None:
        piece = self.log.bench.slice
        key = piece.released()
        assert key is not None
        queue = Queue(key, piece.parked[key], self.chunk, 1 << 20)
        queue.take([one for one in self._quarantine() if one.offset >= piece.parked[key].at])
        kept = [one for one in self.arrived if not isinstance(one, Waiting)]
        self.arrived = deque([*queue.waiting("account.commands", 0, piece.next - 1), *kept])
        piece.quarantined = self.log.ends.get(QUARANTINE, 0)

    def move(self) -> None:
        """Another node takes the shard over; what the old one had read back is forgotten."""
        self.arrived = deque(one for one in self.arrived if not isinstance(one, Waiting))
        self.log.bench.slice = self.log.load()

    # ---------------------------------------------------------------- people
    def rows(self, account: str | None = None) -> list[dict[str, Any]]:
        """Return the view of quarantine, in the order of the records' coming."""
        found: dict[str, Any] = {}
        for one in self._quarantine():
            headers = {name: (value or b"").decode() for name, value in one.headers().items()}
            place = (one.key or b"").decode()
            entry = Entry("account", place, one.value or b"", headers, 0, one.offset)
            row = quarantine.VIEW.fold(found.get(place), entry, None)
            found[place] = found.get(place) if row is None else row
        return [row for row in found.values() if account in (None, row["original_key"].partition("/")[2])]

    def redrive(self, row: dict[str, Any], *, noted: bool = True, data: Any = None) -> None:
        """Send a record again, as the edge does; ``noted`` False: the edge dies before it can note it."""
        found = next(one for one in self._quarantine() if one.offset == row["log_offset"])
        fresh = redrive_id(row)
        message: Any = FakeMessage(found.value, found.key, found.offset, found.header_list())
        _, _, key, same, told = self.edge._command(row, message, fresh, "ada")
        value = same if data is None else json.dumps(data).encode()
        headers = [*told] + ([("command-type", b"Deposit")] if data else [])
        self.arrived.append(record_of(value, key, 0, headers))
        if noted:
            self.note(row, b"", [("redriven-by", b"ada"), ("redrive-command-id", fresh.encode())])

    def drop(self, rows: Sequence[dict[str, Any]]) -> None:
        """Drop records, as the edge does: those that wait first."""
        for row in sorted(rows, key=lambda row: row["parked"] == "first"):
            if row["parked"] == "first":
                _, _, key, value, headers = self.edge._drop(row, "ada")
                self.arrived.append(record_of(value, key, 0, headers))
            self.note(row, b"", [("dropped-by", b"ada"), ("reason", b"a test")])

    def note(self, row: dict[str, Any], value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Write what was done beside a record."""
        offset = self.log.ends.get(QUARANTINE, 0)
        note = record_of(value, place_of(row).encode(), offset, headers, QUARANTINE)
        self.log.topics.setdefault(QUARANTINE, []).append(note)
        self.log.ends[QUARANTINE] = offset + 1

    # ---------------------------------------------------------------- what came of it
    def amounts(self, account: str = "a") -> list[int]:
        """Return what was put into an account, in the order of its events."""
        decode = self.log.bench.codec.decode
        return [
            decode(record.value or b"")[1]["amount"]
            for record in self.log.topics.get("account.events", [])
            if (record.key or b"").startswith(f"default/{account}/".encode())
        ]

    def outcomes(self) -> list[tuple[str, str | None]]:
        """Return status and reason of every outcome, in order."""
        decode = self.log.bench.codec.decode
        bodies = [decode(record.value or b"")[1] for record in self.log.topics["account.outcomes"]]
        return [(body["status"], body["reason"]) for body in bodies]

    def parked(self) -> dict[bytes, tuple[bytes, int]]:
        """Return who is parked, with what holds it up and how many wait."""
        return {key: (one.first, one.waiting) for key, one in self.log.bench.slice.parked.items()}

    def _quarantine(self) -> list[Record]:
        return self.log.topics.get(QUARANTINE, [])
