"""What may be asked of the alerts of a pipeline."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetAlerts:
    """``rules`` is the definition's ``alerts`` as JSON text: a list of rules; an empty one ends all."""

    rules: str


@dataclass(frozen=True, slots=True)
class NoteRunStarted:
    """A run of the pipeline exists."""

    run_id: str
    full_refresh: bool = False


@dataclass(frozen=True, slots=True)
class NoteRunEnded:
    """A run of the pipeline is over; ``status`` and ``error`` as in its own event.

    ``took_ms`` counts from its creation; ``records`` are those it moved, ``rejected`` those it put into quarantine. None:
    not known.
    """

    run_id: str
    status: str
    error: str | None = None
    took_ms: int | None = None
    records: int | None = None
    rejected: int = 0
    full_refresh: bool = False


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


Command = (
    SetAlerts
    | NoteRunStarted
    | NoteRunEnded
    | AcknowledgeIncident
    | ResolveIncident
    | NoteNotified
    | AlertTick
)
