"""The short fault run: one broker, three workers, and every kind of fault that one broker allows, judged from outside."""

from pathlib import Path

import pytest

from tests.chaos.report import table
from tests.chaos.run import Run, execute


@pytest.mark.timeout(300)
def test_a_minute_of_faults_leaves_no_anomaly(tmp_path: Path) -> None:
    """Kills, freezes, cuts, refused and unanswered commits, wrong clocks: the log is what the rules say, and live again."""
    said: list[str] = []
    verdict = execute(Run(seed=2, seconds=40.0, faults=10, brokers=1), tmp_path / "run", said.append)

    assert verdict["anomalies_in_all"] == 0, table(verdict)
    assert verdict["faults"] >= 8
    assert verdict["results"]["ok"] > 100
