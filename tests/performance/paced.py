"""Paced mode: commands come at a fixed rate whatever happens (open loop); how long until their events are visible?

From the moment a command was due, as it says itself, to a read_committed reader in another process. One staircase per
run: a contestant starts, warms up, and takes one rate after the other until it cannot follow.
"""

import subprocess
import sys
import time
from dataclasses import dataclass, replace

from confluent_kafka import Consumer

from tests.performance.contestants import Contestant, Running
from tests.performance.load import Work, commands_of
from tests.performance.truth import Found, check
from tests.performance.watch import reader, records
from tests.performance.wire import codec_of_all, outputs

_WARM_UP_RATE = 1000.0
_WARM_UP_S = 6
_START_TIMEOUT_S = 60
# A contestant that is further behind than this when a step's last command is due does not follow.
BEHIND_MAX_S = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """Latencies (ms) of one rate; ``followed`` is False if the contestant fell behind."""

    rate: float
    p50: float
    p95: float
    p99: float
    events: int
    followed: bool


def staircase(
    contestant: Contestant, base: Work, rates: list[float], seconds: float
) -> tuple[list[Step], Found]:
    """Feed a contestant at each of ``rates`` for ``seconds``, then check all it wrote. Blocking."""
    topic = outputs(base.prefix, contestant.name).events("account")
    consumer = reader(base.bootstrap, {topic: base.shards})
    decode = codec_of_all()[0].decode
    running = Running(contestant, base, "--paced", commands=1 << 40)
    works: list[Work] = []
    steps: list[Step] = []

    def step(rate: float, length_s: float, patience_s: float) -> list[float]:
        """Feed one rate; return the latencies in order of arrival, as far as they came in time."""
        work = replace(base, commands=int(rate * length_s), seed=base.seed + len(works))
        works.append(work)
        wanted = sum(amount > 0 for _, amount, _ in commands_of(work))
        feeding = feeder(work, rate)
        found: list[float] = []
        deadline: float | None = None
        while len(found) < wanted and (deadline is None or time.monotonic() < deadline):
            for record in records(consumer, 0.05)[0]:
                found.append(time.time() * 1e3 - decode(record.value())[1]["sent_at"] / 1e3)
            if deadline is None and feeding.poll() is not None:
                deadline = time.monotonic() + patience_s
        if feeding.wait():
            raise RuntimeError("the feeder failed")
        return found if len(found) == wanted else []

    try:
        if not step(_WARM_UP_RATE, _WARM_UP_S, _START_TIMEOUT_S):
            raise RuntimeError(f"{contestant.title} did not start: {running.complaint()}")
        for number, rate in enumerate(rates):
            latencies = step(rate, seconds, BEHIND_MAX_S)
            steps.append(_step(rate, latencies))
            if not steps[-1].followed:
                # Higher rates would find the backlog of this one: they count as not followed, untried.
                steps += [_step(higher, []) for higher in rates[number + 1 :]]
                _settle(consumer)
                break
    finally:
        running.stop()
        consumer.close()
    return steps, check(contestant, works)


def _step(rate: float, latencies: list[float]) -> Step:
    if not latencies:
        return Step(rate, 0.0, 0.0, 0.0, 0, followed=False)
    kept = sorted(latencies[len(latencies) // 10 :])
    p50, p95, p99 = (round(kept[int(len(kept) * share)], 2) for share in (0.5, 0.95, 0.99))
    return Step(rate, p50, p95, p99, len(latencies), followed=p50 < 1e3 * BEHIND_MAX_S)


def _settle(consumer: Consumer, silence_s: float = 3.0) -> None:
    """Let a contestant that fell behind come to its end."""
    quiet = time.monotonic() + silence_s
    while time.monotonic() < quiet:
        if records(consumer, 0.2)[0]:
            quiet = time.monotonic() + silence_s


def feeder(work: Work, rate: float) -> subprocess.Popen[bytes]:
    """Start a process that produces the commands at ``rate``, and ends."""
    program = f"from tests.performance.load import Work, produce; produce({work!r}, {rate})"
    return subprocess.Popen([sys.executable, "-c", program])
