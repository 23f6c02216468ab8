"""What we want to reach, held against what a run found: figures that hold on any machine, because they are ratios."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

from tests.performance.contestants import ALL

_TITLES = {contestant.name: contestant.title for contestant in ALL}
_OURS = _TITLES["ours"]
_GROWTH_MAX = 1.2


@dataclass(frozen=True, slots=True)
class Target:
    """``value`` must be at least (or, with ``most``, at most) ``wanted``."""

    what: str
    value: float
    wanted: float
    most: bool = False

    @property
    def reached(self) -> bool:
        """Tell whether it is."""
        return self.value <= self.wanted if self.most else self.value >= self.wanted

    def told(self) -> str:
        """Return it as a row of a table."""
        sign = "≤" if self.most else "≥"
        return f"| {self.what} | {sign} {self.wanted:,g} | {self.value:,.2f} | {'yes' if self.reached else '**no**'} |"


def targets(results: dict[str, Any]) -> list[Target]:
    """Return the targets whose figures are there."""
    return [
        *_drain(results.get("drain", {})),
        *_paced(results.get("paced", {})),
        *_growth(results),
        *_runs(results),
    ]


def _drain(drain: dict[str, Any]) -> Iterator[Target]:
    if _OURS not in drain:
        return
    ours = drain[_OURS]
    for name, of, wanted in (
        ("stock_faust", "rate", 25.0),
        ("quix", "rate", 1.5),
        ("kafka_streams", "warm", 0.7),
        ("bare", "rate", 0.7),
    ):
        if (peer := drain.get(_TITLES[name])) is not None:
            # Warm is compared with warm.
            value = median(ours[of]) / median(peer[of])
            yield Target(f"drain{' warm' * (of == 'warm')}, times {_TITLES[name]}", value, wanted)


def _paced(paced: dict[str, Any]) -> Iterator[Target]:
    for rate, name, wanted in (("5000", "kafka_streams", 0.5), ("200", "bare", 1.3)):
        ours, peer = (paced.get(title, {}).get(rate) for title in (_OURS, _TITLES[name]))
        if ours and peer:
            value = _of(ours, "p95") / _of(peer, "p95")
            yield Target(f"p95 at {int(rate):,}/s, times {_TITLES[name]}", value, wanted, most=True)


def _of(step: dict[str, Any], name: str) -> float:
    """Return the median over all rounds; one in which it fell behind counts as endless, not as absent."""
    found: list[float] = [
        value if followed else inf for value, followed in zip(step[name], step["followed"], strict=True)
    ]
    return median(found)


def bytes_per_aggregate(growth: dict[str, Any]) -> list[float]:
    """Return by how much resident memory grew with each aggregate more, by round; the commands are as many."""
    few = growth["plain"]
    many = next((found for name, found in growth.items() if name.endswith("aggregates")), None)
    if many is None:
        return []
    rounds = zip(few["memory_mb"], few["aggregates"], many["memory_mb"], many["aggregates"], strict=False)
    return [
        1e6 * (many_mb - few_mb) / max(many_count - few_count, 1)
        for few_mb, few_count, many_mb, many_count in rounds
    ]


def _growth(results: dict[str, Any]) -> Iterator[Target]:
    growth = results.get("growth", {})
    if "plain" in growth:
        plain = growth["plain"]
        for name, found in growth.items():
            if name.endswith(("partitions", "aggregates")):
                value = median(found["cpu_us"]) / median(plain["cpu_us"])
                yield Target(f"CPU per command, {name}, times plain", value, _GROWTH_MAX, most=True)
        if two := growth.get("two processes"):
            value = median(two["warm"]) / median(plain["warm"])
            yield Target("two processes, times one (where cores allow)", value, 1.4)
        if each := bytes_per_aggregate(growth):
            yield Target("bytes per idle aggregate", median(each), 1000, most=True)
    if cold := results.get("recovery", {}).get(_OURS, {}).get("cold"):
        yield Target("recovery cold, events/s and core", median(cold["events_per_core_s"]), 100_000)


def _runs(results: dict[str, Any]) -> Iterator[Target]:
    if (found := results.get("runs", {}).get(_OURS)) is None:
        return
    yield Target("one-step runs/s", median(found["runs_per_s"]), 200)
    yield Target("seconds for 40 steps in a row", median(found["chain_s"]), 2.0, most=True)
    yield Target("seconds for a map of 1,000", median(found["map_s"]), 5.0, most=True)
    yield Target("timers late, p99 ms at 200/s", median(found["timer_late_p99_ms"]), 150, most=True)
    yield Target("MB for 100,000 sleeping runs", median(found["sleeping_mb"]), 600, most=True)
    yield Target("runs restored/s", median(found["restored_per_s"]), 20_000)
