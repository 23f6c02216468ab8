"""The proof must fail for every kind of broken log, and for none that is whole."""

from dataclasses import replace
from typing import Any

import pytest

from schemas.chain import START, link
from schemas.partitioning import partition_of
from streams.proof.record import LogRecord
from streams.proof.verifier import Verifier

SHARDS = 4


def evolve(_aggregate: str, state: Any, body: Any, kind: str) -> Any:
    """Fold by counting; one kind of event cannot be folded."""
    if kind == "Poison":
        raise ValueError("no rule for it")
    return (state or 0) + 1


def event(
    aggregate_id: str, version: int, sequence: int, kind: str = "Made", aggregate: str = "run"
) -> LogRecord:
    """Return an event as a writer would write it."""
    event_id = f"{aggregate}-{aggregate_id}-{version}"
    envelope = {
        "event_id": event_id,
        "tenant": "default",
        "aggregate": aggregate,
        "aggregate_id": aggregate_id,
        "version": version,
        "sequence": sequence,
        "command_id": "c",
        "causation_id": "",
        "correlation_id": "c",
        "actor": "ada",
        "source_offset": 7,
        "writer": "c/node/w",
        "at": 1,
    }
    headers = {
        "ce_id": event_id,
        "ce_type": kind,
        "ce_subject": f"default/{aggregate_id}",
        "command-id": "c",
        "causation-id": "",
        "correlation-id": "c",
        "actor": "ada",
        "writer": "c/node/w",
        "version": str(version),
        "sequence": str(sequence),
        "source-offset": "7",
        "ce_specversion": "1.0",
        "content-type": "application/avro",
        "ce_time": "1970-01-01T00:00:00.001Z",
        "ce_source": f"/c/{aggregate}",
    }
    key = f"default/{aggregate_id}/{version:020d}/{event_id}".encode()
    shard = partition_of(f"default/{aggregate_id}".encode(), SHARDS)
    body = {"envelope": envelope}
    raw = {name: value.encode() for name, value in headers.items()} | {
        "chain": chain(aggregate, aggregate_id, version)
    }
    name = f"flexcore.{aggregate}.{kind}"
    return LogRecord(f"{aggregate}.events", shard, sequence, key, key, raw, name, body)


def chain(aggregate: str, aggregate_id: str, version: int) -> bytes:
    """Return the chain of an event whose value is its key."""
    found = START
    for number in range(1, version + 1):
        key = f"default/{aggregate_id}/{number:020d}/{aggregate}-{aggregate_id}-{number}".encode()
        found = link(found, key, key)
    return found


def outcome(aggregate_id: str, sequence: int, **headers: str) -> LogRecord:
    """Return the outcome of a command to that aggregate."""
    shard = partition_of(f"default/{aggregate_id}".encode(), SHARDS)
    body = {
        "tenant": "default",
        "aggregate_id": aggregate_id,
        "sequence": sequence,
        "status": "accepted",
        "command_id": "c",
    }
    raw = {"command-id": b"c", **{name: value.encode() for name, value in headers.items()}}
    return LogRecord("run.outcomes", shard, sequence, b"c", b"", raw, "flexcore.common.Outcome", body)


def judged(events: list[LogRecord], outcomes: list[LogRecord], forgotten: bool = False) -> dict[str, str]:
    """Return the first complaint of each broken law."""
    verifier = Verifier(evolve, {"run": SHARDS, "bookmark": SHARDS})
    if forgotten:
        for shard in range(SHARDS):
            verifier.forgotten("run", shard)
    for record in outcomes:
        verifier.outcome("run", record)
    for record in events:
        verifier.event("run", record)
    verifier.judge(verifier.ceilings())
    return {check.name: check.first for check in verifier.findings.checks.values() if check.wrong}


WHOLE_EVENTS = [event("x", 1, 2), event("x", 2, 4), event("x", 3, 5)]
WHOLE_OUTCOMES = [outcome("x", 1), outcome("x", 3), outcome("x", 6)]


def test_a_whole_log_breaks_no_law() -> None:
    """Events and outcomes share one numbering."""
    assert judged(WHOLE_EVENTS, WHOLE_OUTCOMES) == {}


def test_a_repeated_answer_is_no_duplicate() -> None:
    """The answer to a command that was sent again carries the number of the first."""
    assert judged(WHOLE_EVENTS, [*WHOLE_OUTCOMES, outcome("x", 3, replayed="1")]) == {}


