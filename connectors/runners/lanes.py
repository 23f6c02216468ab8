"""Offers that a runner has read and not claimed yet: whose turn it is. High before normal before low, and none for ever."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from connectors.runners.offer import Offer
from schemas.topics import LANES

_PATIENCE = {"high": 0, "normal": 4, "low": 16}
"""So many offers of other lanes go before one of this lane, while it has any, and then one does."""

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Held:
    """A record as it was read; ``offer`` is None for one that is none, which only has to be passed over."""

    topic: str
    partition: int
    offset: int
    offer: Offer | None


class Lanes:
    """Keeps the order of each partition: what is taken is always the first of its partition that is held."""

    def __init__(self) -> None:
        self._held: dict[str, deque[Held]] = {lane: deque() for lane in LANES}
        self._passed = dict.fromkeys(LANES, 0)

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def depth(self, lane: str) -> int:
        """Return how many a lane holds."""
        return len(self._held[lane])

    def put(self, lane: str, held: Held) -> None:
        """Add what was read last."""
        self._held[lane].append(held)

    def take(self, most: int) -> list[Held]:
        """Take at most so many, in the order of their turn."""
        taken: list[Held] = []
        while len(taken) < most and (lane := self._next()):
            taken.append(self._held[lane].popleft())
        return taken

    def _next(self) -> str:
        waiting = [lane for lane in LANES if self._held[lane]]
        if not waiting:
            return ""
        # The least urgent first: it has waited longest by the time it may insist.
        insists = (lane for lane in reversed(waiting) if self._passed[lane] >= _PATIENCE[lane] > 0)
        chosen = next(insists, waiting[0])
        for lane in LANES:
            self._passed[lane] = self._passed[lane] + 1 if lane in waiting and lane != chosen else 0
        return chosen

    def drop(self, places: Iterable[Place] | None = None) -> None:
        """Forget what was read of these partitions, or all: it will be read again, here or elsewhere."""
        gone = None if places is None else frozenset(places)
        for lane, held in self._held.items():
            kept = () if gone is None else [one for one in held if (one.topic, one.partition) not in gone]
            self._held[lane] = deque(kept)
