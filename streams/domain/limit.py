"""Limit: how many runs may be at work at once. Aggregate id: the limit's name, which any pipeline may use.

First come, first served. A run holds its place from being let in to its terminal event, whatever it does in between.
"""

from dataclasses import dataclass
from typing import assert_never, get_args

from msgspec import Struct
from msgspec.structs import replace

from streams.domain.aggregate import Aggregate, Message

TENANT_RUNS = "tenant:runs"
"""The limit on all runs of a tenant. No file can name it: names have no colon."""


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class AcquireLimit:
    """A run wants in. ``max`` is what its definition says; the newest word counts."""

    run_id: str
    max: int


@dataclass(frozen=True, slots=True)
class ReleaseLimit:
    """A run is over, or wants in no more."""

    run_id: str


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class LimitQueued:
    """The run waits: ``max`` others are in."""

    run_id: str
    max: int
    at: int


@dataclass(frozen=True, slots=True)
class LimitAcquired:
    """The run is in."""

    run_id: str
    max: int
    at: int


@dataclass(frozen=True, slots=True)
class LimitReleased:
    """The run is out, or waits no more."""

    run_id: str
    at: int


Command = AcquireLimit | ReleaseLimit
Event = LimitQueued | LimitAcquired | LimitReleased


# ---------------------------------------------------------------- state
class Limit(Struct, frozen=True, omit_defaults=True):
    """Who is in, and who waits, in the order of their coming."""

    max: int = 0
    holders: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


# ---------------------------------------------------------------- decide
def decide(message: Message, limit: Limit) -> tuple[Event, ...]:
    """Return what the command causes: nothing, when it is already so. Nothing is refused."""
    command: Command = message.body
    events: list[Event] = []
    match command:
        case AcquireLimit():
            if command.run_id in (*limit.holders, *limit.waiting):
                return ()
            events.append(LimitQueued(command.run_id, command.max, message.now))
        case ReleaseLimit():
            if command.run_id not in (*limit.holders, *limit.waiting):
                return ()
            events.append(LimitReleased(command.run_id, message.now))
        case _:
            assert_never(command)
    after = evolve(limit, events[0])
    free = max(0, after.max - len(after.holders))
    let_in = [LimitAcquired(run_id, after.max, message.now) for run_id in after.waiting[:free]]
    if isinstance(command, AcquireLimit) and command.run_id in after.waiting[:free]:
        events.clear()  # it need not wait
    return (*events, *let_in)


# ---------------------------------------------------------------- evolve
def evolve(limit: Limit, event: Event) -> Limit:
    """Return the limit after the event; a fact is never refused."""
    others = tuple(run for run in limit.waiting if run != event.run_id)
    match event:
        case LimitQueued():
            return replace(limit, max=event.max, waiting=(*others, event.run_id))
        case LimitAcquired():
            return replace(limit, max=event.max, holders=(*limit.holders, event.run_id), waiting=others)
        case LimitReleased():
            holders = tuple(run for run in limit.holders if run != event.run_id)
            return replace(limit, holders=holders, waiting=others)
        case _:
            assert_never(event)


# ---------------------------------------------------------------- declaration
AGGREGATE = Aggregate(
    name="limit",
    commands=get_args(Command),
    events=get_args(Event),
    initial=Limit(),
    decide=decide,
    evolve=evolve,
)
