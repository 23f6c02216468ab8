"""Limit: how many runs may be at work at once. Aggregate id: the limit's name, which any pipeline may use.

Who is urgent goes first, and no lane waits for ever; within a lane it is first come, first served. A run holds its place from
being let in to its terminal event, whatever it does in between. A run that another has called shares the place of any run above
it: together they are at work once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never, get_args

from msgspec import Struct
from msgspec.structs import replace

from streams.domain.aggregate import Aggregate, Message
from streams.domain.priority import LANES, NORMAL, next_lane

TENANT_RUNS = "tenant:runs"
"""The limit on all runs of a tenant. No file can name it: names have no colon."""


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class AcquireLimit:
    """A run wants in. ``max`` is what its definition says; the newest word counts. ``above`` are the runs above it."""

    run_id: str
    max: int
    above: tuple[str, ...] = ()
    priority: str = NORMAL


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
    priority: str = NORMAL


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
    """Who is in, and who waits, in the order of their coming. ``guests`` are in at the place of another, which has one.

    ``lanes`` are those of the waiting that are not normal; ``passed`` is how often a lane was passed over while one of it waited.
    """

    max: int = 0
    holders: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    guests: Mapping[str, str] = {}
    lanes: Mapping[str, str] = {}
    passed: Mapping[str, int] = {}

    @property
    def free(self) -> int:
        """How many places there are for those who wait."""
        return max(0, self.max - len(self.holders) + len(self.guests))

    @property
    def first(self) -> Mapping[str, str]:
        """The first that waits in each lane in which anybody does."""
        if not self.lanes:
            return {NORMAL: self.waiting[0]} if self.waiting else {}
        found: dict[str, str] = {}
        for run_id in self.waiting:
            found.setdefault(self.lanes.get(run_id, NORMAL), run_id)
        return found


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
            lane = command.priority if command.priority in LANES else NORMAL  # nothing is refused
            events.append(
                LimitQueued(command.run_id, command.max, message.now, lane)
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
    let_in: list[Event] = []
    while after.free and after.waiting:
        first = after.first
        let_in.append(LimitAcquired(first[next_lane(first, after.passed)], after.max, message.now))
        after = evolve(after, let_in[-1])
    if command.run_id in [event.run_id for event in let_in]:
        events.clear()  # it need not wait
    return (*events, *let_in)


# ---------------------------------------------------------------- evolve
def evolve(limit: Limit, event: Event) -> Limit:
    """Return the limit after the event; a fact is never refused."""
    others = tuple(run for run in limit.waiting if run != event.run_id)
    lanes = limit.lanes and {run: lane for run, lane in limit.lanes.items() if run != event.run_id}
    match event:
        case LimitQueued():
            if event.priority != NORMAL:
                lanes = {**lanes, event.run_id: event.priority}
            return replace(limit, max=event.max, waiting=(*others, event.run_id), lanes=lanes)
        case LimitAcquired():
            guests = limit.guests if event.shares is None else {**limit.guests, event.run_id: event.shares}
            holders = (*limit.holders, event.run_id)
            return replace(
                limit,
                max=event.max,
                holders=holders,
                waiting=others,
                guests=guests,
                lanes=lanes,
                passed=_passed(limit, event.run_id) if event.run_id in limit.waiting else limit.passed,
            )
        case LimitReleased():
            holders = tuple(run for run in limit.holders if run != event.run_id)
            guests = limit.guests and _without(limit.guests, event.run_id)
            return replace(limit, holders=holders, waiting=others, guests=guests, lanes=lanes)
        case _:
            assert_never(event)


def _passed(limit: Limit, run_id: str) -> Mapping[str, int]:
    """Return how often each lane has been passed over, now that it was this run's turn."""
    chosen = limit.lanes.get(run_id, NORMAL)
    return {lane: limit.passed.get(lane, 0) + 1 for lane in limit.first if lane != chosen}


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
