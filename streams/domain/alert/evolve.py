"""What each event makes of the alerts of a pipeline."""

import json
from dataclasses import replace
from typing import assert_never

from streams.domain.alert import events as happened
from streams.domain.alert.rule import read_rule
from streams.domain.alert.state import INCIDENTS_MAX, RUNNING_MAX, SAMPLES_MAX, Alert, Begun, Incident, Sample


def evolve(alert: Alert, event: happened.Event) -> Alert:
    """Return the alert after the event; a fact is never refused."""
    match event:
        case happened.AlertsSet():
            rules = tuple(map(read_rule, json.loads(event.rules)))
            return replace(alert, rules=rules, rules_text=event.rules, quiet_since=event.at)
        case happened.RunSeen(run_id, "running", at):
            running = {**alert.running, run_id: Begun(at, event.full_refresh)}
            return replace(alert, running=dict(list(running.items())[-RUNNING_MAX:]))
        case happened.RunSeen():
            return _ended(alert, event)
        case happened.IncidentOpened():
            opened = {event.incident: Incident(event.on, event.notify, event.run_id)}
            incidents = dict(list({**alert.incidents, **opened}.items())[-INCIDENTS_MAX:])
            return replace(alert, incidents=incidents)
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


def _marked(alert: Alert, name: str, status: str) -> Alert:
    incident = alert.incidents.get(name)
    if incident is None:
        return alert
    return replace(alert, incidents={**alert.incidents, name: replace(incident, status=status)})
