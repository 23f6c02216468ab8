"""Recovery mode: a contestant has drained a log and ended; a new one with an empty disk takes over. How long?"""

import time
from dataclasses import dataclass, replace
from typing import Any

from tests.performance.contestants import FOLD, Contestant, Running
from tests.performance.drain import drain
from tests.performance.load import OURS, Work, produce
from tests.performance.truth import Found, check
from tests.performance.watch import Progress
from tests.performance.wire import outputs

_TIMEOUT_S = 300
_NEW_COMMANDS = 100


@dataclass(frozen=True, slots=True)
class Recovered:
    """Seconds from the start of the process to its first answer. ``folds``: what our take-over alone costs, by way."""

    first_answer_s: float
    events: int
    folds: dict[str, dict[str, Any]]
    found: Found


def recover(contestant: Contestant, work: Work) -> Recovered:
    """Drain, end, start on an empty disk with a few new commands waiting. Blocking."""
    drained = drain(contestant, work)
    events = drained.found.events
    folds = _folds(work, events) if contestant.name == OURS else {}
    new = replace(work, commands=_NEW_COMMANDS, seed=work.seed + 1)
    produce(new)
    topic = outputs(work.prefix, contestant.name).outcomes("account")
    progress = Progress(work.bootstrap, topic, work.shards)
    before = progress.look()
    begun = time.monotonic()
    running = Running(contestant, work, commands=_NEW_COMMANDS)
    try:
        # More than the markers that a new owner may write before it answers.
        progress.follow(running.alive, before + 2 * work.shards, _TIMEOUT_S)
        first_answer_s = round(time.monotonic() - begun, 2)
        progress.follow(running.alive, None, _TIMEOUT_S)
    finally:
        running.stop()
    return Recovered(first_answer_s, events, folds, check(contestant, [work, new]))


def _folds(work: Work, events: int) -> dict[str, dict[str, Any]]:
    told = {}
    for way, flags in (("cold", ("--cold",)), ("with snapshots", ())):
        running = Running(FOLD, work, *flags, commands=events)
        while running.alive():
            time.sleep(0.1)
        running.stop()
        told[way] = running.told()
        if not told[way]:
            raise RuntimeError(f"folding {way} failed: {running.complaint()}")
    return told
