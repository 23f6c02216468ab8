"""One run of the benchmark: every mode, every contestant in turns, every run through the gate; figures are collected.

``results`` holds lists, one entry a round. A run that is wrong or fails is a problem; the others go on.
"""

import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tests.performance.contestants import OURS, Contestant
from tests.performance.drain import drain
from tests.performance.environments import Unavailable
from tests.performance.growth import one, touched, two, variants
from tests.performance.killed import kill
from tests.performance.load import Work, drop_topics, make_topics, produce
from tests.performance.paced import staircase
from tests.performance.recovery import recover
from tests.performance.runs import peer
from tests.performance.runs.measures import Runs, told
from tests.performance.soak import soak
from tests.performance.truth import Found

TWO = "two processes"


class Session:
    """``base`` says where and how much; ``rounds`` how often; ``rates`` and ``seconds`` how commands are paced; ``rate`` and
    ``minutes`` are those of a soak; ``run_counts`` are sleeping and one-step runs.
    """

    def __init__(
        self,
        base: Work,
        contestants: list[Contestant],
        rounds: int,
        rates: list[float],
        seconds: float,
        rate: float,
        minutes: float,
        run_counts: tuple[int, int],
    ) -> None:
        self._base = base
        self._contestants = contestants
        self._rounds = rounds
        self._rates = rates
        self._seconds = seconds
        self._rate = rate
        self._minutes = minutes
        self._run_counts = run_counts
        self.results: dict[str, Any] = {}
        self.problems: list[str] = []
        self.observed: list[str] = []

    def drain(self) -> None:
        """Every contestant drains the same topic; who is slow by design, one with a share of the commands."""
        shares = sorted({contestant.share for contestant in self._contestants})
        for number in range(1, self._rounds + 1):
            works = {share: self._fresh(self._base.commands // share, number) for share in shares}
            for share, work in works.items():
                make_topics(work, tuple(each.name for each in self._contestants if each.share == share))
                produce(work)
            for contestant in self._contestants:
                run = partial(self._drained, contestant, works[contestant.share])
                self._guard(contestant, "drain", number, run)
            for work in works.values():
                drop_topics(work)

    def breakdown(self) -> None:
        """Tell where our CPU goes, in a run of its own that is not timed."""
        self._alone(OURS, "breakdown", 1, self._fresh(self._base.commands, 1), self._broken_down)

    def paced(self) -> None:
        """Every contestant takes the rates one after the other, until it falls behind."""
        for number in range(1, self._rounds + 1):
            for each in self._contestants:
                work = self._fresh(0, 100 * number)
                self._alone(each, "paced", number, work, partial(self._fed, each), loaded=False)

    def kill(self) -> None:
        """Every contestant that keeps its state is killed twice on its way."""
        for number in range(1, self._rounds + 1):
            for each in self._recovering():
                work = self._fresh(self._base.commands // 2, number)
                self._alone(each, "kill", number, work, partial(self._killed, each))

    def recovery(self) -> None:
        """Every contestant that keeps its state takes over a drained log on an empty disk."""
        for number in range(1, self._rounds + 1):
            for each in self._recovering():
                work = self._fresh(self._base.commands, number)
                self._alone(each, "recovery", number, work, partial(self._recovered, each))

    def growth(self) -> None:
        """We drain with more partitions, more aggregates, and two processes."""
        for number in range(1, self._rounds + 1):
            plain = self._fresh(self._base.commands, number)
            for name, work in (*variants(plain).items(), (TWO, plain)):
                own = replace(work, prefix=_prefix())
                self._alone(OURS, "growth", number, own, partial(self._grown, name))

    def soak(self) -> None:
        """We take one rate for a long time."""
        work = self._fresh(int(60 * self._minutes * self._rate), 1)
        self._alone(OURS, "soak", 1, work, self._soaked, loaded=False)

    def runs(self) -> None:
        """Our engine and runner carry out pipelines; Prefect does what it can of the same."""
        for number in range(1, self._rounds + 1):
            ours = Runs(self._base.bootstrap, _prefix(), *self._run_counts)
            self._noted("runs", OURS.title, number, ours.measure, told)
            self._noted("runs", "Prefect", number, peer.measure, str)

    # ---------------------------------------------------------------- one run: measure, collect, say in a line
    def _drained(self, contestant: Contestant, work: Work) -> tuple[Found, str]:
        told = drain(contestant, work)
        into = self._into("drain", contestant.title, commands=work.commands)
        for name, value in (("rate", told.rate), ("warm", told.warm), ("cpu_us", told.cpu_us)):
            into.setdefault(name, []).append(round(value, 1))
        return told.found, f"{told.rate:,.0f}/s, warm {told.warm:,.0f}/s, {told.cpu_us:.1f} us CPU"

    def _broken_down(self, work: Work) -> tuple[Found, str]:
        told = drain(OURS, work, "--breakdown")
        per_transaction = round(work.commands / max(told.told["transactions"], 1))
        self.results["breakdown"] = {
            "parts_us": told.told["parts_us"],
            "commands_per_transaction": per_transaction,
        }
        return told.found, f"us CPU {told.told['parts_us']}, {per_transaction} commands a transaction"

    def _fed(self, contestant: Contestant, work: Work) -> tuple[Found, str]:
        steps, found = staircase(contestant, work, self._rates, self._seconds)
        lines = []
        for step in steps:
            into = self._into("paced", contestant.title).setdefault(f"{step.rate:.0f}", {})
            for name in ("p50", "p95", "p99", "followed"):
                into.setdefault(name, []).append(getattr(step, name))
            figures = f"{step.p50:.1f}/{step.p95:.1f}/{step.p99:.1f}" if step.followed else "falls behind"
            lines.append(f"{step.rate:,.0f}/s {figures}")
        return found, "p50/p95/p99 ms: " + ", ".join(lines)

    def _killed(self, contestant: Contestant, work: Work) -> tuple[Found, str]:
        told = kill(contestant, work)
        into = self._into("kill", contestant.title, commands=work.commands)
        into.setdefault("standstill_s", []).extend(told.standstills_s)
        return told.found, f"stood still {told.standstills_s} s"

    def _recovered(self, contestant: Contestant, work: Work) -> tuple[Found, str]:
        told = recover(contestant, work)
        into = self._into("recovery", contestant.title, events=told.events)
        into.setdefault("first_answer_s", []).append(told.first_answer_s)
        line = f"first answer after {told.first_answer_s} s"
        for way, fold in told.folds.items():
            for name in ("events_per_s", "events_per_core_s", "took_s", "records"):
                into.setdefault(way, {}).setdefault(name, []).append(fold[name])
            line += f", {way} {fold['events_per_core_s']:,} events/s and core"
        return told.found, line

    def _grown(self, name: str, work: Work) -> tuple[Found, str]:
        told = two(work) if name == TWO else one(work)
        into = self._into("growth", name)
        for key in ("cpu_us", "warm", "per_transaction", "memory_mb"):
            into.setdefault(key, []).append(round(getattr(told, key), 1))
        if name != TWO:
            into.setdefault("aggregates", []).append(touched(work))
        line = f"{name}: {told.cpu_us:.1f} us CPU, warm {told.warm:,.0f}/s, {told.per_transaction:.0f} commands a"
        return told.found, f"{line} transaction, {told.memory_mb:.0f} MB"

    def _soaked(self, work: Work) -> tuple[Found, str]:
        told = soak(work, self._rate)
        last, into = told.samples[-1], self._into("soak", f"{self._rate:,.0f}/s for {self._minutes:g} min")
        into["commands"], into["memory_mb"] = work.commands, round(last.memory_mb)
        into["files_mb"] = round(last.files_mb)
        for name in ("mb_per_hour", "mb_per_million", "backlog_growth"):
            into[name] = round(getattr(told, name), 1)
        into["samples"] = [
            [round(each.at), round(each.memory_mb), round(each.files_mb), each.decided, each.backlog]
            for each in told.samples
        ]
        grew = f"grew by {told.backlog_growth:,.0f}" if "grew" in told.found.told() else "did not grow"
        line = f"{told.rate:,.0f}/s, memory {last.memory_mb:,.0f} MB, {told.mb_per_hour:+,.0f} MB/h, {told.mb_per_million:+,.1f} MB a million"
        return told.found, f"{line} commands in the second half; the backlog {grew}"

    # ---------------------------------------------------------------- around a run
    def _recovering(self) -> list[Contestant]:
        return [contestant for contestant in self._contestants if contestant.recovers]

    def _fresh(self, commands: int, seed: int) -> Work:
        return replace(self._base, prefix=_prefix(), commands=commands, seed=seed)

    def _into(self, mode: str, title: str, **facts: Any) -> dict[str, Any]:
        into: dict[str, Any] = self.results.setdefault(mode, {}).setdefault(title, facts)
        return into

    def _alone(
        self,
        contestant: Contestant,
        mode: str,
        number: int,
        work: Work,
        run: Callable[[Work], tuple[Found, str]],
        *,
        loaded: bool = True,
    ) -> None:
        """Run one contestant on topics of its own, which are full if ``loaded``."""
        make_topics(work, (contestant.name,))
        if loaded:
            produce(work)
        self._guard(contestant, mode, number, partial(run, work))
        drop_topics(work)

    def _noted(
        self,
        mode: str,
        title: str,
        number: int,
        measure: Callable[[], dict[str, Any]],
        line: Callable[[dict[str, Any]], str],
    ) -> None:
        """Collect figures that are no drain's."""
        where = f"{mode}, round {number}, {title}"
        try:
            figures = measure()
        except (RuntimeError, Unavailable) as error:
            (self.problems if title == OURS.title else self.observed).append(f"{where}: {error}")
            print(f"  {where}: FAILED: {error}", flush=True)
            return
        for name, value in figures.items():
            self._into(mode, title).setdefault(name, []).extend(value if isinstance(value, list) else [value])
        print(f"  {where}: {line(figures)}", flush=True)

    def _guard(
        self, contestant: Contestant, mode: str, number: int, run: Callable[[], tuple[Found, str]]
    ) -> None:
        where = f"{mode}, round {number}, {contestant.title}"
        try:
            found, told = run()
        except RuntimeError as error:
            self.problems.append(f"{where}: {error}")
            print(f"  {where}: FAILED: {error}", flush=True)
            return
        print(f"  {where}: {told}", flush=True)
        if wrong := found.told():
            (self.problems if contestant.exact else self.observed).append(f"{where}: {wrong}")
            print(f"  {where}: {'WRONG' if contestant.exact else 'observed'}: {wrong}", flush=True)


def _prefix() -> str:
    return f"bench-{os.getpid()}-{uuid.uuid4().hex[:8]}"
