"""Drain mode: the commands are all there when a contestant starts; how fast do they go, and what does each cost?"""

from dataclasses import dataclass
from typing import Any

from tests.performance.contestants import Contestant, Running
from tests.performance.load import Work
from tests.performance.truth import Found, check
from tests.performance.watch import Progress
from tests.performance.wire import outputs

_TIMEOUT_S = 900
WARM_AFTER = 0.2


@dataclass(frozen=True, slots=True)
class Drained:
    """One run: commands/s from first to last visible outcome, the same without the first fifth, CPU µs per command."""

    rate: float
    warm: float
    cpu_us: float
    told: dict[str, Any]
    found: Found


def drain(contestant: Contestant, work: Work, *flags: str) -> Drained:
    """Let a contestant work through the commands that are there, then check what it wrote. Blocking."""
    progress = Progress(
        work.bootstrap, outputs(work.prefix, contestant.name).outcomes("account"), work.shards
    )
    progress.look()
    running = Running(contestant, work, *flags)
    try:
        intime = progress.follow(running.alive, None, _TIMEOUT_S)
    finally:
        running.stop()
    told = running.told()
    if not intime or not told:
        raise RuntimeError(f"{contestant.title} did not end by itself: {running.complaint()}")
    cpu_us = 1e6 * told["cpu_s"] / work.commands
    return Drained(progress.rate(), progress.rate(WARM_AFTER), cpu_us, told, check(contestant, [work]))
