"""How runs are asked of a pipeline, and what it says to that: the part of its vocabulary that is about starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.domain.definition import compact
from streams.domain.expressions import Language
from streams.domain.identity import event_key
from streams.domain.triggers import holds

TRIGGERS = ("manual", "schedule", "api", "run", "event")


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class StartRun:
    """Start a run of the current version. Without ``run_id`` the id is derived from ``key``, else from the command id.

    ``input`` is JSON text. ``trigger`` is manual | schedule | api | run | event; ``slot`` the nominal time of a schedule (ms).
    ``parent`` is the run that asks, by a step of its own; ``depth`` runs are above the new one: ``above``, from the top;
    ``callers``: the step of each that called (``pipeline/step``); ``chain``: the pipelines whose runs have led to it, by a step
    or by their end, from the first. ``priority``: None is the definition's.
    """

    run_id: str | None = None
    key: str | None = None
    input: str = "{}"
    full_refresh: bool = False
    trigger: str = "manual"
    slot: int | None = None
    parent: str | None = None
    depth: int = 0
    priority: str | None = None
    above: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecallRun:
    """Cancel a run that another run has asked this pipeline for.

    Said to the pipeline, it comes to the run after its creation, however fast the other changes its mind.
    """

    run_id: str
    reason: str | None = None


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class RunRequested:
    """A run was asked for and granted; the run itself is created by the follow-up command CreateRun."""

    run_id: str
    definition_hash: str
    input: str
    full_refresh: bool
    trigger: str
    slot: int | None
    key: str | None
    at: int
    parent: str | None = None
    depth: int = 0
    priority: str | None = None
    above: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRefused:
    """A schedule, an event of users, or another run (``parent``; or by its end), asked for a run that could not be.

    ``reason``: paused, not_found (never applied, or deleted), invalid (today's rules refuse its definition), or
    "cycle: a → b → a": the ends of runs would start each other without end.
    """

    run_id: str
    slot: int | None
    reason: str
    at: int
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class RunRecalled:
    """The run that asked for this one has given it up; it is cancelled by the follow-up command CancelRun."""

    run_id: str
    reason: str | None
    at: int


# ---------------------------------------------------------------- what asks besides people
def event_start(language: Language, filter_text: str | None, event: Mapping[str, Any]) -> StartRun | None:
    """Return what a CloudEvent asks of a pipeline with this filter; None when it does not pass.

    Raise ValueError when the filter fails for it.
    """
    if filter_text is not None and not holds(language, filter_text, event):
        return None
    return StartRun(key=event_key(event["source"], event["id"]), input=compact(event), trigger="event")
