"""What there was to tell about a pipeline. Wire formats: version with care."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AlertsSet:
    """Time counts from ``at`` for rules about silence."""

    rules: str
    at: int


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run began (``status`` running) or ended while there were rules; ``took_ms`` and ``records`` as in NoteRunEnded."""

    run_id: str
    status: str
    at: int
    took_ms: int | None = None
    records: int | None = None
    full_refresh: bool = False


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


Event = (
    AlertsSet
    | RunSeen
    | IncidentOpened
    | IncidentRepeated
    | IncidentAcknowledged
    | IncidentResolved
    | Notified
)
