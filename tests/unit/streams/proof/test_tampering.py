"""A log that the writer has written is whole; whatever is done to it is called by its name, with the first bad record."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.proof.record import Findings, LogRecord
from tests.unit.streams.proof.whole import Whole, whole_log

WHOLE = whole_log()
LAST = len(WHOLE.events) - 1


def told(findings: Findings) -> dict[str, str]:
    """Return the first fault of each kind, as ``topic/offset``."""
    found: dict[str, str] = {}
    for fault in sorted(findings.faults, key=lambda fault: fault.order):
        found.setdefault(fault.kind, f"{fault.topic}/{fault.offset}")
    return found


def place(record: LogRecord) -> str:
    return f"{record.topic}/{record.offset}"


def test_what_the_writer_writes_is_whole() -> None:
    """Every law is examined, and none is broken."""
    findings = WHOLE.judged(promised=True)
    assert findings.faults == []
    assert findings.redacted == []
    examined = {name: check.examined for name, check in findings.checks.items()}
    assert all(examined[name] > 5 for name in examined if name not in ("redactions", "datasets"))


@pytest.mark.parametrize("at", range(LAST))
def test_a_missing_event_is_missed(at: int) -> None:
    """Whichever it is, but for the last: what comes after it is named."""
    events = WHOLE.events[:at] + WHOLE.events[at + 1 :]
    findings = WHOLE.judged(events)
    assert set(told(findings)) <= {"missing"}
    assert findings.first is not None
    assert findings.first.offset >= WHOLE.events[at].offset or findings.first.topic != "account.events"


def test_a_missing_outcome_is_missed() -> None:
    """Outcomes share the numbers of the events."""
    assert set(told(WHOLE.judged(outcomes=WHOLE.outcomes[:3] + WHOLE.outcomes[4:]))) == {"missing"}


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_a_cut_off_end_is_told_from_a_hole(count: int) -> None:
    """Outcomes, checkpoints and the writer's own books know how long the log was."""
    events = WHOLE.events[:-count]
    findings = WHOLE.judged(events, promised=True)
    assert told(findings) == {"truncated": place(events[-1])}
    both = WHOLE.judged(events, WHOLE.outcomes[:-count], promised=True)
    assert set(told(both)) == {"truncated"}


@pytest.mark.parametrize("at", range(LAST + 1))
def test_a_repeated_event_is_a_duplicate(at: int) -> None:
    """The second one is named."""
    again = WHOLE.again(WHOLE.events[at], offset=1000)
    assert told(WHOLE.judged([*WHOLE.events, again])) == {"duplicated": "account.events/1000"}


@pytest.mark.parametrize("at", range(LAST))
def test_events_that_changed_places_are_reordered(at: int) -> None:
    """The one that now comes too late is named."""
    one, other = WHOLE.events[at : at + 2]
    swapped = [WHOLE.again(other, offset=one.offset), WHOLE.again(one, offset=other.offset)]
    events = WHOLE.events[:at] + swapped + WHOLE.events[at + 2 :]
    assert told(WHOLE.judged(events)) == {"reordered": place(other)}


def test_another_value_under_the_same_key_is_altered() -> None:
    """A later record would win when the cleaner runs: it is no retry and no redaction."""
    redacted = WHOLE.redacted(WHOLE.events[4], 1000)
    other = WHOLE.again(redacted, headers=WHOLE.events[4].headers)
    assert told(WHOLE.judged([*WHOLE.events, other])) == {"altered": "account.events/1000"}


@pytest.mark.parametrize("cleaned", [False, True])
@pytest.mark.parametrize("at", [0, 5, LAST])
def test_a_redacted_event_is_told_from_an_altered_one(at: int, *, cleaned: bool) -> None:
    """Before and after the cleaner has removed what it was."""
    whole = whole_log(redact=[at])
    if cleaned:
        del whole.events[at]
    findings = whole.judged(promised=True)
    assert findings.faults == []
    assert findings.checks["redactions"].examined == 2
    assert findings.redacted == [f"{WHOLE.events[at].key.decode()} ada: asked for"]


def _spoilt(record: LogRecord) -> Iterator[LogRecord]:
    for name in ("redacted", "value-hash"):
        yield WHOLE.again(record, headers={**record.headers, name: b""})
    yield WHOLE.again(record, headers={**record.headers, "value-hash": bytes(32)})
    yield WHOLE.again(record, headers={**record.headers, "chain": bytes(32)})


REDACTED = whole_log(redact=[5])


@pytest.mark.parametrize("spoilt", list(_spoilt(REDACTED.events[-2])))
def test_a_redaction_without_its_certificate_is_an_alteration(spoilt: LogRecord) -> None:
    """Reason and approver, the hash of what it was, and its chain."""
    events = [*REDACTED.events[:-2], spoilt, REDACTED.events[-1]]
    assert told(REDACTED.judged(events)) == {"altered": place(spoilt)}
    assert "altered" in told(REDACTED.judged(events[:5] + events[6:]))


