"""Whose turn it is among those who wait, for runners or in a limit: three lanes, the most urgent first, and none for ever."""

from collections.abc import Collection, Mapping

LANES = ("high", "normal", "low")
NORMAL = "normal"
PATIENCE: Mapping[str, int] = {"high": 0, "normal": 4, "low": 16}
"""So many of other lanes go before one of this lane, while any of it waits, and then it goes; runners do likewise."""


def mistake(priority: str | None) -> str | None:
    """Return what is wrong with a priority that somebody asks for; None when nothing is, or nobody does."""
    if priority is None or priority in LANES:
        return None
    return f"priority {priority!r} is not known: one of {', '.join(LANES)}"


def next_lane(waiting: Collection[str], passed: Mapping[str, int]) -> str:
    """Return the lane whose turn it is of those in which anybody waits; ``passed`` says how often each was passed over."""
    # The least urgent first: it has waited longest by the time it may insist.
    insists = (
        lane for lane in reversed(LANES) if lane in waiting and passed.get(lane, 0) >= PATIENCE[lane] > 0
    )
    return next(insists, None) or next(lane for lane in LANES if lane in waiting)
