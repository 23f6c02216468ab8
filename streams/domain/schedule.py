"""Schedule: when a pipeline starts by itself. Aggregate id: the pipeline's name."""

from dataclasses import dataclass


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class SetSchedule:
    """``spec`` is the definition's ``schedule`` as JSON text: cron + timezone, or every; overlap; catch_up."""

    spec: str


@dataclass(frozen=True, slots=True)
class ClearSchedule:
    """The pipeline has no schedule any more."""


@dataclass(frozen=True, slots=True)
class PauseSchedule:
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeSchedule:
    """Fire again, from the next slot after now."""


@dataclass(frozen=True, slots=True)
class TriggerSchedule:
    """Fire once, now."""


@dataclass(frozen=True, slots=True)
class NoteRunEnded:
    """A run that this schedule started has ended, or was refused."""

    run_id: str


@dataclass(frozen=True, slots=True)
class ScheduleTick:
    """A slot has come."""

    due: int


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class ScheduleSet:
    """``next_slot`` (ms) is the first slot after ``at``."""

    spec: str
    next_slot: int
    at: int


@dataclass(frozen=True, slots=True)
class ScheduleCleared:
    at: int


@dataclass(frozen=True, slots=True)
class SchedulePaused:
    at: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleResumed:
    next_slot: int
    at: int


@dataclass(frozen=True, slots=True)
class SlotFired:
    """The slot starts run ``run_id`` (deterministic by tenant, pipeline and slot)."""

    slot: int
    run_id: str
    next_slot: int
    at: int
    manual: bool = False


@dataclass(frozen=True, slots=True)
class SlotSkipped:
    """``reason`` is overlap (an earlier run is still active) | missed (older than the catch-up window)."""

    slot: int
    reason: str
    next_slot: int
    at: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class ScheduledRunEnded:
    run_id: str
    at: int
