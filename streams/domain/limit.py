"""Limit: how many runs may be at work at once. Aggregate id: the limit's name, which any pipeline may use.

First come, first served. A run holds its place from being let in to its terminal event, whatever it does in between. A run
that another has called shares the place of any run above it: together they are at work once.
"""

from collections.abc import Mapping
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
    """A run wants in. ``max`` is what its definition says; the newest word counts. ``above`` are the runs above it."""

    run_id: str
    max: int
    above: tuple[str, ...] = ()


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
    """The run is in; ``shares``: at the place of this one."""

    run_id: str
    max: int
    at: int
    shares: str | None = None


@dataclass(frozen=True, slots=True)
class LimitReleased:
    """The run is out, or waits no more."""

    run_id: str
    at: int


Command = AcquireLimit | ReleaseLimit
Event = LimitQueued | LimitAcquired | LimitReleased


# ---------------------------------------------------------------- state
class Limit(Struct, frozen=True, omit_defaults=True):
    """Who is in, and who waits, in the order of their coming. ``guests`` are in at the place of another, which has one."""

    max: int = 0
    holders: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    guests: Mapping[str, str] = {}

    @property
    def free(self) -> int:
        """How many places there are for those who wait."""
        return max(0, self.max - len(self.holders) + len(self.guests))


# ---------------------------------------------------------------- decide
def decide(message: Message, limit: Limit) -> tuple[Event, ...]:
    """Return what the command causes: nothing, when it is already so. Nothing is refused."""
    command: Command = message.body
    events: list[Event] = []
    match command:
        case AcquireLimit():
            if command.run_id in (*limit.holders, *limit.waiting):
                return ()
            host = next((run for run in command.above if run in limit.holders), None)
            events.append(
                LimitQueued(command.run_id, command.max, message.now)
                if host is None
                else LimitAcquired(command.run_id, command.max, message.now, limit.guests.get(host, host))
            )
        case ReleaseLimit():
            if command.run_id not in (*limit.holders, *limit.waiting):
                return ()
            events.append(LimitReleased(command.run_id, message.now))
        case _:
            assert_never(command)
    after = evolve(limit, events[0])
    next_in = after.waiting[: after.free]
    let_in = [LimitAcquired(run_id, after.max, message.now) for run_id in next_in]
    if isinstance(command, AcquireLimit) and command.run_id in next_in:
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
            guests = limit.guests if event.shares is None else {**limit.guests, event.run_id: event.shares}
            holders = (*limit.holders, event.run_id)
            return replace(limit, max=event.max, holders=holders, waiting=others, guests=guests)
        case LimitReleased():
            holders = tuple(run for run in limit.holders if run != event.run_id)
            guests = limit.guests and _without(limit.guests, event.run_id)
            return replace(limit, holders=holders, waiting=others, guests=guests)
        case _:
            assert_never(event)


def _without(guests: Mapping[str, str], gone: str) -> Mapping[str, str]:
    """Return who shares whose place, when one is out: its place is that of its first guest then."""
    heir = next((guest for guest, host in guests.items() if host == gone), gone)
    hosts = {guest: heir if host == gone else host for guest, host in guests.items()}
    return {guest: host for guest, host in hosts.items() if guest not in (gone, heir)}


# ---------------------------------------------------------------- declaration
AGGREGATE = Aggregate(
    name="limit",
    commands=get_args(Command),
    events=get_args(Event),
    initial=Limit(),
    decide=decide,
    evolve=evolve,
)
