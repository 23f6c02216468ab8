"""Proof that the log is whole: a fold over its records that tells what is missing, altered, duplicated, out of order,
cut off or redacted, and names the first bad record.

Pure: whoever reads the log hands the records in, in the order of each partition, and asks for the findings at the end.
Nothing here trusts a counter of the product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas.chain import CHAIN, REDACTED
from schemas.partitioning import partition_of
from schemas.topics import key_of
from streams.proof.histories import Histories
from streams.proof.numbers import Numbers
from streams.proof.record import Fault, Findings, LogRecord
from streams.proof.redactions import Redactions
from streams.proof.seals import Seals

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
_FIXED = {"ce_specversion": "1.0", "content-type": "application/avro"}
Place = tuple[str, int]
Evolve = Callable[[str, Any, Mapping[str, Any], str], Any]
"""``(aggregate, state or None, body, event type) -> state``; raises what the rules raise."""


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


class Verifier:
    """Takes every record once and keeps what the laws need: ids, versions, numbers, chains, states.

    First the audit topic (:meth:`audit`, then :meth:`arrange`), then events and outcomes, then :meth:`judge`.
    """

    def __init__(
        self, evolve: Evolve, shards: Mapping[str, int], trusted: Mapping[str, bytes] | None = None
    ) -> None:
        """``shards``: aggregate → partitions of its topics. ``trusted``: the public keys that may sign, by id; None:
        those on the audit topic.
        """
        self.findings = Findings()
        self.events: dict[str, int] = {}
        self.outcomes: dict[str, int] = {}
        self.generations: dict[tuple[str, str], Generation] = {}
        self._evolve = evolve
        self._shards = shards
        self._seals = Seals(self.findings, trusted)
        self._numbers: dict[Place, Numbers] = {}
        self._histories: dict[Place, Histories] = {}
        self._states: dict[tuple[str, bytes], Any] = {}
        self._topics: dict[Place, list[str]] = {}
        self._redactions = Redactions(self.findings)

    # ---------------------------------------------------------------- what is handed in
    def audit(self, record: LogRecord) -> None:
        """Take a record of the audit topic."""
        self._seals.audit(record)

    def arrange(self) -> None:
        """Say that the audit topic is read."""
        for place, to in self._seals.arrange().items():
            numbers = self._numbers.setdefault(place, Numbers())
            numbers.told = max(numbers.told, to)

    def event(self, aggregate: str, record: LogRecord) -> None:
        """Take the next event of its partition."""
        self.events[aggregate] = self.events.get(aggregate, 0) + 1
        envelope = record.body.get("envelope") or {}
        if not self.findings.see(
            "decodable", bool(envelope), "altered", record,
            lambda: f"{record.place} cannot be decoded: {record.name}",
        ):  # fmt: skip
            self._unreadable(aggregate, record)
            return
        subject = key_of(envelope["tenant"], envelope["aggregate_id"])
        self._placed(aggregate, subject, record)
        agreed = self._agreed(aggregate, subject, envelope, record)
        version, sequence = envelope["version"], envelope["sequence"]
        if not agreed:
            # What was altered is not known: believe the key, and the header, so that nothing else is called missing.
            subject, version = _of_key(record.key) or (subject, version)
            sequence = _number(record.told("sequence"), sequence)
        place = (aggregate, record.partition)
        histories = self._histories.get(place)
        if histories is None:
            histories = self._histories[place] = Histories(self.findings, self._folding(aggregate))
        if REDACTED in record.headers:
            self._redactions.redacted(aggregate, subject, version, record)
        if histories.take(subject, version, record):
            self._number(place, sequence, record, event=True)
            self._seals.event(aggregate, record.partition, sequence, record.headers.get(CHAIN, b""))

    def outcome(self, aggregate: str, record: LogRecord) -> None:
        """Take the next outcome of its partition. A repeated answer has no number of its own."""
        self.outcomes[aggregate] = self.outcomes.get(aggregate, 0) + 1
        body = record.body
        if not self.findings.see(
            "decodable", bool(body), "altered", record,
            lambda: f"{record.place} cannot be decoded: {record.name}",
        ):  # fmt: skip
            return
        self._placed(aggregate, key_of(body["tenant"], body["aggregate_id"]), record)
        command_id = body.get("command_id", "").encode()
        self.findings.see(
            "envelope", record.key == command_id == record.headers.get("command-id"), "altered", record,
            lambda: f"{record.place} is not the answer to the command that it is called by",
        )  # fmt: skip
        if "replayed" in record.headers:
            return
        place = (aggregate, record.partition)
        self._number(place, body["sequence"], record, event=False)
        numbers = self._numbers[place]
        numbers.told_event = max(numbers.told_event, body.get("position", 0))
        self._seals.outcome(aggregate, record.partition, body["sequence"], record.value)

    def forgotten(self, aggregate: str, shard: int) -> None:
        """Note that the beginning of this outcomes partition was deleted: numbers before the first one left are gone."""
        self._numbers.setdefault((aggregate, shard), Numbers()).low = None

    def promise(self, aggregate: str, shard: int, sequence: int) -> None:
        """Note that the log was written up to this sequence, as somebody else knows."""
        numbers = self._numbers.setdefault((aggregate, shard), Numbers())
        numbers.told = max(numbers.told, sequence)

    # ---------------------------------------------------------------- the verdict
    def ceilings(self) -> dict[Place, int]:
        """Return the highest number seen or told of, by (aggregate, shard): what may be judged after a second reading."""
        return {place: max(numbers.top, numbers.told) for place, numbers in self._numbers.items()}

    def gaps(self) -> bool:
        """Return whether a number is missing so far; it may belong to a transaction that was read in halves."""
        return any(next(self._numbers[place].gaps(top), None) for place, top in self.ceilings().items())

    def judge(self, ceilings: Mapping[Place, int]) -> None:
        """Judge what only the end tells; numbers up to ``ceilings``, before which everything has been read."""
        for histories in self._histories.values():
            histories.finish()
        self._redactions.finish()
        for (aggregate, shard), top in sorted(ceilings.items()):
            self._judge_numbers(aggregate, shard, top)
        firsts = {place: numbers.low for place, numbers in self._numbers.items()}
        guilty = {
            place
            for place, topics in self._topics.items()
            if any(fault.topic in topics and fault.partition == place[1] for fault in self.findings.faults)
        }
        self._seals.finish(firsts, guilty)

    def _judge_numbers(self, aggregate: str, shard: int, top: int) -> None:
        numbers, check = self._numbers[aggregate, shard], self.findings.checks["sequences"]
        check.examined += max(top + 1 - (numbers.low or top + 1), 0)
        missing = list(numbers.gaps(top))
        for kind, cut_off in (("missing", False), ("truncated", True)):
            found = [number for number in missing if numbers.cut_off(number) is cut_off]
            if not found:
                continue
            at = numbers.last() if cut_off else numbers.neighbour(found[0])
            topics = self._topics.get((aggregate, shard), [f"{aggregate}.events"])
            topic = topics[0] if at is None or at >= 0 else topics[-1]
            offset = -1 if at is None else at if at >= 0 else ~at
            said = (
                f"{topic}/{shard} ends at offset {offset}: sequences {found[0]} to {found[-1]} are cut off"
                if cut_off
                else f"{topic}/{shard}/{offset}: nothing has sequence {found[0]}, which stands before it"
            )
            self.findings.blame("sequences", Fault(kind, topic, shard, offset, "", said))  # type: ignore[arg-type]  # one of two
            check.wrong += len(found) - 1

    # ---------------------------------------------------------------- the laws
    def _placed(self, aggregate: str, subject: bytes, record: LogRecord) -> None:
        wanted = partition_of(subject, self._shards[aggregate])
        self.findings.see(
            "partition", wanted == record.partition, "misplaced", record,
            lambda: f"{record.place} is about {subject.decode('utf-8', 'replace')}, which belongs to {wanted}",
        )  # fmt: skip

    def _agreed(self, aggregate: str, subject: bytes, envelope: Mapping[str, Any], record: LogRecord) -> bool:
        wanted = {header: str(envelope[name]) for header, name in _HEADERS.items()} | _FIXED
        wanted["ce_subject"] = subject.decode("utf-8", "replace")
        wanted["ce_type"] = record.kind
        wanted["ce_time"] = _time(envelope["at"])
        wanted["ce_source"] = f"/{envelope['writer'].partition('/node/')[0]}/{envelope['aggregate']}"
        if (traceparent := envelope.get("traceparent")) is not None:
            wanted["traceparent"] = traceparent
        wrong = [header for header, value in wanted.items() if record.headers.get(header) != value.encode()]
        key = b"%b/%020d/%b" % (subject, envelope["version"], envelope["event_id"].encode())
        if key != record.key:
            wrong.append("key")
        if envelope["aggregate"] != aggregate:
            wrong.append("aggregate")
        return self.findings.see(
            "envelope", not wrong, "altered", record,
            lambda: f"{record.place} disagrees with its envelope: {', '.join(wrong)}",
        )  # fmt: skip

    def _unreadable(self, aggregate: str, record: LogRecord) -> None:
        """Count a record that cannot be decoded as what its key and headers call it: it is altered, not missing."""
        place, found = (aggregate, record.partition), _of_key(record.key)
        if found is not None and place in self._histories:
            self._histories[place].take(*found, record)
        sequence = _number(record.told("sequence"), 0)
        if sequence:
            self._number(place, sequence, record, event=True)

    def _number(self, place: Place, sequence: int, record: LogRecord, *, event: bool) -> None:
        numbers = self._numbers.setdefault(place, Numbers())
        topics = self._topics.setdefault(place, [])
        if record.topic not in topics:
            topics.append(record.topic)
            topics.sort()  # events come before outcomes
        if numbers.low is None and not event:
            numbers.low = sequence
        if sequence in numbers.seen:
            said = f"{record.place} repeats sequence {sequence}"
            self.findings.accuse("sequences", "duplicated", record, said)
            return
        numbers.seen[sequence] = record.offset if event else ~record.offset
        last = numbers.last_event if event else numbers.last_outcome
        late = sequence < last and REDACTED not in record.headers
        self.findings.see(
            "order", not late, "reordered", record,
            lambda: f"{record.place} has sequence {sequence} and stands after {last}",
        )  # fmt: skip
        if event:
            numbers.last_event = max(last, sequence)
        else:
            numbers.last_outcome = max(last, sequence)

    def _folding(self, aggregate: str) -> Callable[[bytes, LogRecord], None]:
        def fold(subject: bytes, record: LogRecord) -> None:
            if not record.body:
                return
            if record.kind == "EventRedacted":
                self._redactions.vouched(aggregate, subject, record)
            complaint = ""
            try:
                state = self._states.get((aggregate, subject))
                self._states[aggregate, subject] = self._evolve(aggregate, state, record.body, record.kind)
            except Exception as error:  # noqa: BLE001 - whatever a rule raises is the finding
                complaint = f"{record.place} cannot be folded: {type(error).__name__}: {error}"
            self.findings.see("fold", not complaint, "unfoldable", record, lambda: complaint)
            if aggregate == "bookmark":
                self._bookmark(record.body["envelope"], record)

        return fold

    # ---------------------------------------------------------------- datasets
    def dataset(self, topic: str, partition: str, counted: int, found: int, ahead: int | None = 0) -> None:
        """Compare the records found in a partition with what the bookmark counts.

        ``ahead``: so many more may be there (their advance was rejected); None: any number (an attempt is writing).
        """
        most = found if ahead is None else counted + ahead
        check = self.findings.checks["datasets"]
        check.examined += 1
        if not counted <= found <= most:
            said = f"{topic}/{partition} holds {found} records, the bookmark counts {counted}"
            kind = "missing" if found < counted else "duplicated"
            self.findings.blame("datasets", Fault(kind, topic, int(partition), -1, "", said))  # type: ignore[arg-type]  # one of two

    def _bookmark(self, envelope: Mapping[str, Any], record: LogRecord) -> None:
        body, name = record.body, (envelope["tenant"], envelope["aggregate_id"])
        known = self.generations.get(name)
        match record.kind:
            case "GenerationStarted":
                self.generations[name] = Generation(body["generation"], body["topic_id"], body["starts"])
            case "BookmarkAdvanced" if known is not None:
                for partition, count in body["counts"].items():
                    known.counts[partition] = known.counts.get(partition, 0) + count
            case "BookmarkBegun" if known is not None:
                known.held = True
            case "BookmarkReleased" if known is not None:
                known.held = False
            case _:
                pass


def _of_key(key: bytes) -> tuple[bytes, int] | None:
    """Return subject and version that an event's key names."""
    subject, _, rest = key.rpartition(b"/")[0].rpartition(b"/")
    return (subject, int(rest)) if subject and rest.isdigit() else None


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise


def _time(ms: int) -> str:
    """Return a time as events' headers have it; of a time that no calendar has, nothing."""
    try:
        told = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return ""
    return told.replace("+00:00", "Z")
