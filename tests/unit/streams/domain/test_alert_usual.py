"""What is told when a run is not as usual: late, with too few or too many records, or with records in quarantine."""

from typing import Any

import pytest

from streams.domain.alert.commands import NoteRunEnded, NoteRunStarted, ResolveIncident, SetAlerts
from streams.domain.alert.declaration import AGGREGATE
from streams.domain.alert.events import (
    AlertsSet,
    IncidentOpened,
    IncidentRepeated,
    IncidentResolved,
    RunSeen,
)
from streams.domain.alert.evolve import INCIDENTS_MAX, SAMPLES_MAX
from tests.support.spec import Spec

MINUTE = 60_000


def spec(rule: str, *usual: int | None, took_ms: int = 20 * MINUTE) -> Spec:
    """Return alerts with this rule (a JSON object's inside) after runs that moved so many records; it is 2 s now."""
    told = Spec(AGGREGATE, "customers").given(AlertsSet(f'[{{"notify":"mail",{rule}}}]', 1_000)).at(2_000)
    return told.given(
        *(RunSeen(f"u{n}", "succeeded", 1_500, took_ms, records) for n, records in enumerate(usual))
    )


def ended(run_id: str, records: int | None = None, **more: Any) -> NoteRunEnded:
    """Return the end of a run that succeeded within 20 minutes."""
    return NoteRunEnded(run_id, "succeeded", None, 20 * MINUTE, records, **more)


def outcome(told: Spec, command: NoteRunEnded) -> list[str]:
    """Return what becomes of incidents when the run ends: sentences, ids of the repeated, names of the rest."""
    _, *events = told.do(command)
    return [event.detail if isinstance(event, IncidentOpened) else type(event).__name__ for event in events]


def test_a_run_is_late_when_it_takes_twice_as_long_as_usual() -> None:
    """It is told while it runs, once, and its end resolves that; what is usual is a median: one long night is none."""
    told = spec('"on":"late"', *[None] * 5, took_ms=20 * MINUTE + 7).given(
        RunSeen("long", "succeeded", 1_600, 900 * MINUTE)
    )
    told.when(NoteRunStarted("r1")).then(RunSeen("r1", "running", 2_000))
    assert told.tick(2_000 + 40 * MINUTE + 13) == ()
    (opened,) = told.tick(2_000 + 40 * MINUTE + 14)
    assert (opened.on, opened.run_id, opened.notify) == ("late", "r1", "mail")
    assert opened.detail == "run r1 has been running for 40m; 20m is usual"
    assert told.tick(2_000 + 400 * MINUTE) == ()
    _, resolved = told.do(NoteRunEnded("r1", "failed"))
    assert resolved == IncidentResolved(opened.incident, "run r1 failed", "mail", 2_000 + 400 * MINUTE)


def test_a_run_that_ends_while_there_are_no_rules_is_not_late_for_ever_after() -> None:
    """Rules that are set again find no run that is long over."""
    told = spec('"after":"30m","on":"late"')
    rules = told.state.rules_text
    told.do(NoteRunStarted("r1"))
    told.do(SetAlerts("[]"))
    assert [type(event) for event in told.do(ended("r1"))] == [RunSeen]
    told.do(SetAlerts(rules))
    assert AGGREGATE.due(told.state) is None


def test_more_late_runs_than_incidents_are_kept_are_told_once_each() -> None:
    """One that somebody has resolved is not late a second time either."""
    told = spec('"after":"30m","on":"late"')
    told.given(*(RunSeen(f"r{n}", "running", 2_000) for n in range(INCIDENTS_MAX + 20)))
    assert len(told.tick(2_000 + 30 * MINUTE)) == INCIDENTS_MAX + 20
    told.do(ResolveIncident(next(reversed(told.state.incidents))))
    assert AGGREGATE.due(told.state) is None


def test_nobody_is_late_while_too_few_runs_are_known() -> None:
    """Unless the rule says after how long; that stands when more is known, too."""
    four = spec('"on":"late"', *[None] * 4).given(RunSeen("r1", "running", 2_000))
    assert AGGREGATE.due(four.state) is None
    told = spec('"after":"30m","factor":3,"on":"late"').given(RunSeen("r1", "running", 2_000))
    assert AGGREGATE.due(told.state) == 2_000 + 30 * MINUTE
    told.given(*(RunSeen(f"u{n}", "succeeded", 3_000, 5 * MINUTE) for n in range(5)))
    assert AGGREGATE.due(told.state) == 2_000 + 30 * MINUTE
    told.given(*(RunSeen(f"v{n}", "succeeded", 3_000, 20 * MINUTE) for n in range(9)))
    assert AGGREGATE.due(told.state) == 2_000 + 60 * MINUTE


