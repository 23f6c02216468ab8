"""The steps of one run as its events tell them, what was undone in reverse, and the limits that let it in."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.domain.definition import Definition, Retry
from streams.domain.kinds import compensation_of, undone_by
from streams.domain.limit import TENANT_RUNS

See = Callable[[str, bool, Callable[[], str]], bool]
"""``(invariant, holds, sentence)`` -> holds; the sentence is asked only for what does not hold."""

ENDED = frozenset({"succeeded", "failed", "skipped", "cancelled"})
MOVING = frozenset({"queued", "running", "retrying", "waiting"})


@dataclass(slots=True)
class StepHistory:
    """A step or an item of a map step. ``due``: when it is tried again, or stops waiting by itself (ms).

    ``child``: the run it has called last; ``returned``: how that ended. ``again``: the run was resumed since it was
    offered, so the same attempt may be offered once more.
    """

    status: str = "pending"
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    runner: str = ""
    claimed_at: int = 0
    due: int | None = None
    cause: str = ""
    decision: str = ""
    child: str = ""
    returned: str = ""
    again: bool = False
    total: int = 0
    done: set[int] = field(default_factory=set)


class Undoing:
    """The compensations of one run. ``steps`` are those that were announced; ``ends``: how the run will end then."""

    def __init__(self, plan: Definition, see: See) -> None:
        """``plan`` says which steps have one."""
        self.steps: dict[str, StepHistory] = {}
        self.ends: str | None = None
        self._plan = plan
        self._see = see
        self._done: list[str] = []

    def succeeded(self, name: str, *, reused: bool) -> None:
        """Note a step's success; what another run has done is not this one's to undo."""
        if not reused and compensation_of(name) in self._plan.compensations:
            self._done.append(name)

    def announced(self, names: list[str], status: str) -> None:
        """Judge what the run says that it will undo."""
        wanted = [compensation_of(name) for name in reversed(self._done)]
        self._see("I11", names == wanted and status != "succeeded" and self.ends is None,
                  lambda: f"it undoes {', '.join(names)}, not {', '.join(wanted)}, or a second time")  # fmt: skip
        self.ends = status
        self.steps = {name: StepHistory() for name in names if name in self._plan.compensations}

    def begins(self, name: str) -> None:
        """Judge a compensation that is offered for the first time: those before it have ended."""
        first = next((one for one, step in self.steps.items() if step.status not in ENDED), None)
        self._see(
            "I11", first == name, lambda: f"{undone_by(name)} is undone before {undone_by(first or name)}"
        )

    def over(self, status: str) -> None:
        """Judge the end of the undoing; only who cancels a run now leaves things as they are."""
        left = [name for name, step in self.steps.items() if step.status not in ENDED]
        self._see("I11", not left, lambda: f"it goes on before {left[0]} has ended")
        owed = status in ("failed", "timed_out") and self.ends is None and bool(self._done)
        self._see(
            "I11", not owed, lambda: f"it {status.replace('_', ' ')}, and {self._done[-1]} was not undone"
        )


class Limits:
    """The limits that let one run in, one after the other. ``asked``: those that were ever asked for."""

    def __init__(self, wanted: Iterable[str], see: See) -> None:
        """``wanted`` are those that the run needs."""
        self.asked: set[str] = set()
        self.awaited: str | None = None
        self._granted: set[str] = set()
        self._wanted = frozenset(wanted)
        self._see = see

    @property
    def missing(self) -> list[str]:
        """Those that have not let the run in, in the order in which it asks."""
        return sorted(self._wanted - self._granted, key=lambda name: (name != TENANT_RUNS, name))

    def asks(self, body: Mapping[str, Any]) -> None:
        """Judge that a limit is asked for."""
        limit = body["limit"]
        self._see("I8", self.missing[:1] == [limit] and self.awaited is None,
                  lambda: f"limit {limit} was asked for out of turn")  # fmt: skip
        self.asked.add(limit)
        self.awaited = limit

    def lets_in(self, body: Mapping[str, Any]) -> None:
        """Judge that a limit lets the run in."""
        limit = body["limit"]
        self._see(
            "I8", self.awaited == limit, lambda: f"limit {limit} let in a run that waits for {self.awaited}"
        )
        self._granted.add(limit)
        self.awaited = None


class Holders:
    """The runs that one limit has let in; some share a place."""

    def __init__(self) -> None:
        self._places: list[set[str]] = []

    def __iter__(self) -> Iterator[str]:
        return (run for place in self._places for run in place)

    @property
    def places(self) -> int:
        """How many places are taken."""
        return len(self._places)

    def let_in(self, run: str, host: str | None) -> None:
        """Note a run that is in, at the place of its host if that is in."""
        shared = next((place for place in self._places if host in place), None)
        if shared is None:
            self._places.append({run})
        else:
            shared.add(run)

    def out(self, run: str) -> None:
        """Note that a run is out."""
        self._places = [left for place in self._places if (left := place - {run})]


def longest_ms(retry: Retry, failures: int) -> int:
    """Return how long a step may wait before it is tried again after so many failures, at most."""
    pause_ms = float(retry.initial_ms)
    for _ in range(failures - 1):
        pause_ms = min(pause_ms * retry.multiplier, float(retry.max_ms))
    return max(1, int(min(pause_ms, float(retry.max_ms))))
