"""The sequence numbers of one (aggregate, shard), shared by its events and outcomes: which are there, and where."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Numbers:
    """Where each number stands: the offset of an event, or ``~offset`` of an outcome.

    ``low`` is the first number that can be judged; None: the beginning of the outcomes is gone, and none was seen yet.
    ``last_event`` and ``last_outcome`` are the highest numbers seen; ``told`` is the highest that a checkpoint or the
    writer's own books tell of, ``told_event`` the highest event that an outcome tells of.
    """

    seen: dict[int, int] = field(default_factory=dict)
    low: int | None = 1
    last_event: int = 0
    last_outcome: int = 0
    told: int = 0
    told_event: int = 0

    @property
    def top(self) -> int:
        """The highest number seen."""
        return max(self.last_event, self.last_outcome)

    def gaps(self, ceiling: int) -> Iterator[int]:
        """Yield each number up to ``ceiling`` that no record has."""
        low = ceiling + 1 if self.low is None else self.low
        return (number for number in range(low, ceiling + 1) if number not in self.seen)

    def cut_off(self, number: int) -> bool:
        """Tell whether a missing number lies behind the end: nothing of its topic comes after it."""
        return number > self.top or self.last_event < number <= self.told_event

    def last(self) -> int | None:
        """Return where the last event stands, else the last outcome; None if there is nothing."""
        return self.seen.get(self.last_event, self.seen.get(self.last_outcome))

    def neighbour(self, number: int) -> int | None:
        """Return where the record after a missing number stands, else the one before it; None if there is neither."""
        for candidate in range(number + 1, self.top + 1):
            if candidate in self.seen:
                return self.seen[candidate]
        return next((self.seen[before] for before in range(number - 1, 0, -1) if before in self.seen), None)