def test_outcomes_that_retention_deleted_are_not_missed() -> None:
    """Numbers before the first outcome left cannot be judged; later gaps still are."""
    assert judged(WHOLE_EVENTS, WHOLE_OUTCOMES[1:], forgotten=True) == {}
    assert set(judged([*WHOLE_EVENTS, event("x", 4, 9)], WHOLE_OUTCOMES[1:], forgotten=True)) == {"sequences"}


def changed(record: LogRecord, **envelope: Any) -> LogRecord:
    return replace(record, body={"envelope": {**record.body["envelope"], **envelope}})


@pytest.mark.parametrize(
    ("events", "outcomes", "law"),
    [
        (WHOLE_EVENTS[:1] + WHOLE_EVENTS[2:], WHOLE_OUTCOMES, "versions"),
        (WHOLE_EVENTS[:2], WHOLE_OUTCOMES, "sequences"),
        (WHOLE_EVENTS, WHOLE_OUTCOMES[:1] + WHOLE_OUTCOMES[2:], "sequences"),
        ([*WHOLE_EVENTS, WHOLE_EVENTS[2]], WHOLE_OUTCOMES, "unique"),
        ([*WHOLE_EVENTS, event("x", 4, 5)], WHOLE_OUTCOMES, "sequences"),
        ([*WHOLE_EVENTS[:2], replace(WHOLE_EVENTS[2], partition=(WHOLE_EVENTS[2].partition + 1) % SHARDS)],
         WHOLE_OUTCOMES, "partition"),
        ([*WHOLE_EVENTS[:2], changed(WHOLE_EVENTS[2], actor="eve")], WHOLE_OUTCOMES, "envelope"),
        ([*WHOLE_EVENTS[:2], replace(WHOLE_EVENTS[2], key=b"default/x/3/e")], WHOLE_OUTCOMES, "envelope"),
        ([*WHOLE_EVENTS[:2], replace(WHOLE_EVENTS[2], body={}, name="no schema 9")], WHOLE_OUTCOMES, "decodable"),
        ([*WHOLE_EVENTS[:2], event("x", 3, 5, "Poison")], WHOLE_OUTCOMES, "fold"),
    ],
    ids=["lost event", "lost last event", "lost outcome", "repeated event", "repeated number", "misplaced",
         "changed actor", "changed key", "garbage", "unfoldable"],
)  # fmt: skip
def test_a_broken_log_is_told_with_the_record(
    events: list[LogRecord], outcomes: list[LogRecord], law: str
) -> None:
    """Each fault breaks its law, and the complaint says where."""
    complaints = judged(events, outcomes)
    assert law in complaints
    assert complaints[law]


def test_a_gap_at_the_end_is_judged_only_after_a_second_reading() -> None:
    """A transaction may be read in halves; what was there before is not excused by that."""
    verifier = Verifier(evolve, {"run": SHARDS})
    verifier.event("run", WHOLE_EVENTS[0])
    assert verifier.gaps()
    ceilings = verifier.ceilings()
    verifier.outcome("run", outcome("x", 1))
    verifier.event("run", event("x", 2, 4))
    verifier.judge(ceilings)
    assert [check.name for check in verifier.findings.checks.values() if check.wrong] == []


def bookmark(version: int, kind: str, **fields: Any) -> LogRecord:
    record = event("copy/read", version, version, kind, "bookmark")
    return replace(record, body={**record.body, **fields})


@pytest.mark.parametrize(
    ("found", "ahead", "broken"),
    [
        (30, 0, False),
        (29, 0, True),
        (31, 0, True),
        (35, 5, False),
        (36, 5, True),
        (99, None, False),
        (29, None, True),
    ],
)
def test_a_dataset_holds_what_its_bookmark_counts(found: int, ahead: int | None, broken: bool) -> None:
    """Refused advances and attempts at work may be ahead; fewer records than counted are always wrong."""
    verifier = Verifier(evolve, {"bookmark": SHARDS})
    verifier.event("bookmark", bookmark(1, "BookmarkBegun"))
    started = bookmark(2, "GenerationStarted", generation="g", topic_id="t", starts={"0": 5})
    verifier.event("bookmark", started)
    verifier.event("bookmark", bookmark(3, "BookmarkAdvanced", counts={"0": 10}))
    verifier.event("bookmark", bookmark(4, "BookmarkAdvanced", counts={"0": 20}))
    assert verifier.generations["default", "copy/read"].held
    verifier.event("bookmark", bookmark(5, "BookmarkReleased"))
    one = verifier.generations["default", "copy/read"]
    assert (one.held, one.starts, one.counts) == (False, {"0": 5}, {"0": 30})
    verifier.dataset("dataset.default.copy.read", "0", one.counts["0"], found, ahead)
    assert bool(verifier.findings.checks["datasets"].wrong) is broken
