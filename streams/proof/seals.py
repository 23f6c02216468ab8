"""Checkpoints against the log: are they whole and signed, and do they vouch for what is there?"""

from bisect import bisect_left
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

from schemas.chain import START, framed, root_after
from streams.checkpoints import AUDIT_KEY, CHECKPOINT, Checkpoint, checkpoint_of, key_id_of, signed_by, unhex
from streams.proof.record import Findings, Kind, LogRecord


@dataclass(slots=True)
class _Range:
    """What one checkpoint covers, as far as it was found. The hash is checked, and what it was made of let go, when
    everything is there.
    """

    record: LogRecord
    checkpoint: Checkpoint
    events: dict[int, bytes] = field(default_factory=dict)
    outcomes: dict[int, bytes] = field(default_factory=dict)
    events_done: bool = False
    outcomes_done: bool = False


class Seals:
    """All checkpoints. First every record of the audit topic, then :meth:`arrange`, then the events and outcomes.

    ``trusted`` are the ids of the keys that may sign; None: every key that stands on the audit topic.
    """

    def __init__(self, findings: Findings, trusted: Mapping[str, bytes] | None = None) -> None:
        self.keys: dict[str, bytes] = dict(trusted or {})
        self._open = trusted is None
        self._findings = findings
        self._checks: dict[str, Callable[[bytes], bool]] = {}
        self._found: dict[bytes, LogRecord] = {}
        self._ranges: dict[tuple[str, int], list[_Range]] = {}
        self._tops: dict[tuple[str, int], list[int]] = {}
        self._broken: list[tuple[_Range, Kind, str]] = []

    def audit(self, record: LogRecord) -> None:
        """Take a record of the audit topic."""
        if record.name == AUDIT_KEY:
            public = unhex(record.body["public_key"])
            name = key_id_of(public)
            ok = record.key == f"key/{name}".encode() and record.body["key_id"] == name
            said = f"{record.place} is not the key it is called by"
            if self._findings.see("checkpoints", ok, "altered", record, lambda: said) and self._open:
                self.keys[name] = public
            return
        if record.name != CHECKPOINT:
            said = f"{record.place} cannot be decoded: {record.name}"
            self._findings.see("checkpoints", False, "altered", record, lambda: said)
            return
        known = self._found.setdefault(record.key, record)
        if known is not record:
            same = known.value == record.value
            said = f"{record.place} {'repeats' if same else 'contradicts'} the checkpoint {record.key.decode('utf-8', 'replace')}"
            self._findings.see(
                "checkpoints", False, "duplicated" if same else "altered", record, lambda: said
            )

    def arrange(self) -> dict[tuple[str, int], int]:
        """Judge the checkpoints among themselves; return the sequence up to which the last one of each shard vouches."""
        for record in self._found.values():
            checkpoint = checkpoint_of(record.body)
            wrong = partial(self._unsigned, record, checkpoint)
            if self._findings.see("checkpoints", not wrong(), "altered", record, wrong):
                place = checkpoint.aggregate, checkpoint.shard
                self._ranges.setdefault(place, []).append(_Range(record, checkpoint))
        for place, ranges in self._ranges.items():
            ranges.sort(key=lambda one: one.checkpoint.number)
            self._chained(ranges)
            self._tops[place] = [one.checkpoint.to for one in ranges]
        return {place: tops[-1] for place, tops in self._tops.items()}

    def event(self, aggregate: str, shard: int, sequence: int, chain: bytes) -> None:
        """Take the chain of an event."""
        one = self._range(aggregate, shard, sequence)
        if one is not None and not one.events_done:
            one.events[sequence] = chain
            if len(one.events) == one.checkpoint.events:
                self._judge_events(one)

    def outcome(self, aggregate: str, shard: int, sequence: int, value: bytes) -> None:
        """Take the value of an outcome."""
        one = self._range(aggregate, shard, sequence)
        if one is not None and not one.outcomes_done:
            one.outcomes[sequence] = value
            if len(one.outcomes) == one.checkpoint.outcomes:
                self._judge_outcomes(one)

    def finish(
        self, first_outcome: Mapping[tuple[str, int], int | None], guilty: Container[tuple[str, int]]
    ) -> None:
        """Judge what is incomplete. ``first_outcome`` is the first number from which outcomes must be there, by shard;
        None: they need not. Where a bad record is known already (``guilty``), no checkpoint is blamed for it.
        """
        for place, ranges in self._ranges.items():
            first = first_outcome.get(place, 1)
            for one in ranges:
                if not one.events_done:
                    self._judge_events(one)
                if not one.outcomes_done and first is not None and one.checkpoint.after + 1 >= first:
                    self._judge_outcomes(one)
        for one, kind, said in self._broken:
            if (one.checkpoint.aggregate, one.checkpoint.shard) in guilty:
                self._findings.checks["checkpoints"].note(said)
            else:
                self._findings.accuse("checkpoints", kind, one.record, said)

    # ---------------------------------------------------------------- the laws
    def _unsigned(self, record: LogRecord, checkpoint: Checkpoint) -> str:
        """Return what is wrong with the record itself."""
        if record.key != checkpoint.key:
            return f"{record.place} is not the checkpoint that its key names"
        if checkpoint.key_id not in self.keys:
            return f"{record.place} is signed by the unknown key {checkpoint.key_id}"
        if checkpoint.key_id not in self._checks:
            self._checks[checkpoint.key_id] = signed_by(self.keys[checkpoint.key_id])
        if not self._checks[checkpoint.key_id](record.value):
            return f"{record.place}: the signature does not fit the checkpoint"
        hashes = [
            unhex(text) for text in (checkpoint.previous, checkpoint.events_hash, checkpoint.outcomes_hash)
        ]
        if root_after(*hashes).hex() != checkpoint.root:
            return f"{record.place}: the root is not the hash of what it is made of"
        return ""

    def _chained(self, ranges: list[_Range]) -> None:
        number, to, root = 0, 0, START.hex()
        for one in ranges:
            checkpoint, record = one.checkpoint, one.record
            follows = checkpoint.number == number + 1
            if not follows:
                said = f"{record.place}: checkpoint {number + 1} of {checkpoint.aggregate}/{checkpoint.shard} is missing"
                self._findings.accuse("checkpoints", "missing", record, said)
            elif (checkpoint.after, checkpoint.previous) != (to, root):
                said = f"{record.place} does not go on from the checkpoint before it"
                self._findings.accuse("checkpoints", "altered", record, said)
            number, to, root = checkpoint.number, checkpoint.to, checkpoint.root

    def _judge_events(self, one: _Range) -> None:
        chains = b"".join(chain for _, chain in sorted(one.events.items()))
        self._judge(one, "events", chains, len(one.events), one.checkpoint.events, one.checkpoint.events_hash)
        one.events_done, one.events = True, {}

    def _judge_outcomes(self, one: _Range) -> None:
        values = framed(value for _, value in sorted(one.outcomes.items()))
        found, wanted = len(one.outcomes), one.checkpoint.outcomes
        self._judge(one, "outcomes", values, found, wanted, one.checkpoint.outcomes_hash)
        one.outcomes_done, one.outcomes = True, {}

    def _judge(self, one: _Range, what: str, hashed: bytes, found: int, wanted: int, hash_: str) -> None:
        checkpoint = one.checkpoint
        self._findings.checks["checkpoints"].examined += 1
        if sha256(hashed).hexdigest() == hash_:
            return
        where = (
            f"{checkpoint.aggregate}/{checkpoint.shard}, sequences {checkpoint.after + 1} to {checkpoint.to}"
        )
        if found < wanted:
            said = f"{one.record.place} vouches for {wanted} {what} of {where}, of which {found} are there"
            self._broken.append((one, "missing", said))
        else:
            said = f"{one.record.place} vouches for other {what} of {where} than are there"
            self._broken.append((one, "altered", said))

    def _range(self, aggregate: str, shard: int, sequence: int) -> _Range | None:
        tops = self._tops.get((aggregate, shard), [])
        at = bisect_left(tops, sequence)
        if at == len(tops):
            return None
        one = self._ranges[aggregate, shard][at]
        return one if sequence > one.checkpoint.after else None
