"""What is made from a run's events, compared with them: true of what the rules make, and each lie is seen."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_fields

from schemas.chain import CHAIN, REDACTED
from streams.aggregates import builtin
from streams.domain.run.events import StepClaimed
from streams.projections import run as view
from streams.projections.view import Row, meta_of
from streams.proof.derived import Rows, Snapshots
from streams.proof.record import LogRecord
from streams.recovery.snapshots import StateCodec
from streams.translation import to_record
from tests.support.pipeline_files import command
from tests.support.run_spec import created

RUN = next(aggregate for aggregate in builtin() if aggregate.name == "run")
STATES = StateCodec(RUN, b"rules--1")
KEY = b"default/r1"
EVENTS: list[Any] = list(created(command("a"), command("b", "a")).run("a", "b").log)


class Seen:
    """What was examined, and the sentences about what is wrong."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.examined = 0

    def __call__(self, who: tuple[str, str, int], law: str, ok: bool, place: str, said: str) -> bool:
        """Note it."""
        self.examined += 1
        if not ok:
            self.wrong.append(said)
        return ok


def record(version: int, event: Any) -> LogRecord:
    """Return an event of run ``r1`` as it is read; it stands at the offset of its version."""
    envelope: dict[str, Any] = dict.fromkeys(
        ("event_id", "command_id", "causation_id", "correlation_id", "actor", "writer"), ""
    )
    envelope |= {"tenant": "default", "aggregate": "run", "aggregate_id": "r1", "at": 0}
    envelope |= {"version": version, "sequence": version}
    body = {"envelope": envelope, **to_record(event)}
    name = f"flexcore.run.{type(event).__name__}"
    return LogRecord("run.events", 0, version, KEY, b"", {CHAIN: b"chain %d" % version}, name, body)


RECORDS = [record(number, event) for number, event in enumerate(EVENTS, 1)]


def state(version: int) -> Any:
    """Return what the first events make."""
    made = RUN.initial
    for event in EVENTS[:version]:
        made = RUN.evolve(made, event)
    return made


def row(version: int) -> Row:
    """Return the view's row after the first events."""
    made = None
    for event, told in zip(EVENTS[:version], RECORDS, strict=False):
        made = view.fold(
            made, event, meta_of(told.body["envelope"], told.kind, ("run.events", 0, told.offset))
        )
    assert made is not None
    return made


def snapshots(value: bytes | None, records: list[LogRecord]) -> Seen:
    """Judge the snapshot of a run."""
    seen = Seen()
    judge = Snapshots(RUN, STATES, seen)
    judge.snapshot(b"mark", b"...", "here")
    judge.snapshot(KEY, value, "here")
    for one in records:
        judge.event(one)
    judge.finish()
    return seen


def rows(found: Row | None, records: list[LogRecord], below: int) -> Seen:
    """Judge the row of a run, of a view that has read all offsets below."""
    seen = Seen()
    judge = Rows(RUN, {0: below}, seen)
    if found is not None:
        judge.row(found)
    for one in records:
        judge.event(one)
    judge.finish()
    return seen


@pytest.mark.parametrize("version", range(1, len(EVENTS) + 1))
def test_what_the_rules_make_is_what_they_made(version: int) -> None:
    """At whatever event the snapshot or the row was taken."""
    for seen in (
        snapshots(STATES.state(version, state(version), b"chain %d" % version), RECORDS),
        rows(row(version), RECORDS, version + 1),
    ):
        assert (seen.examined, seen.wrong) == (1, [])


def test_leases_and_progress_are_no_events() -> None:
    """Given a step at work that has sent a heartbeat, when its run is snapshotted, then the fold of its events is the same."""
    version = next(number for number, event in enumerate(EVENTS, 1) if isinstance(event, StepClaimed))
    run = state(version)
    busy = replace_fields(run.steps["a"], lease_until=99_000, records_out=7, progress="seven")
    kept = replace_fields(run, steps={**run.steps, "a": busy})
    seen = snapshots(STATES.state(version, kept, b"chain %d" % version), RECORDS)
    assert (seen.examined, seen.wrong) == (1, [])


LAST = len(EVENTS)
LIES: dict[str, Callable[[], Seen]] = {
    "its snapshot is not what": lambda: snapshots(
        STATES.state(LAST, state(LAST - 1), b"chain %d" % LAST), RECORDS
    ),
    "its snapshot is not what its": lambda: snapshots(STATES.state(LAST, state(LAST), b"another"), RECORDS),
    "its snapshot is of version": lambda: snapshots(STATES.state(LAST, state(LAST), b""), RECORDS[:-1]),
    "a damaged snapshot": lambda: snapshots(b"rubbish", RECORDS),
    "its row is not what": lambda: rows({**row(LAST), "error": "no"}, RECORDS, LAST + 1),
    "its row is of version": lambda: rows(row(LAST), RECORDS[:-1], LAST + 1),
    "and its row is of version 0": lambda: rows(None, RECORDS[:1], 2),
    "has read of its version": lambda: rows(row(LAST - 1), RECORDS, LAST + 1),
}


@pytest.mark.parametrize("said", LIES)
def test_a_lie_is_seen(said: str) -> None:
    """Another state, another history, a future, a hole."""
    seen = LIES[said]()
    assert len(seen.wrong) == 1, seen.wrong
    assert said in seen.wrong[0]


def test_what_cannot_be_compared_is_left_out() -> None:
    """Other rules' snapshots, removed ones, what the view has not read, and a run with a redacted event."""
    others = StateCodec(RUN, b"rules--0").state(LAST, state(1), b"")
    redacted = [replace(one, headers={**one.headers, REDACTED: b"ada: asked for"}) for one in RECORDS[1:2]]
    late = [*RECORDS[:1], *RECORDS[2:], *redacted]
    mine = STATES.state(LAST, state(LAST), b"chain %d" % LAST)
    for seen in (
        snapshots(others, RECORDS),
        snapshots(None, RECORDS),
        snapshots(mine, late),
        rows(None, RECORDS, 0),
        rows(row(LAST), late, LAST + 2),
    ):
        assert (seen.examined, seen.wrong) == (0, [])


def test_an_event_that_nobody_can_follow_is_somebody_elses_finding() -> None:
    """The comparison goes on without the run."""
    strange = next(number for number, event in enumerate(EVENTS) if isinstance(event, StepClaimed))
    broken = [*RECORDS]
    broken[strange] = replace(broken[strange], name="flexcore.run.StepInvented")
    assert snapshots(STATES.state(LAST, state(LAST), b""), broken).wrong == []
