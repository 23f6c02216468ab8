"""``python -m tests.performance``: the write path beside its peers, on one broker, in one run.

Every contestant does the same work on the same commands: Avro in, state, dedupe, an event with envelope and 15 headers,
an outcome. Every run goes through a gate; a wrong result makes the exit status 1. A report is written at the end.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from deploy.local.kafka import KafkaCluster
from deploy.local.paths import cache_dir
from tests.performance import machine, report
from tests.performance.contestants import ALL, ready
from tests.performance.load import Work
from tests.performance.session import Session
from tests.performance.targets import targets

_MODES = ("drain", "breakdown", "paced", "kill", "recovery", "growth", "runs")
_ASKED_FOR = ("soak",)  # only when it is named
_SHORT = {"commands": 60_000, "rounds": 1, "seconds": 5.0, "rates": "200,1000,5000"}
_RUN_COUNTS = (100_000, 4_000)
_REFERENCE = {
    "commands": 600_000, "rounds": 5, "seconds": 10.0, "rates": "200,1000,2000,5000,10000,20000,40000"
}  # fmt: skip
_RESULTS = Path(__file__).parent / "results"


@contextmanager
def broker(external: str | None) -> Iterator[str]:
    """Give a broker: the one named, or one started for the purpose."""
    if external:
        yield external
        return
    with tempfile.TemporaryDirectory() as folder:
        cluster = KafkaCluster(Path(folder) / "kafka", Path(folder) / "logs", cache=cache_dir(), brokers=1)
        try:
            cluster.start()
            yield cluster.bootstrap
        finally:
            cluster.stop()


def options() -> argparse.Namespace:
    """Return what the command line asks for."""
    names = ",".join(contestant.name for contestant in ALL)
    parser = argparse.ArgumentParser(prog="python -m tests.performance", description=__doc__)
    parser.add_argument("--reference", action="store_true", help="the full run, an hour and more")
    parser.add_argument("--commands", type=int, help="per drain; stock Faust gets a tenth")
    parser.add_argument("--rounds", type=int, help="interleaved; the median is told with minimum and maximum")
    parser.add_argument("--rates", help="commands/s of the paced mode, rising")
    parser.add_argument("--seconds", type=float, help="length of each rate")
    parser.add_argument(
        "--rate", type=float, default=10_000.0, help="commands/s of a soak (default: %(default)g)"
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="length of a soak (default: %(default)g)")
    parser.add_argument("--modes", default=",".join(_MODES), help="default: %(default)s; also: soak")
    parser.add_argument("--contestants", default=names, help="default: %(default)s")
    parser.add_argument("--kafka", default=os.environ.get("FLEXCORE_TEST_KAFKA"), help="default: start one")
    parser.add_argument("--results", type=Path, help="where the report goes; default: .flexcore/bench")
    told = parser.parse_args()
    parser.set_defaults(**(_REFERENCE if told.reference else _SHORT))
    told = parser.parse_args()
    told.results = told.results or (_RESULTS if told.reference else Path(".flexcore") / "bench")
    told.modes = [mode for mode in (*_MODES, *_ASKED_FOR) if mode in told.modes.split(",")]
    return told


def main() -> int:
    """Run it, write the report, and return the exit status."""
    told = options()
    contestants, skipped = ready(told.contestants.split(","))
    for title, reason in skipped.items():
        print(f"{title} does not take part: {reason}", flush=True)
    at = datetime.now(UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
    with broker(told.kafka) as bootstrap:
        base = Work(bootstrap, "", told.commands)
        rates = [float(rate) for rate in told.rates.split(",")]
        session = Session(
            base, contestants, told.rounds, rates, told.seconds, told.rate, told.minutes, _RUN_COUNTS
        )
        what = (
            f"{base.commands:,} commands, {base.shards} partitions, {base.aggregates:,} aggregates, {told.rounds} rounds in"
            f" turns, {told.seconds:g} s at each rate."
        )
        print(what, flush=True)
        for mode in told.modes:
            getattr(session, mode)()
    page = report.write(
        told.results,
        {
            "at": at,
            "what": what,
            "results": session.results,
            "problems": session.problems,
            "observed": session.observed,
            "skipped": skipped,
            "hardware": machine.hardware(),
            "versions": machine.versions(),
            "settings": machine.SETTINGS,
        },
    )
    for target in targets(session.results):
        print(target.told(), flush=True)
    print(f"report: {page}", flush=True)
    return 1 if session.problems else 0


if __name__ == "__main__":
    sys.exit(main())