def test_a_full_refresh_is_no_measure_and_is_measured_by_nothing_usual() -> None:
    """It takes long and moves everything: everybody knows. Nor does a rerun, which does a part, say what is usual."""
    told = spec('"on":"late"', *[100] * 5)
    told.do(NoteRunStarted("r1", full_refresh=True))
    assert AGGREGATE.due(told.state) is None
    before = told.state.samples
    told.do(NoteRunEnded("r1", "succeeded", None, 900 * MINUTE, 9_000_000, full_refresh=True))
    told.do(NoteRunEnded("r2", "succeeded"))
    assert told.state.samples == before
    assert outcome(spec('"on":"records"', *[100] * 5), ended("r1", 9_000_000, full_refresh=True)) == []
    assert outcome(spec('"min":1,"on":"records"'), ended("r1", 0, full_refresh=True)) == [
        "run r1 moved 0 records, fewer than 1"
    ]


def test_only_the_latest_runs_say_what_is_usual() -> None:
    """A pipeline that has grown is as usual again after some runs, and the state stays small."""
    told = spec('"on":"records"', *[100] * SAMPLES_MAX)
    for number in range(SAMPLES_MAX):
        told.do(ended(f"r{number}", 1_000))
    assert len(told.state.samples) == SAMPLES_MAX
    assert told.state.usual_records == 1_000


@pytest.mark.parametrize("records", [49, 201])
def test_a_run_that_moves_less_than_half_or_more_than_twice_the_usual_is_told(records: int) -> None:
    """Once, until a run is as usual again; failing runs and runs that nobody could count say nothing."""
    told = spec('"on":"records"', 80, 90, 100, 110, 100_000)
    assert outcome(told, ended("r1", records)) == [f"run r1 moved {records} records; 100 are usual"]
    (incident,) = told.state.incidents
    told.when(ended("r2", 1)).then(
        RunSeen("r2", "succeeded", 2_000, 20 * MINUTE, 1), IncidentRepeated(incident, "r2", 2_000), once=False
    )
    assert outcome(told, ended("r3")) == []
    assert outcome(told, NoteRunEnded("r4", "failed", "no disk", 5)) == []
    assert outcome(told, ended("r5", 100)) == ["IncidentResolved"]


def test_the_bounds_are_usual_too() -> None:
    """And with fewer than five runs, or when nothing is what is usual, there is nothing to compare with."""
    for records in (50, 200):
        assert outcome(spec('"on":"records"', *[100] * 5), ended("r1", records)) == []
    assert outcome(spec('"on":"records"', *[100] * 4), ended("r1", 1)) == []
    assert outcome(spec('"on":"records"', *[100] * 4, None), ended("r1", 1)) == []
    assert outcome(spec('"on":"records"', *[0] * 5), ended("r1", 7)) == []


def test_min_and_max_stand_in_for_what_is_usual_or_beside_it() -> None:
    """They count from the first run on."""
    bounds = '"max":1000,"min":1,"on":"records"'
    assert outcome(spec(bounds), ended("r1", 0)) == ["run r1 moved 0 records, fewer than 1"]
    assert outcome(spec(bounds), ended("r1", 1_001)) == ["run r1 moved 1001 records, more than 1000"]
    assert outcome(spec(bounds, *[1] * 5), ended("r1", 900)) == []
    both = spec(f'"factor":2.5,{bounds}', *[10] * 5)
    assert outcome(both, ended("r1", 26)) == ["run r1 moved 26 records; 10 are usual"]
    assert outcome(both, ended("r2", 25)) == ["IncidentResolved"]


def test_records_in_quarantine_are_told_however_the_run_ends() -> None:
    """Until one succeeds that leaves no more there than the rule says."""
    told = spec('"above":5,"on":"quarantine"')
    assert outcome(told, ended("r1", 100, rejected=5)) == []
    failed = NoteRunEnded("r2", "failed", "no disk", rejected=6)
    assert outcome(told, failed) == ["run r2 rejected 6 records into quarantine, more than 5"]
    assert outcome(told, ended("r3", rejected=9)) == ["IncidentRepeated"]
    assert outcome(told, NoteRunEnded("r4", "failed")) == []
    assert outcome(told, ended("r5", rejected=5)) == ["IncidentResolved"]
    anything = spec('"on":"quarantine"')
    assert outcome(anything, ended("r1", rejected=1)) == [
        "run r1 rejected 1 record into quarantine, more than 0"
    ]


def test_an_incident_ends_with_its_rule() -> None:
    """The one of the same kind that tells another channel is another rule."""
    told = spec('"on":"quarantine"')
    told.do(ended("r1", rejected=1))
    (incident,) = told.state.incidents
    told.when(SetAlerts('[{"notify":"desk","on":"quarantine"}]')).then(
        IncidentResolved(incident, "its rule was taken away", "mail", 2_000),
        AlertsSet('[{"notify":"desk","on":"quarantine"}]', 2_000),
    )
