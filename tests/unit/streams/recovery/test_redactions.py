"""A fold over events that were redacted, some of them more than once, is the fold over what was written."""

import random
import uuid
from hashlib import sha256
from typing import Any

import pytest

from schemas.chain import REDACTED, VALUE_HASH
from streams.proof.record import LogRecord as Proven
from streams.proof.verifier import Verifier
from tests.support.records import deposit
from tests.unit.streams.proof.whole import evolve
from tests.unit.streams.recovery.log import Log, LogRecord

EVENTS = "account.events"


def _written(chance: random.Random) -> Log:
    log = Log()
    for _ in range(8):
        log.commit(
            *[
                deposit(chance.randint(1, 9), 0, str(uuid.UUID(int=chance.getrandbits(128), version=4)), key)
                for key in (b"default/a", b"default/b")
            ]
        )
    return log


def _redact(log: Log, record: LogRecord, sent_at: int) -> LogRecord:
    """Put a redaction at the end of the log: of an event, or of an event that was redacted before."""
    codec = log.bench.codec
    headers = dict(record.headers_)
    headers.setdefault(VALUE_HASH, sha256(record.value_ or b"").digest())
    headers[REDACTED] = b"ada: asked for"
    schema = log.bench.catalogue.schema("flexcore.account.Deposited")
    body = {**codec.decode(record.value_ or b"")[1], "sent_at": sent_at}
    value = codec.encoder("account.events-flexcore.account.Deposited", schema)(body)
    redacted = LogRecord(value, record.key_, log.ends[EVENTS], list(headers.items()), record.at, EVENTS)
    log.topics[EVENTS].append(redacted)
    log.ends[EVENTS] += 2
    return redacted


def _clean(log: Log, chance: random.Random) -> None:
    """Remove some of the records that a later one has the key of, as the cleaner may: the oldest of each key first."""
    later: dict[Any, int] = {record.key_: record.offset_ for record in log.topics[EVENTS]}
    end = chance.randrange(log.ends[EVENTS] + 1)
    log.topics[EVENTS] = [
        one for one in log.topics[EVENTS] if one.offset_ >= end or later[one.key_] == one.offset_
    ]


@pytest.mark.parametrize("seed", range(60))
def test_redactions_are_folded_once_however_often_and_however_cleaned(seed: int) -> None:
    """Given events redacted up to three times in any order, and a cleaner that came so far, then every load is the same."""
    chance = random.Random(seed)
    log = _written(chance)
    before = log.load()
    written = list(log.topics[EVENTS])
    newest = {record.key_: record for record in written}
    for number, record in enumerate(chance.choices(written[:6], k=8)):
        newest[record.key_] = _redact(log, newest[record.key_], 1 + number)
    for _ in range(3):
        loaded = log.load()
        assert loaded.states == before.states
        assert loaded.trail.hashes() == before.trail.hashes()
        assert _faults(log) == []
        _clean(log, chance)


def _faults(log: Log) -> list[Any]:
    verifier = Verifier(evolve, {"account": 1})
    verifier.arrange()
    for topic, take in (("account.outcomes", verifier.outcome), (EVENTS, verifier.event)):
        for one in log.topics[topic]:
            name, body = log.bench.codec.decode(one.value_ or b"")
            headers = {header: raw or b"" for header, raw in one.headers_}
            take(
                "account",
                Proven(topic, 0, one.offset_, one.key_ or b"", one.value_ or b"", headers, name, body),
            )
    verifier.judge(verifier.ceilings())
    return verifier.findings.faults
