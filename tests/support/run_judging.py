"""Events of a test, judged as `event verify --runs` judges those of a log."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from streams.proof.runs import EVENTS, Fact, RunFinding, RunJudge
from streams.rehearsal.world import TENANT, Happened
from streams.translation import to_record


def findings(told: Iterable[Happened]) -> list[RunFinding]:
    """Return what is wrong with a history, at its end."""
    judge = RunJudge()
    versions: Counter[tuple[str, str]] = Counter()
    for number, event in enumerate(told, 1):
        if event.aggregate not in EVENTS:
            continue
        name = (event.aggregate, event.aggregate_id)
        versions[name] += 1
        fact = Fact(
            *(event.aggregate, TENANT, event.aggregate_id, versions[name], number, 0, f"event {number}"),
            kind=type(event.body).__name__,
            body=to_record(event.body),
        )
        judge.take(fact)
    judge.finish()
    return judge.findings


def findings_of_run(told: Iterable[Any], run_id: str = "r1") -> list[RunFinding]:
    """Return what is wrong with one run's events."""
    return findings(Happened("run", run_id, body, 0) for body in told)
