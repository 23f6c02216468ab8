"""What is measured of runs, one after the other, on one engine and one runner."""

import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.performance.runs.child import Child
from tests.support.run_desk import RunDesk

_NOOP = {"command": {"argv": ["true"]}}
_CHAIN = 40
_ITEMS = 1_000
_TIMERS_PER_S = 200
_TIMERS_S = 10
_WAIT_S = 3


class Runs:
    """An engine and a runner, their desk, and the figures so far."""

    def __init__(self, bootstrap: str, prefix: str, sleeping: int, one_step: int) -> None:
        self._bootstrap, self._prefix = bootstrap, prefix
        self._sleeping, self._one_step = sleeping, one_step
        self._folder = Path(tempfile.mkdtemp(prefix="bench-runs-"))
        self._engine = self._start_engine()
        self._desk = RunDesk(bootstrap, prefix, self._engine.told["registry"])

    def _start_engine(self) -> Child:
        return Child("engine", self._bootstrap, self._prefix, str(self._folder))

    def measure(self) -> dict[str, Any]:
        """Return all figures. Blocking; raises RuntimeError when something does not happen in time."""
        try:
            runner = Child("runner", self._bootstrap, self._prefix, self._engine.told["registry"])
            try:
                figures = {**self._rate(), **self._chain(), **self._fan(), **self._timers()}
            finally:
                runner.stop()
            return {**figures, **self._asleep()}
        finally:
            self._desk.close()
            self._engine.stop()

    def _rate(self) -> dict[str, Any]:
        desk = self._desk
        desk.apply("one", {"name": "only", **_NOOP})
        self._run("one")  # everything is connected and loaded then
        before, begun = desk.ended, time.monotonic()
        for _ in range(self._one_step):
            desk.start("one")
        desk.until(lambda: desk.ended >= before + self._one_step, 300, "the one-step runs")
        took = time.monotonic() - begun
        return {"runs_per_s": round(self._one_step / took, 1), "one_step_runs": self._one_step}

    def _chain(self) -> dict[str, Any]:
        names = [f"s{number:02}" for number in range(_CHAIN)]
        steps = [
            {"name": name, **_NOOP, "after": names[number - 1 : number]} for number, name in enumerate(names)
        ]
        steps[0].pop("after")
        self._desk.apply("chain", *steps)
        return {"chain_s": [self._run("chain") for _ in range(5)]}

    def _fan(self) -> dict[str, Any]:
        block = {"over": list(range(_ITEMS)), "max_parallel": _ITEMS, **_NOOP}
        self._desk.apply("fan", {"name": "each", "map": block}, {"name": "join", "after": ["each"], **_NOOP})
        return {"map_s": [self._run("fan") for _ in range(3)]}

    def _run(self, pipeline: str) -> float:
        """Start a run and return the seconds until its end is visible."""
        desk, begun = self._desk, time.time()
        run = desk.start(pipeline)
        desk.flush()
        desk.until(lambda: desk.saw(run, "RunEnded") is not None, 120, f"a run of {pipeline}")
        return round(self._time(run, "RunEnded") - begun, 3)

    def _time(self, run: str, kind: str) -> float:
        seen = self._desk.saw(run, kind)
        assert seen is not None, "it was waited for"
        return seen.until or seen.at

    def _timers(self) -> dict[str, Any]:
        desk, runs = self._desk, []
        desk.apply("timer", {"name": "pause", "wait": {"for": f"{_WAIT_S}s"}})
        begun, before = time.monotonic(), desk.ended
        for number in range(_TIMERS_PER_S * _TIMERS_S):
            time.sleep(max(0.0, begun + number / _TIMERS_PER_S - time.monotonic()))
            runs.append(desk.start("timer"))
        desk.until(lambda: desk.ended >= before + len(runs), 60, "the timers")
        # From when the timer is due to when what it led to is visible.
        late = [1e3 * (self._time(run, "RunEnded") - self._time(run, "StepWaiting")) for run in runs]
        cut = quantiles(late, n=100)
        return {f"timer_late_p{share}_ms": round(cut[share - 1], 1) for share in (50, 95, 99)}

    def _asleep(self) -> dict[str, Any]:
        desk, before_mb = self._desk, self._engine.memory_mb()
        desk.seen.clear()
        begun = time.monotonic()
        for _ in range(self._sleeping):
            desk.create("sleeper", {"name": "pause", "wait": {"for": "24h"}})
        desk.flush()
        desk.until(lambda: len(desk.seen) >= self._sleeping, 600, "the sleeping runs")
        took = time.monotonic() - begun
        time.sleep(10)  # the last sweep of snapshots
        after_mb = self._engine.memory_mb()
        self._engine.kill()
        self._engine = self._start_engine()
        again = self._engine.told
        return {
            "sleeping": self._sleeping,
            "sleeping_made_per_s": round(self._sleeping / took),
            "sleeping_mb": round(after_mb - before_mb),
            "engine_mb": round(after_mb),
            "restore_s": again["ready_s"],
            "load_s": again["loaded_s"],
            "restored_per_s": round(self._sleeping / again["loaded_s"]),
        }


def told(figures: dict[str, Any]) -> str:
    """Return the figures in a line."""
    late = "/".join(f"{figures[f'timer_late_p{share}_ms']:.0f}" for share in (50, 95, 99))
    return (
        f"{figures['runs_per_s']:,.0f} one-step runs/s, {_of(figures['chain_s'])} s for {_CHAIN} steps in a row,"
        f" {_of(figures['map_s'])} s for a map of {_ITEMS:,}, timers late by {late} ms (p50/p95/p99),"
        f" {figures['sleeping']:,} sleeping runs take {figures['sleeping_mb']:,} MB and are back {figures['load_s']:.1f} s"
        f" after the shards were assigned ({figures['restore_s']:.1f} s after the start)"
    )


def _of(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
