"""The short kill test of runs: who does them dies every few seconds, and every run succeeds all the same."""

from pathlib import Path

import pytest

from tests.chaos.runs import Plan, execute
from tests.support.services import KafkaService


@pytest.mark.timeout(240)
def test_every_run_succeeds_while_workers_and_runners_are_killed(kafka: KafkaService, tmp_path: Path) -> None:
    """Each attempt is done at most once, each step succeeds once, and the judge of runs finds nothing."""
    said: list[str] = []
    verdict = execute(
        Plan(runs=150, seconds=20.0, every=4.0, seed=5), kafka.bootstrap, tmp_path / "run", said.append
    )

    assert verdict["anomalies"] == 0, verdict
    assert verdict["succeeded"] == verdict["judged"] == 150
    assert sum(verdict["kills"].values()) >= 4
