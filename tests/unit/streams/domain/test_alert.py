"""What is told about a pipeline, and when it is over."""

from streams.domain.alert.commands import (
    AcknowledgeIncident,
    NoteNotified,
    NoteRunEnded,
    NoteRunStarted,
    ResolveIncident,
    SetAlerts,
)
from streams.domain.alert.declaration import AGGREGATE
from streams.domain.alert.events import (
    AlertsSet,
    IncidentAcknowledged,
    IncidentOpened,
    IncidentRepeated,
    IncidentResolved,
    Notified,
    RunSeen,
)
from tests.support.spec import Spec

FAILED = '[{"notify":"webhook","on":"failed"}]'
QUIET = '[{"for":"3h","notify":"mail","on":"quiet"}]'
SLOW = '[{"for":"10m","notify":"mail","on":"slow"}]'
HOUR = 3_600_000
OPENED = IncidentOpened("failed-2000-1", "failed", "run r1 failed: disk full", "r1", "webhook", 2_000)


def spec(rules: str = FAILED) -> Spec:
    """Return the alerts of a pipeline, set at 1 s; it is 2 s now."""
    return Spec(AGGREGATE, "customers").given(AlertsSet(rules, 1_000)).at(2_000)


def test_rules_are_set_as_the_pipeline_file_says() -> None:
    """Set again unchanged they cause nothing."""
    Spec(AGGREGATE, "customers").at(5).when(SetAlerts('[{"on": "failed", "notify": "webhook"}]')).then(
        AlertsSet(FAILED, 5)
    )


def test_wrong_rules_are_refused_with_the_fix() -> None:
    """Quiet needs to know for how long."""
    spec().when(SetAlerts('[{"on":"quiet","notify":"mail"}]')).refused("invalid", "for how long", "for: 3h")


def test_a_failed_run_opens_an_incident_that_names_its_error() -> None:
    """Once: the second failure is counted, and nobody is told again."""
    told = (
        spec()
        .when(NoteRunEnded("r1", "failed", "disk full"))
        .then(RunSeen("r1", "failed", 2_000), OPENED, once=False)
    )
    told.at(3_000).when(NoteRunEnded("r2", "timed_out")).then(
        RunSeen("r2", "timed_out", 3_000), IncidentRepeated("failed-2000-1", "r2", 3_000), once=False
    )


def test_a_success_resolves_what_it_disproves() -> None:
    """The failure is over as soon as a run succeeds; the channel hears of that too."""
    spec().given(OPENED).at(4_000).when(NoteRunEnded("r3", "succeeded")).then(
        RunSeen("r3", "succeeded", 4_000),
        IncidentResolved("failed-2000-1", "run r3 succeeded", "webhook", 4_000),
        once=False,
    )


def test_a_pipeline_that_goes_quiet_is_told_once() -> None:
    """Time counts from the rules, then from each success; never early."""
    told = spec(QUIET)
    assert told.tick(1_000 + 3 * HOUR - 1) == ()
    (opened,) = told.tick(1_000 + 3 * HOUR)
    assert (opened.on, opened.detail, opened.notify) == ("quiet", "no run has succeeded for 3h", "mail")
    assert told.tick(9 * HOUR) == ()
    resolved = told.at(9 * HOUR).do(NoteRunEnded("r1", "succeeded"))[1]
    assert (resolved.incident, resolved.reason) == (opened.incident, "run r1 succeeded")
    assert AGGREGATE.due(told.state) == 12 * HOUR


def test_failing_runs_do_not_end_the_silence() -> None:
    """What somebody waits for is fresh data."""
    told = spec(QUIET)
    told.at(HOUR).do(NoteRunEnded("r1", "failed"))
    assert AGGREGATE.due(told.state) == 1_000 + 3 * HOUR


def test_a_run_that_takes_too_long_is_told_while_it_runs() -> None:
    """And its end, however it ends, resolves that."""
    told = spec(SLOW)
    told.when(NoteRunStarted("r1")).then(RunSeen("r1", "running", 2_000))
    (opened,) = told.tick(2_000 + 600_000)
    assert (opened.run_id, opened.detail) == ("r1", "run r1 has been running for 10m")
    events = told.at(700_000).do(NoteRunEnded("r1", "cancelled"))
    assert events[1] == IncidentResolved(opened.incident, "run r1 was cancelled", "mail", 700_000)
    assert AGGREGATE.due(told.state) is None


def test_a_success_can_be_told() -> None:
    """There is nothing to look after."""
    told = spec('[{"notify":"mail","on":"succeeded"}]')
    _, opened, resolved = told.do(NoteRunEnded("r1", "succeeded"))
    assert (opened.notify, resolved.notify) == ("mail", "")


def test_somebody_looks_after_an_incident_and_ends_it() -> None:
    """Each only once; what is resolved stays so."""
    told = spec().given(OPENED)
    told.when(AcknowledgeIncident("failed-2000-1", "on it")).then(
        IncidentAcknowledged("failed-2000-1", "on it", 2_000)
    )
    told.when(ResolveIncident("failed-2000-1")).then(
        IncidentResolved("failed-2000-1", "resolved by hand", "webhook", 2_000), once=False
    )
    told.when(ResolveIncident("failed-2000-1")).refused("already_ended", "resolved already")
    told.when(AcknowledgeIncident("failed-1-1")).refused("not_found", "failed-1-1")


def test_what_became_of_a_notice_is_kept() -> None:
    """Also that it could not be delivered."""
    spec().given(OPENED).when(NoteNotified("failed-2000-1", "opened", "webhook", 4, "answered 503")).then(
        Notified("failed-2000-1", "opened", "webhook", 4, "answered 503", 2_000), once=False
    )


def test_without_rules_runs_leave_no_trace() -> None:
    """And rules that are taken away take their incidents with them."""
    told = spec().given(OPENED)
    told.when(SetAlerts("[]")).then(
        IncidentResolved("failed-2000-1", "its rule was taken away", "webhook", 2_000), AlertsSet("[]", 2_000)
    )
    told.when(NoteRunEnded("r9", "failed")).then()
