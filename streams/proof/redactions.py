"""Redacted events against the events that say so: every redaction was asked for, and every one that was is there."""

from hashlib import sha256

from streams.proof.record import Findings, LogRecord

_Event = tuple[str, bytes, int]


class Redactions:
    """Takes what stands in the place of redacted events, and the chained events that vouch for it; in the log's order."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._found: dict[_Event, LogRecord] = {}
        self._wanted: dict[_Event, LogRecord] = {}

    def redacted(self, aggregate: str, subject: bytes, version: int, record: LogRecord) -> None:
        """Take a redacted event; the last one stands."""
        self._found[aggregate, subject, version] = record

    def vouched(self, aggregate: str, subject: bytes, record: LogRecord) -> None:
        """Take an event that says that an earlier one of its aggregate was redacted."""
        self._wanted[aggregate, subject, record.body["version"]] = record

    def finish(self) -> None:
        """Compare."""
        for name, record in self._found.items():
            told = self._wanted.get(name)
            ok = told is not None and told.body["value_hash"] == sha256(record.value).hexdigest()
            said = (
                f"{record.place} is not what any event of its aggregate says was put in the place of its key"
            )
            self._findings.see("redactions", ok, "altered", record, lambda said=said: said)  # type: ignore[misc]  # bound now
        for name in self._wanted.keys() - self._found.keys():
            told = self._wanted[name]
            said = f"{told.place} says that version {told.body['version']} was redacted, and it was not"
            self._findings.accuse("redactions", "missing", told, said)
