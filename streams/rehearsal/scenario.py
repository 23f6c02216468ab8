"""A scenario: how a run begins, what its steps do, what people do to it, and what must come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.domain import instant
from streams.domain.run import commands as asked
from streams.rehearsal.trigger import Trigger

START = instant.parse("2026-01-01T00:00:00Z")
"""When a scenario begins that does not say."""
BEHAVIOURS = ("succeed", "fail", "hang", "lose")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What attempts of a step do, ``duration_ms`` after their claim: ``does`` is one of BEHAVIOURS.

    ``times`` says for how many attempts in a row; None: for one, and, at the end of the list, for all further ones.
    ``output`` is JSON text.
    """

    does: str = "succeed"
    duration_ms: int = 0
    times: int | None = None
    output: str = "{}"
    counts: Mapping[str, int] = field(default_factory=dict)
    error: str = "failed, says the scenario"
    tail: str = ""
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Deed:
    """What people and other systems do to the run. ``place`` is where the file says so.

    ``at`` is the moment (ms since the epoch); None: ``after_ms`` after one of the steps ``answers`` began to wait.
    """

    place: str
    what: str
    command: asked.PeopleCommand | asked.CancelRun
    actor: str
    at: int | None = None
    after_ms: int = 0
    answers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be so at the end; None and empty: anything goes.

    ``outputs`` hold the fields that must be equal, ``error`` is a part of the run's error, ``alerts`` are the rules
    (``on``) that open an incident, in order; durations are the run's, from its creation to its end. ``slots`` (ms) are
    those that fire. Of many runs ``status`` is each one's, and the rest the last one's. ``started``: whether the trigger
    starts a run at all; if not, ``error`` is a part of why its filter fails.
    """

    status: str | None = None
    error: str | None = None
    steps: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    at_least_ms: int | None = None
    at_most_ms: int | None = None
    alerts: tuple[str, ...] | None = None
    slots: tuple[int, ...] | None = None
    started: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run to be rehearsed: how it begins, what its steps do, what people do, what must come of it.

    Steps that are not named succeed at once, each time. ``input`` is JSON text; ``limits`` says how long (ms) other runs
    hold all places of a limit. ``labels`` are those of each runner that there is; None: what the steps ask for.
    ``schedule_ms``: nobody starts a run, but the schedule does, for so long; ``trigger``: nor here, but what that says. ``usual_ms`` and ``usual_records`` are what
    earlier runs took and moved, as far as rules for alerts are to know it.
    """

    name: str
    start: int = START
    input: str = "{}"
    full_refresh: bool = False
    slot: int | None = None
    schedule_ms: int | None = None
    trigger: Trigger | None = None
    usual_ms: int | None = None
    usual_records: int | None = None
    steps: Mapping[str, tuple[Behaviour, ...]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    deeds: tuple[Deed, ...] = ()
    expect: Expectation = Expectation()


UNWRITTEN = Scenario("no scenario")
"""Every step succeeds at once, nobody sends a signal or decides, and any end is fine."""
