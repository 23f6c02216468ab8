"""Whatever is redacted, and however far snapshots and the cleaner have come: the owner and every load hold the same states."""

import random
import uuid
from typing import Any

import pytest

from schemas.chain import REDACTED
from streams.proof.record import LogRecord as Proven
from streams.proof.verifier import Verifier
from streams.recovery.snapshots import MARK_KEY
from tests.support.records import deposit
from tests.unit.streams.proof.whole import evolve
from tests.unit.streams.recovery.log import Log

EVENTS, SNAPSHOTS = "account.events", "account.snapshots"
KEYS = (b"default/a", b"default/b", b"default/c")


def _deposits(log: Log, chance: random.Random) -> None:
    ids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in KEYS]
    deposits = [deposit(chance.randint(1, 9), 0, one, chance.choice(KEYS)) for one in ids]
    log.commit(*deposits, closing=chance.random() < 0.3)  # then a checkpoint vouches for all before


def _redact(log: Log, chance: random.Random) -> None:
    """Redact an event, which may be redacted already."""
    record = chance.choice(log.topics[EVENTS])
    name, body = log.bench.codec.decode(record.value or b"")
    if name.endswith("Deposited"):
        key = (record.key or b"").rsplit(b"/", 2)[0]
        log.redact(key, body["envelope"]["sequence"], chance.choice(["balance", "sent_at"]), "balance")


def _clean(log: Log, topic: str, chance: random.Random) -> None:
    """Remove, before some offset, the records that a later one has the key of, as the cleaner does."""
    records = log.topics.get(topic, [])
    later = {record.key: record.offset for record in records}
    end = chance.randrange(log.ends.get(topic, 0) + 1)
    log.topics[topic] = [one for one in records if one.offset >= end or later[one.key] == one.offset]


def _known(log: Log) -> dict[bytes, int]:
    """Return the balances that a reader knows who takes the newest body of every event."""
    newest: dict[bytes, tuple[int, int]] = {}
    for record in log.topics[EVENTS]:
        name, body = log.bench.codec.decode(record.value or b"")
        if name.endswith("Deposited"):
            key, version = (record.key or b"").rsplit(b"/", 2)[0], body["envelope"]["version"]
            if version >= newest.get(key, (0, 0))[0]:
                newest[key] = (version, body["balance"])
    return {key: balance for key, (_, balance) in newest.items()}


def _faults(log: Log) -> list[Any]:
    verifier = Verifier(evolve, {"account": 1})
    verifier.arrange()
    for topic, take in (("account.outcomes", verifier.outcome), (EVENTS, verifier.event)):
        for one in log.topics[topic]:
            value, headers = one.value or b"", {name: raw or b"" for name, raw in one.headers().items()}
            name, body = log.bench.codec.decode(value)
            take("account", Proven(topic, 0, one.offset, one.key or b"", value, headers, name, body))
    verifier.judge(verifier.ceilings())
    return verifier.findings.faults


@pytest.mark.parametrize("seed", range(16))
def test_every_load_is_what_the_owner_holds(seed: int) -> None:
    """With deposits, redactions of any event, once or again, sweeps, and a cleaner that comes so far."""
    chance = random.Random(seed)
    log = Log()
    _deposits(log, chance)
    follower = log.follow()
    for _ in range(30):
        match chance.randrange(6):
            case 0 | 1:
                _deposits(log, chance)
            case 2 | 3:
                _redact(log, chance)
            case 4:
                log.cut()
                log.commit()
            case _:
                _clean(log, EVENTS, chance)
                _clean(log, SNAPSHOTS, chance)
        owner = log.bench.slice
        for loaded in (log.load(), log.load(with_snapshots=False)):
            assert loaded.states == owner.states
            assert (loaded.sequence, loaded.position) == (owner.sequence, owner.position)
            assert loaded.trail.hashes() == owner.trail.hashes()
        assert {key: entry.state.balance for key, entry in owner.states.items()} == _known(log)
        assert _faults(log) == []
    assert follower.finish().states == log.bench.slice.states


def test_a_snapshot_without_the_value_is_written_with_the_redaction() -> None:
    """Under the same key, so that the cleaner removes the one before; a mark of another fold is taken back."""
    log = Log()
    log.commit(deposit(7), deposit(2))
    log.cut()
    log.commit()
    log.redact(b"default/a", 4, "balance")
    *_, first, last = [record for record in log.topics[SNAPSHOTS] if record.key == b"default/a"]
    read = [log.codec.read_state(record.value or b"") for record in (first, last)]
    assert [(one[0], one[1].balance) for one in read if one is not None] == [(2, 9), (3, 0)]

    fresh = Log()
    fresh.commit(deposit(7))
    fresh.redact(b"default/a", 2, "balance")
    assert [record.key for record in fresh.topics[SNAPSHOTS]] == [MARK_KEY, b"default/a"]


def test_a_redaction_says_what_it_did_and_may_only_ask() -> None:
    """The reply names the event and what takes the place of its values; twice is the same as once."""
    log = Log()
    log.commit(deposit(7, 0, str(uuid.UUID(int=1))))
    dry = log.redact(b"default/a", 2, "balance", "sent_at", dry_run=True)
    done = log.redact(b"default/a", 2, "balance", "sent_at")
    (asked,), (told,) = ([log.bench.codec.decode(raw)[1] for raw in part.answers] for part in (dry, done))
    assert asked["reply"] == told["reply"]
    assert (asked["first_version"], told["first_version"]) == (0, 2)
    assert '"type":"Deposited","fields":{"balance":0}' in told["reply"]
    assert dry.events == 0
    first, redacted, said = log.topics[EVENTS]
    assert (redacted.key, redacted.headers()[REDACTED]) == (first.key, b"ada: asked for")
    event = log.bench.codec.decode(said.value or b"")[1]
    assert (event["version"], event["fields"], event["reason"]) == (1, ["balance"], "asked for")
    assert event["envelope"]["actor"] == "ada"
    assert log.redact(b"default/a", 2, "balance").events == 0


@pytest.mark.parametrize(
    ("sequence", "fields", "more", "reason", "detail"),
    [
        (9, ["balance"], {}, "not_found", "account a has no event with sequence 9"),
        (
            2,
            ["amount"],
            {},
            "invalid",
            "field amount cannot be redacted; of Deposited these may: balance, sent_at",
        ),
        (4, ["reason"], {}, "invalid", "field reason cannot be redacted; no field of EventRedacted may"),
        (2, [], {}, "invalid", "fields names nothing to redact; of Deposited these may: balance, sent_at"),
        (
            2,
            ["balance"],
            {"reason": " "},
            "invalid",
            "reason is empty: say why; it is kept, so name nobody in it",
        ),
    ],
)
def test_a_redaction_that_cannot_be_is_refused(
    sequence: int, fields: list[str], more: dict[str, Any], reason: str, detail: str
) -> None:
    """It names the field and what may be redacted instead."""
    log = Log()
    log.commit(deposit(7))
    log.redact(b"default/a", 2, "balance")
    (answer,) = (
        log.bench.codec.decode(raw)[1] for raw in log.redact(b"default/a", sequence, *fields, **more).answers
    )
    assert (answer["status"], answer["reason"], answer["detail"]) == ("rejected", reason, detail)
