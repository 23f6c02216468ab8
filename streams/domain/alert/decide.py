"""The rules of alerts: what each command causes, or why it is refused."""

import json
from typing import assert_never

from streams.domain.aggregate import Message, Rejected
from streams.domain.alert import commands as asked
from streams.domain.alert import events as happened
from streams.domain.alert.rule import Rule, rule_problems
from streams.domain.alert.state import Alert
from streams.domain.alert.timers import silence, silences
from streams.domain.alert.verdict import over, said, wrong
from streams.domain.findings import Findings

Decision = tuple[happened.Event, ...] | Rejected


def decide(message: Message, alert: Alert) -> Decision:
    """Return what the command causes: nothing, when no rule cares."""
    command: asked.Command = message.body
    match command:
        case asked.SetAlerts():
            return _set(command, alert, message.now)
        case asked.NoteRunStarted(run_id):
            seen = happened.RunSeen(run_id, "running", message.now, full_refresh=command.full_refresh)
            return (seen,) if alert.rules and run_id not in alert.running else ()
        case asked.NoteRunEnded():
            heeded = alert.rules or command.run_id in alert.running
            return _ended(command, alert, message.now) if heeded else ()
        case asked.AlertTick():
            return _waited(alert, message.now)
        case asked.NoteNotified():
            return _notified(command, alert, message.now)
        case asked.AcknowledgeIncident() | asked.ResolveIncident():
            return _handled(command, alert, message.now)
        case _:
            assert_never(command)


def _set(command: asked.SetAlerts, alert: Alert, now: int) -> Decision:
    try:
        rules = json.loads(command.rules)
    except (ValueError, RecursionError) as error:
        return Rejected("invalid", f"rules is not JSON: {error}")
    found = Findings()
    for index, rule in found.items("rules", rules):
        rule_problems(found, f"rules[{index}]", rule)
    if found.problems:
        return Rejected("invalid", "\n".join(map(str, found.problems)))
    text = json.dumps(rules, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if text == alert.rules_text:
        return ()
    kept = {(rule["on"], rule["notify"]) for rule in rules}
    resolved = tuple(
        happened.IncidentResolved(name, "its rule was taken away", incident.notify, now)
        for name, incident in alert.incidents.items()
        if incident.status != "resolved" and (incident.on, incident.notify) not in kept
    )
    return (*resolved, happened.AlertsSet(text, now))


def _ended(command: asked.NoteRunEnded, alert: Alert, now: int) -> Decision:
    run_id, status = command.run_id, command.status
    events: list[happened.Event] = [
        happened.RunSeen(run_id, status, now, command.took_ms, command.records, command.full_refresh)
    ]
    for name, incident in alert.incidents.items():
        if incident.status != "resolved" and over(incident, command, alert):
            reason = f"run {run_id} {said(status)}"
            events.append(happened.IncidentResolved(name, reason, incident.notify, now))
    for rule in alert.rules:
        if rule.on == "succeeded" and status == "succeeded":
            opened = _opened(rule, f"run {run_id} succeeded", run_id, now, len(events))
            nothing = happened.IncidentResolved(opened.incident, "there is nothing to do", "", now)
            events += (opened, nothing)
        elif detail := wrong(rule, command, alert):
            if (open_one := alert.unresolved(rule)) is not None:
                events.append(happened.IncidentRepeated(open_one, run_id, now))
            else:
                events.append(_opened(rule, detail, run_id, now, len(events)))
    return tuple(events)


def _opened(rule: Rule, detail: str, run_id: str | None, now: int, number: int) -> happened.IncidentOpened:
    return happened.IncidentOpened(f"{rule.on}-{now}-{number}", rule.on, detail, run_id, rule.notify, now)


def _waited(alert: Alert, now: int) -> Decision:
    true = [(rule, run_id) for at, rule, run_id in silences(alert) if at <= now]
    return tuple(
        _opened(rule, silence(rule, run_id, alert), run_id, now, number)
        for number, (rule, run_id) in enumerate(true)
    )


def _handled(command: asked.AcknowledgeIncident | asked.ResolveIncident, alert: Alert, now: int) -> Decision:
    incident = alert.incidents.get(command.incident)
    if incident is None:
        return Rejected("not_found", f"there is no incident {command.incident}")
    if incident.status == "resolved":
        return Rejected("already_ended", f"incident {command.incident} is resolved already")
    if isinstance(command, asked.ResolveIncident):
        reason = command.note or "resolved by hand"
        return (happened.IncidentResolved(command.incident, reason, incident.notify, now),)
    if incident.status == "acknowledged":
        return ()
    return (happened.IncidentAcknowledged(command.incident, command.note, now),)


def _notified(command: asked.NoteNotified, alert: Alert, now: int) -> Decision:
    if command.incident not in alert.incidents:
        return ()
    told = happened.Notified(
        command.incident, command.about, command.channel, command.attempts, command.error, now
    )
    return (told,)
