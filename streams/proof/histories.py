"""The histories of the aggregates of one partition: versions, chains, repeats and redactions."""

from collections.abc import Callable, Iterator
from hashlib import sha256

from schemas.chain import CHAIN, REDACTED, START, VALUE_HASH, link, link_of_hash
from streams.proof.record import Findings, LogRecord

_PREFIX_BYTES = 8


class Histories:
    """Takes the events of one partition in the order of their offsets; gives them back in the order of their versions.

    An event whose predecessor is not there yet waits: the record of a redacted event stands behind its successors once
    the cleaner has removed the first one. ``release`` gets every event once, when its turn has come.
    """

    def __init__(self, findings: Findings, release: Callable[[bytes, LogRecord], None]) -> None:
        self._findings = findings
        self._release = release
        self._heads: dict[bytes, tuple[int, tuple[bytes, ...]]] = {}
        self._waiting: dict[bytes, dict[int, LogRecord]] = {}
        self._known: dict[bytes, bytes] = {}

    def take(self, subject: bytes, version: int, record: LogRecord) -> bool:
        """Take the next event. False for one that is there already: it is no event of its own."""
        findings = self._findings
        identity = record.key.rpartition(b"/")[2]
        redacted = REDACTED in record.headers
        # Of a redacted event what it was: it may be the first that is left of several redactions.
        digest = record.headers.get(VALUE_HASH, b"") if redacted else sha256(record.value).digest()
        told = digest[:_PREFIX_BYTES] + record.headers.get(CHAIN, b"")[:_PREFIX_BYTES]
        known = self._known.get(identity)
        if redacted:
            self._redaction(record, known is None or known == told)
        if known is not None:
            findings.checks["unique"].examined += 1
            if not redacted:
                self._repeat(record, known == told)
            return False
        self._known[identity] = told
        head = self._heads.get(subject, (0, (START,)))[0]
        fresh = version > head and version not in self._waiting.get(subject, ())
        findings.see(
            "unique", fresh, "duplicated", record,
            lambda: f"{record.place} is a second version {version} of {subject.decode('utf-8', 'replace')}",
        )  # fmt: skip
        if not fresh:
            return False
        self._waiting.setdefault(subject, {})[version] = record
        self._drain(subject)
        return True

    def finish(self) -> None:
        """Judge what still waits: nothing of what it waits for has come."""
        for subject in sorted(self._waiting):
            waiting = self._waiting[subject]
            while waiting:
                version = min(waiting)
                head = self._heads.get(subject, (0, (START,)))[0]
                record, name = waiting[version], subject.decode("utf-8", "replace")
                said = f"{record.place}: {name} goes from version {head} to {version}"
                self._findings.see("versions", False, "missing", record, lambda said=said: said)  # type: ignore[misc]  # bound now
                # Its own chain cannot be checked any more, that of the next one can.
                self._advance(subject, version, waiting.pop(version), ())
                self._drain(subject)

    def _drain(self, subject: bytes) -> None:
        waiting = self._waiting[subject]
        version, chains = self._heads.get(subject, (0, (START,)))
        while (record := waiting.pop(version + 1, None)) is not None:
            version += 1
            self._findings.checks["versions"].examined += 1
            self._advance(subject, version, record, chains)
            chains = self._heads[subject][1]
        if not waiting:
            del self._waiting[subject]

    def _advance(self, subject: bytes, version: int, record: LogRecord, before: tuple[bytes, ...]) -> None:
        """Check an event's chain. When it is wrong, the one it should have had counts too: only one record is blamed."""
        said = record.headers.get(CHAIN, b"")
        computed = tuple(_links(before, record))
        if before:
            whole = said in computed
            self._findings.see(
                "chain", whole, "altered", record,
                lambda: f"{record.place} is not what its chain says: key, value or chain was altered",
            )  # fmt: skip
            self._heads[subject] = (version, (said,) if whole else (said, *computed))
        else:
            self._heads[subject] = (version, (said,))
        self._release(subject, record)

    def _repeat(self, record: LogRecord, same: bool) -> None:
        event_id = record.key.rpartition(b"/")[2].decode("utf-8", "replace")
        if same:
            self._findings.accuse(
                "unique", "duplicated", record, f"{record.place} repeats the event {event_id}"
            )
        else:
            self._findings.accuse(
                "unique", "altered", record, f"{record.place} says something else under the key of {event_id}"
            )

    def _redaction(self, record: LogRecord, same: bool) -> None:
        value_hash = record.headers.get(VALUE_HASH, b"")
        reason = record.headers.get(REDACTED, b"")
        fits = same and len(value_hash) == len(START) and bool(reason)
        self._findings.see(
            "redactions", fits, "altered", record,
            lambda: f"{record.place} is no redaction of the event that its key names",
        )  # fmt: skip
        if fits:
            self._findings.redacted.append(
                f"{record.key.decode('utf-8', 'replace')} {reason.decode('utf-8', 'replace')}"
            )


def _links(before: tuple[bytes, ...], record: LogRecord) -> Iterator[bytes]:
    value_hash = record.headers.get(VALUE_HASH) if REDACTED in record.headers else None
    for chain in before:
        if value_hash is None:
            yield link(chain, record.key, record.value)
        else:
            yield link_of_hash(chain, record.key, value_hash)
