"""Alert: what somebody wants to be told about a pipeline, and what there was to tell. Aggregate id: the pipeline's name.

A rule that comes true opens an incident; one incident is open for each rule at a time, and what happens meanwhile is
counted in it. A run that succeeds resolves what it disproves.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never, get_args

from streams.domain import duration
from streams.domain.aggregate import Aggregate, Message, Rejected
from streams.domain.findings import Findings
from streams.domain.validation import alert_rule


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class SetAlerts:
    """``rules`` is the definition's ``alerts`` as JSON text: a list of {on, for, notify}; an empty one ends all."""

    rules: str


@dataclass(frozen=True, slots=True)
class NoteRunStarted:
    """A run of the pipeline exists."""

    run_id: str


@dataclass(frozen=True, slots=True)
class NoteRunEnded:
    """A run of the pipeline is over; ``status`` and ``error`` as in its own event."""

    run_id: str
    status: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AcknowledgeIncident:
    """Somebody looks after it."""

    incident: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ResolveIncident:
    """It is over, says a person."""

    incident: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class NoteNotified:
    """What became of telling somebody. ``about`` is opened | resolved; ``error`` is None when it was delivered."""

    incident: str
    about: str
    channel: str
    attempts: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AlertTick:
    """A rule that waits for time may have come true."""

    due: int


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class AlertsSet:
    """Time counts from ``at`` for rules about silence."""

    rules: str
    at: int


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run began (``status`` running) or ended while there were rules."""

    run_id: str
    status: str
    at: int


@dataclass(frozen=True, slots=True)
class IncidentOpened:
    """``incident`` is ``<on>-<ms>-<number>``; ``notify`` is the channel to tell, ``detail`` is one sentence."""

    incident: str
    on: str
    detail: str
    run_id: str | None
    notify: str
    at: int


@dataclass(frozen=True, slots=True)
class IncidentRepeated:
    """It came true again while open: nobody is told a second time."""

    incident: str
    run_id: str | None
    at: int


@dataclass(frozen=True, slots=True)
class IncidentAcknowledged:
    """Somebody (the event's actor) looks after it."""

    incident: str
    note: str | None
    at: int


@dataclass(frozen=True, slots=True)
class IncidentResolved:
    """``reason`` is one sentence; ``notify`` is the channel to tell, "" for nobody."""

    incident: str
    reason: str
    notify: str
    at: int


@dataclass(frozen=True, slots=True)
class Notified:
    """A channel was told (``error`` None), or could not be."""

    incident: str
    about: str
    channel: str
    attempts: int
    error: str | None
    at: int


Command = (
    SetAlerts
    | NoteRunStarted
    | NoteRunEnded
    | AcknowledgeIncident
    | ResolveIncident
    | NoteNotified
    | AlertTick
)
Event = (
    AlertsSet
    | RunSeen
    | IncidentOpened
    | IncidentRepeated
    | IncidentAcknowledged
    | IncidentResolved
    | Notified
)


# ---------------------------------------------------------------- state
RUNNING_MAX = 1_000
INCIDENTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of ``alerts``. ``for_ms`` is 0 where time plays no part."""

    on: str
    for_ms: int
    notify: str


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident and what became of it. ``status`` is open | acknowledged | resolved."""

    on: str
    notify: str
    run_id: str | None
    status: str = "open"


@dataclass(frozen=True, slots=True)
class Alert:
    """``quiet_since`` is the newest success, or when the rules were set; ``running`` maps runs to their beginning.

    ``incidents`` keeps the latest ones, by id.
    """

    rules: tuple[Rule, ...] = ()
    rules_text: str = "[]"
    quiet_since: int = 0
    running: Mapping[str, int] = field(default_factory=dict)
    incidents: Mapping[str, Incident] = field(default_factory=dict)

    def unresolved(self, rule: Rule, run_id: str | None = None) -> str | None:
        """Return the incident of this rule (about this run, if one is given) that is not resolved."""
        for name, incident in self.incidents.items():
            of_rule = incident.status != "resolved" and (incident.on, incident.notify) == (
                rule.on,
                rule.notify,
            )
            if of_rule and run_id in (None, incident.run_id):
                return name
        return None


# ---------------------------------------------------------------- decide
Decision = tuple[Event, ...] | Rejected


def decide(message: Message, alert: Alert) -> Decision:
    """Return what the command causes: nothing, when no rule cares."""
    command: Command = message.body
    match command:
        case SetAlerts():
            return _set(command, alert, message.now)
        case NoteRunStarted():
            seen = RunSeen(command.run_id, "running", message.now)
            return (seen,) if alert.rules and command.run_id not in alert.running else ()
        case NoteRunEnded():
            return _ended(command, alert, message.now) if alert.rules else ()
        case AlertTick():
            return _waited(alert, message.now)
        case NoteNotified():
            return _notified(command, alert, message.now)
        case AcknowledgeIncident() | ResolveIncident():
            return _handled(command, alert, message.now)
        case _:
            assert_never(command)


def _set(command: SetAlerts, alert: Alert, now: int) -> Decision:
    try:
        rules = json.loads(command.rules)
    except (ValueError, RecursionError) as error:
        return Rejected("invalid", f"rules is not JSON: {error}")
    found = Findings()
    for index, rule in found.items("rules", rules):
        alert_rule(found, f"rules[{index}]", rule)
    if found.problems:
        return Rejected("invalid", "\n".join(map(str, found.problems)))
    text = json.dumps(rules, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if text == alert.rules_text:
        return ()
    kinds = {rule["on"] for rule in rules}
    resolved = tuple(
        IncidentResolved(name, "its rule was taken away", incident.notify, now)
        for name, incident in alert.incidents.items()
        if incident.status != "resolved" and incident.on not in kinds
    )
    return (*resolved, AlertsSet(text, now))


def _ended(command: NoteRunEnded, alert: Alert, now: int) -> Decision:
    run_id, status = command.run_id, command.status
    events: list[Event] = [RunSeen(run_id, status, now)]
    for name, incident in alert.incidents.items():
        if incident.status == "resolved":
            continue
        disproved = status == "succeeded" and incident.on in ("failed", "quiet")
        if disproved or (incident.on == "slow" and incident.run_id == run_id):
            events.append(IncidentResolved(name, f"run {run_id} {_said(status)}", incident.notify, now))
    for rule in alert.rules:
        if rule.on == "failed" and status in ("failed", "timed_out"):
            if (open_one := alert.unresolved(rule)) is not None:
                events.append(IncidentRepeated(open_one, run_id, now))
            else:
                detail = f"run {run_id} {_said(status)}: {command.error or 'no error was told'}"
                events.append(_opened(rule, detail, run_id, now, len(events)))
        elif rule.on == "succeeded" and status == "succeeded":
            opened = _opened(rule, f"run {run_id} succeeded", run_id, now, len(events))
            events += (opened, IncidentResolved(opened.incident, "there is nothing to do", "", now))
    return tuple(events)


def _opened(rule: Rule, detail: str, run_id: str | None, now: int, number: int) -> IncidentOpened:
    return IncidentOpened(f"{rule.on}-{now}-{number}", rule.on, detail, run_id, rule.notify, now)


def _said(status: str) -> str:
    return {"timed_out": "timed out", "cancelled": "was cancelled"}.get(status, status)


def _waited(alert: Alert, now: int) -> Decision:
    events: list[Event] = []
    for rule in alert.rules:
        if rule.on == "quiet" and now >= alert.quiet_since + rule.for_ms and not alert.unresolved(rule):
            detail = f"no run has succeeded for {duration.render(rule.for_ms)}"
            events.append(_opened(rule, detail, None, now, len(events)))
        for run_id, since in alert.running.items() if rule.on == "slow" else ():
            if now >= since + rule.for_ms and not alert.unresolved(rule, run_id):
                detail = f"run {run_id} has been running for {duration.render(rule.for_ms)}"
                events.append(_opened(rule, detail, run_id, now, len(events)))
    return tuple(events)


def _handled(command: AcknowledgeIncident | ResolveIncident, alert: Alert, now: int) -> Decision:
    incident = alert.incidents.get(command.incident)
    if incident is None:
        return Rejected("not_found", f"there is no incident {command.incident}")
    if incident.status == "resolved":
        return Rejected("already_ended", f"incident {command.incident} is resolved already")
    if isinstance(command, ResolveIncident):
        reason = command.note or "resolved by hand"
        return (IncidentResolved(command.incident, reason, incident.notify, now),)
    if incident.status == "acknowledged":
        return ()
    return (IncidentAcknowledged(command.incident, command.note, now),)


def _notified(command: NoteNotified, alert: Alert, now: int) -> Decision:
    if command.incident not in alert.incidents:
        return ()
    told = Notified(command.incident, command.about, command.channel, command.attempts, command.error, now)
    return (told,)


# ---------------------------------------------------------------- evolve
def evolve(alert: Alert, event: Event) -> Alert:
    """Return the alert after the event; a fact is never refused."""
    match event:
        case AlertsSet():
            rules = tuple(
                Rule(rule["on"], duration.parse(rule["for"]) if "for" in rule else 0, rule["notify"])
                for rule in json.loads(event.rules)
            )
            return replace(alert, rules=rules, rules_text=event.rules, quiet_since=event.at)
        case RunSeen(run_id, "running", at):
            begun = dict(list({**alert.running, run_id: at}.items())[-RUNNING_MAX:])
            return replace(alert, running=begun)
        case RunSeen(run_id, status, at):
            running = {run: since for run, since in alert.running.items() if run != run_id}
            quiet_since = at if status == "succeeded" else alert.quiet_since
            return replace(alert, running=running, quiet_since=quiet_since)
        case IncidentOpened():
            opened = {event.incident: Incident(event.on, event.notify, event.run_id)}
            incidents = dict(list({**alert.incidents, **opened}.items())[-INCIDENTS_MAX:])
            return replace(alert, incidents=incidents)
        case IncidentAcknowledged():
            return _marked(alert, event.incident, "acknowledged")
        case IncidentResolved():
            return _marked(alert, event.incident, "resolved")
        case IncidentRepeated() | Notified():
            return alert
        case _:
            assert_never(event)


def _marked(alert: Alert, name: str, status: str) -> Alert:
    incident = alert.incidents.get(name)
    if incident is None:
        return alert
    return replace(alert, incidents={**alert.incidents, name: replace(incident, status=status)})


# ---------------------------------------------------------------- declaration
def due(alert: Alert) -> int | None:
    """Return when a rule that waits for time comes true next, or None."""
    times: list[int] = []
    for rule in alert.rules:
        if rule.on == "quiet" and not alert.unresolved(rule):
            times.append(alert.quiet_since + rule.for_ms)
        elif rule.on == "slow":
            unseen = (since for run_id, since in alert.running.items() if not alert.unresolved(rule, run_id))
            times += (since + rule.for_ms for since in unseen)
    return min(times, default=None)


AGGREGATE = Aggregate(
    name="alert",
    commands=get_args(Command),
    events=get_args(Event),
    initial=Alert(),
    decide=decide,
    evolve=evolve,
    due=due,
    tick=AlertTick,
    unindexed=(AlertTick,),
)
