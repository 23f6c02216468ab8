"""Kill mode: a contestant is ended by SIGKILL twice while it drains, and started again at once on what it had."""

import time
from dataclasses import dataclass

from tests.performance.contestants import Contestant, Running
from tests.performance.load import Work
from tests.performance.truth import Found, check
from tests.performance.watch import Progress
from tests.performance.wire import outputs

_TIMEOUT_S = 300
_KILLED_AT = (0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Killed:
    """Seconds from each kill to the next visible outcome, and what was found at the end."""

    standstills_s: list[float]
    found: Found


def kill(contestant: Contestant, work: Work) -> Killed:
    """Let a contestant drain, kill it on the way, and check that nothing is lost, doubled or wrong. Blocking."""
    topic = outputs(work.prefix, contestant.name).outcomes("account")
    progress = Progress(work.bootstrap, topic, work.shards)
    running = Running(contestant, work)
    standstills: list[float] = []
    try:
        for share in _KILLED_AT:
            if not progress.follow(running.alive, int(work.commands * share), _TIMEOUT_S):
                raise RuntimeError(f"{contestant.title} did not come to {share:.0%}: {running.complaint()}")
            if progress.samples[-1][1] >= work.commands:
                break  # what a dead transaction had hidden came all at once
            running.kill()
            at, seen = time.monotonic(), progress.look()
            running = Running(contestant, work, state=running.state)
            progress.follow(running.alive, seen + work.commands // 100, _TIMEOUT_S)
            standstills.append(round(time.monotonic() - at, 2))
        progress.settle(running.alive, work.commands, _TIMEOUT_S)
    finally:
        running.stop()
    return Killed(standstills, check(contestant, [work]))
