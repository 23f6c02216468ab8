"""A whole log, written by the writer itself, as the proof reads it; and what the proof says about a changed one."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from schemas.chain import REDACTED, VALUE_HASH
from schemas.codec import Codec
from schemas.errors import FlexcoreSchemaError
from streams.proof.record import Findings, LogRecord
from streams.proof.verifier import Verifier
from streams.translation import from_record
from tests.performance.account import AGGREGATE, Deposited
from tests.support.records import deposit
from tests.unit.streams.recovery.log import Log


def evolve(_aggregate: str, state: Any, body: Any, kind: str) -> Any:
    """Fold an account."""
    if kind == "EventRedacted":
        return state
    assert kind == "Deposited"
    fields = {name: value for name, value in body.items() if name != "envelope"}
    return AGGREGATE.evolve(state or AGGREGATE.initial, from_record(Deposited, fields))


@dataclass
class Whole:
    """Records of the three topics, in the order of their offsets."""

    codec: Codec
    audit: list[LogRecord]
    events: list[LogRecord]
    outcomes: list[LogRecord]
    promised: int

    def judged(
        self,
        events: Sequence[LogRecord] | None = None,
        outcomes: Sequence[LogRecord] | None = None,
        audit: Sequence[LogRecord] | None = None,
        *,
        promised: bool = False,
    ) -> Findings:
        """Return what is found in the log, parts of it replaced."""
        verifier = Verifier(evolve, {"account": 1})
        for record in self.audit if audit is None else audit:
            verifier.audit(record)
        verifier.arrange()
        if promised:
            verifier.promise("account", 0, self.promised)
        for record in self.outcomes if outcomes is None else outcomes:
            verifier.outcome("account", record)
        for record in self.events if events is None else events:
            verifier.event("account", record)
        verifier.judge(verifier.ceilings())
        return verifier.findings

    def read(self, topic: str, offset: int, key: bytes, value: bytes, headers: dict[str, bytes]) -> LogRecord:
        """Return a record as it is read from the log."""
        try:
            name, body = self.codec.decode(value)
        except FlexcoreSchemaError as error:
            name, body = str(error), {}
        return LogRecord(topic, 0, offset, key, value, headers, name, body)

    def again(self, record: LogRecord, **changed: Any) -> LogRecord:
        """Return a record with other key, value, headers or offset."""
        known = {name: getattr(record, name) for name in ("offset", "key", "value", "headers")}
        return self.read(record.topic, **{**known, **changed})

    def redacted(self, record: LogRecord, offset: int) -> LogRecord:
        """Return a record that takes an event's place, though nobody decided so."""
        encode = self.codec.encoder("e", self.codec.registry.schema(int.from_bytes(record.value[1:5], "big")))
        value = encode({**record.body, "amount": 0, "sent_at": 0})
        headers = {**record.headers, REDACTED: b"ada: asked for", VALUE_HASH: sha256(record.value).digest()}
        return self.read(record.topic, offset, record.key, value, headers)


def whole_log(seed: int = 7, transactions: int = 12, redact: Sequence[int] = ()) -> Whole:
    """Return the log of a few accounts, with a checkpoint now and then, and a tail that none covers.

    ``redact``: the events, by their place, that are redacted at the end of it.
    """
    chance, log = random.Random(seed), Log()
    for number in range(transactions):
        records = []
        for _ in range(chance.randrange(1, 6)):
            command_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
            records.append(deposit(chance.randint(0, 9), 0, command_id, b"default/a%d" % chance.randrange(3)))
        log.commit(*records, closing=number % 4 == 3)
    log.commit(deposit(5, 0, str(uuid.UUID(int=1)), b"default/a0"))
    for place in redact:
        record = log.topics["account.events"][place]
        sequence = log.bench.codec.decode(record.value or b"")[1]["envelope"]["sequence"]
        log.redact((record.key or b"").rsplit(b"/", 2)[0], sequence, "balance")
    whole = Whole(log.bench.codec, [], [], [], log.bench.slice.sequence)
    for topic, found in (
        ("audit", whole.audit),
        ("account.events", whole.events),
        ("account.outcomes", whole.outcomes),
    ):
        for record in log.topics[topic]:
            headers = {name: value or b"" for name, value in record.headers().items()}
            found.append(whole.read(topic, record.offset, record.key or b"", record.value or b"", headers))
    return whole
