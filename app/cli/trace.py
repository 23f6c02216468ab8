"""Who did what, when and why: a run's events and everything of the same correlation, in order, with their causes."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from app.cli.dag import duration
from app.cli.output import is_terminal, local_time, show_list
from app.cli.session import Session

_EVENTS_MAX = 5_000
_TOLD = ("step", "status", "run_id", "runner", "name", "waits_for", "decision", "by", "reason")
Event = Mapping[str, Any]


def show_trace(session: Session, run_id: str) -> None:
    """Print the trace of a run."""
    own: list[Event] = [*session.api.items(f"/v1/runs/{run_id}/events", {}, _EVENTS_MAX)]
    found: dict[str, Event] = {event["event_id"]: event for event in own}
    for correlation in dict.fromkeys(event["correlation_id"] for event in own):
        more = session.api.items("/v1/events", {"correlation": correlation}, _EVENTS_MAX)
        found.update({event["event_id"]: event for event in more})
    events = in_order(list(found.values()))
    if session.output != "table" or not is_terminal():
        rows = [{**event, "why": why(event, found), "what": what(event)} for event in events]
        show_list(
            session.output, rows, ("at", "actor", "what", "why"), ("event_id", "command_id"), name="event_id"
        )
        return
    begun = events[0]["at"] if events else 0
    for event in events:
        click.echo(f"{local_time(event['at'])}  +{duration(event['at'] - begun):<8}  {event['actor']}")
        click.echo(
            click.style(f"  {what(event, run_id)}", bold=True)
            + click.style(f"  {why(event, found)}", dim=True)
        )


def in_order(events: Sequence[Event]) -> list[Event]:
    """Return events by time; at the same instant causes stand before what they caused, versions in their order."""
    known: dict[str, Event] = {event["event_id"]: event for event in events}

    def depth(event: Event) -> int:
        steps, seen = 0, set()
        while (cause := known.get(event["causation_id"])) is not None and event["event_id"] not in seen:
            seen.add(event["event_id"])
            event = cause
            steps += 1
        return steps

    return sorted(events, key=lambda event: (event["at"], depth(event), event["aggregate"], event["version"]))


def what(event: Event, run_id: str = "") -> str:
    """Return what happened, to what: ``StepSucceeded extract-customers (run 5e0f… v7)``; the run itself is not named again."""
    body = event.get("body") or {}
    details = [str(body[field]) for field in _TOLD if body.get(field)]
    if body.get("attempt", 0) > 1:
        details.append(f"attempt {body['attempt']}")
    if body.get("handed_back"):
        details.append("handed back")
    if body.get("error"):
        details.append(" ".join(str(body["error"]).split())[:120])
    name = "" if event["aggregate_id"] == run_id else f" {event['aggregate_id']}"
    return f"{event['type']}{' ' if details else ''}{', '.join(details)} ({event['aggregate']}{name} v{event['version']})"


def why(event: Event, known: Mapping[str, Event]) -> str:
    """Return the cause: the event whose follow-up it was, the timer, or the command somebody sent."""
    cause = known.get(event["causation_id"])
    if cause is not None:
        return f"because of {cause['type']} of {cause['aggregate']} v{cause['version']}"
    if event["actor"] == "timer":
        return "because its time had come"
    if event["causation_id"] and event["causation_id"] != event["command_id"]:
        return f"because of {event['causation_id']}"
    return f"because of command {event['command_id']}"
