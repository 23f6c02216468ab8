"""What each event makes of the alerts of a pipeline. All that the fold depends on stands here: snapshots are as old as it."""

import json
from collections.abc import Mapping
from typing import Any, assert_never

from msgspec.structs import replace

from streams.domain import duration
from streams.domain.alert import events as happened
from streams.domain.alert.rule import TIMED, Rule
from streams.domain.alert.state import Alert, Begun, Incident, Sample

RUNNING_MAX = 1_000
INCIDENTS_MAX = 100
SAMPLES_MAX = 20
FACTOR = 2.0


def evolve(alert: Alert, event: happened.Event) -> Alert:
    """Return the alert after the event; a fact is never refused."""
    match event:
        case happened.AlertsSet():
            rules = tuple(map(_rule, json.loads(event.rules)))
            return replace(alert, rules=rules, rules_text=event.rules, quiet_since=event.at)
        case happened.RunSeen(run_id, "running", at):
            running = {**alert.running, run_id: Begun(at, event.full_refresh)}
            return replace(alert, running=dict(list(running.items())[-RUNNING_MAX:]))
        case happened.RunSeen():
            return _ended(alert, event)
        case happened.IncidentOpened():
            opened = {event.incident: Incident(event.on, event.notify, event.run_id)}
            incidents = dict(list({**alert.incidents, **opened}.items())[-INCIDENTS_MAX:])
            return replace(_told(alert, event), incidents=incidents)
        case happened.IncidentAcknowledged():
            return _marked(alert, event.incident, "acknowledged")
        case happened.IncidentResolved():
            return _marked(alert, event.incident, "resolved")
        case happened.IncidentRepeated() | happened.Notified():
            return alert
        case _:
            assert_never(event)


def _ended(alert: Alert, event: happened.RunSeen) -> Alert:
    running = {run_id: begun for run_id, begun in alert.running.items() if run_id != event.run_id}
    alert = replace(alert, running=running)
    if event.status != "succeeded":
        return alert
    alert = replace(alert, quiet_since=event.at)
    if event.full_refresh or (event.took_ms is None and event.records is None):
        return alert
    samples = (*alert.samples, Sample(event.took_ms, event.records))
    return replace(alert, samples=samples[-SAMPLES_MAX:])


def _told(alert: Alert, event: happened.IncidentOpened) -> Alert:
    """Note at the run that it was told of: incidents are kept for a while only, and people resolve them before it ends."""
    begun = alert.running.get(event.run_id or "")
    if begun is None or event.on not in TIMED:
        return alert
    begun = replace(begun, told=(*begun.told, (event.on, event.notify)))
    return replace(alert, running={**alert.running, event.run_id or "": begun})


def _marked(alert: Alert, name: str, status: str) -> Alert:
    incident = alert.incidents.get(name)
    if incident is None:
        return alert
    return replace(alert, incidents={**alert.incidents, name: replace(incident, status=status)})


def _rule(line: Mapping[str, Any]) -> Rule:
    """Return what a line without mistakes means."""
    usual = line["on"] == "late" or (line["on"] == "records" and "min" not in line and "max" not in line)
    return Rule(
        on=line["on"],
        notify=line["notify"],
        for_ms=duration.parse(line.get("for", "0s")),
        after_ms=duration.parse(line.get("after", "0s")),
        factor=line.get("factor", FACTOR if usual else None),
        least=line.get("min"),
        most=line.get("max"),
        above=line.get("above", 0),
    )