def test_what_is_left_of_a_redacted_event_is_proved() -> None:
    """Its aggregate says in an event of its own, which is chained and signed as all are, what was put in its place."""
    *first, redacted, said = REDACTED.events
    encode = WHOLE.codec.encoder("e", WHOLE.codec.registry.schema(int.from_bytes(redacted.value[1:5], "big")))
    other = REDACTED.again(redacted, value=encode({**redacted.body, "amount": 7}))
    assert told(REDACTED.judged([*first, other, said])) == {"altered": place(redacted)}
    assert told(REDACTED.judged([*first, said])) == {"missing": place(said)}


def test_a_redaction_that_nobody_decided_is_an_alteration() -> None:
    """Whoever can write to the topic can write any header."""
    forged = WHOLE.redacted(WHOLE.events[5], 1000)
    assert told(WHOLE.judged([*WHOLE.events, forged])) == {"altered": "account.events/1000"}


def _flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8 % len(raw)] ^= 1 << bit % 8
    return bytes(changed)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, LAST), st.integers(0, 1 << 16), st.data())
def test_no_bit_of_an_event_can_be_flipped_unseen(at: int, bit: int, data: st.DataObject) -> None:
    """Key, value or any header: the record is named, and called altered."""
    record = WHOLE.events[at]
    part = data.draw(
        st.sampled_from(["key", "value", *(name for name, raw in record.headers.items() if raw)])
    )
    if part in ("key", "value"):
        changed = WHOLE.again(record, **{part: _flipped(getattr(record, part), bit)})
    else:
        changed = WHOLE.again(record, headers={**record.headers, part: _flipped(record.headers[part], bit)})
    events = [*WHOLE.events[:at], changed, *WHOLE.events[at + 1 :]]
    findings = WHOLE.judged(events)
    assert told(findings)["altered"] == place(record)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(WHOLE.audit) - 1), st.integers(0, 1 << 16), st.sampled_from(["key", "value"]))
def test_no_bit_of_a_checkpoint_can_be_flipped_unseen(at: int, bit: int, part: str) -> None:
    """Its signature, or its key's name, no longer fits."""
    record = WHOLE.audit[at]
    changed = WHOLE.again(record, **{part: _flipped(getattr(record, part), bit)})
    findings = WHOLE.judged(audit=[*WHOLE.audit[:at], changed, *WHOLE.audit[at + 1 :]])
    assert {fault.topic for fault in findings.faults} == {"audit"}
    assert "altered" in told(findings)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 8), st.integers(0, 1 << 16), st.sampled_from(["key", "value"]))
def test_no_bit_of_an_outcome_that_a_checkpoint_covers_can_be_flipped_unseen(
    at: int, bit: int, part: str
) -> None:
    """It may still be decoded: the checkpoint knows better."""
    record = WHOLE.outcomes[at]
    changed = WHOLE.again(record, **{part: _flipped(getattr(record, part), bit)})
    findings = WHOLE.judged(outcomes=[*WHOLE.outcomes[:at], changed, *WHOLE.outcomes[at + 1 :]])
    assert findings.faults


def _rewritten(whole: Whole, forge: Callable[[bytes], bytes]) -> list[LogRecord]:
    from schemas.chain import START, link

    heads: dict[bytes, bytes] = {}
    events = []
    for number, record in enumerate(whole.events):
        subject = record.key.rsplit(b"/", 2)[0]
        value = forge(record.value) if number == 4 else record.value
        heads[subject] = link(heads.get(subject, START), record.key, value)
        events.append(whole.again(record, value=value, headers={**record.headers, "chain": heads[subject]}))
    return events


def test_who_rewrites_all_chains_cannot_sign_the_checkpoints() -> None:
    """The forger has recomputed everything that can be computed without a key."""
    encode = WHOLE.codec.encoder(
        "e", WHOLE.codec.registry.schema(int.from_bytes(WHOLE.events[4].value[1:5], "big"))
    )
    richer = {**WHOLE.events[4].body, "balance": 1_000_000}
    findings = WHOLE.judged(_rewritten(WHOLE, lambda _: encode(richer)))
    assert told(findings)["altered"].startswith("audit/")
    assert "vouches for other events" in findings.checks["checkpoints"].first


def test_a_missing_checkpoint_is_missed() -> None:
    """They are numbered, and each holds the root of the one before it."""
    audit = [record for record in WHOLE.audit if not record.key.endswith(b"/%020d" % 2)]
    assert "missing" in told(WHOLE.judged(audit=audit))


def test_a_key_that_nobody_trusts_signs_nothing() -> None:
    """Whoever can write to the audit topic can put a key there: who verifies may bring the keys along."""
    from streams.proof.verifier import Verifier
    from tests.unit.streams.proof.whole import evolve

    verifier = Verifier(evolve, {"account": 1}, trusted={})
    for record in WHOLE.audit:
        verifier.audit(record)
    verifier.arrange()
    assert "signed by the unknown key" in verifier.findings.checks["checkpoints"].first
