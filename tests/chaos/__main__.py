"""Fault runs: ``python -m tests.chaos [--minutes M] [--faults N] [--seed S] [--plant BUG] | --replay DIR | --check DIR``.

Exit code 0: no anomaly; with ``--plant``: the planted bug was found.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.chaos.plan import BROKER, LINK, WORKER, Fault
from tests.chaos.planted import BUGS
from tests.chaos.report import table
from tests.chaos.run import Run, execute, judge
from tests.chaos.truth import Log

_KINDS = {*WORKER, *LINK, *BROKER}
_KEPT = Path(".flexcore") / "chaos"
# How long, how many faults and of which kinds each planted bug needs to show.
_SHOWN_BY: dict[str, tuple[float, int, tuple[str, ...]]] = {
    "offsets-beside": (30, 6, ("kill", "freeze", "kill-all")),
    "unknown-commit-again": (30, 6, ("lost-answer",)),
    "fold-before-stable": (30, 5, ("freeze-written",)),
    "equal-offset": (32, 2, ("freeze-idle",)),
    "no-index": (30, 6, ("kill", "terminate", "kill-all")),
    "late-membership": (32, 3, ("freeze-decided",)),
    "overlay-leak": (30, 6, ("refused",)),
}


def _kinds(text: str) -> tuple[str, ...]:
    if unknown := set(text.split(",")) - _KINDS:
        raise argparse.ArgumentTypeError(
            f"no fault is called {min(unknown)!r}; there are {', '.join(sorted(_KINDS))}"
        )
    return tuple(text.split(","))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break a cluster, then check its log."
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long faults go on")
    parser.add_argument("--faults", type=int, help="how many faults (default: one each 6 s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of plan and load")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=3)
    parser.add_argument("--rate", type=float, default=150.0, help="askings a second")
    parser.add_argument(
        "--kinds", type=_kinds, default=(), help="only these kinds of faults, say: kill,terminate"
    )
    parser.add_argument(
        "--standbys", type=int, default=0, help="of each shard (at most 2: there are 3 workers)"
    )
    parser.add_argument("--session-ms", type=int, default=6_000, help="after which a silent worker is dead")
    parser.add_argument(
        "--plant", choices=[*BUGS, "all"], help="give the workers a known bug, which must be found"
    )
    parser.add_argument("--replay", type=Path, help="make a kept run again: same seed, same plan")
    parser.add_argument("--check", type=Path, help="only check what a kept run has left")
    parser.add_argument("--keep", type=Path, default=_KEPT, help="where runs are kept")
    return parser.parse_args()


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _planted(bug: str, seed: int, keep: Path) -> bool:
    """Run half a minute with a bug planted; tell whether it was found."""
    seconds, faults, kinds = _SHOWN_BY[bug]
    run = Run(seed, seconds, faults, brokers=1, plant=bug, kinds=kinds)
    start = time.monotonic()
    result = execute(run, keep / f"plant-{bug}-{int(time.time())}", _say)
    by = {name: count for name, count in result["anomalies"].items() if count}
    caught = bool(by)
    _say(f"{bug}: {'caught' if caught else 'MISSED'} after {time.monotonic() - start:.0f} s by {by}")
    return caught


def main() -> int:
    """Do what the arguments say; return the exit code."""
    given = _arguments()
    if given.plant:
        bugs = list(BUGS) if given.plant == "all" else [given.plant]
        missed = [bug for bug in bugs if not _planted(bug, given.seed, given.keep.absolute())]
        return 1 if missed else 0
    if given.check:
        live = json.loads((given.check / "verdict.json").read_text())["live"]
        result = judge(given.check, Log.load(given.check / "log.jsonl"), live)
    else:
        result = _one_run(given)
    print(table(result))
    return 1 if result["anomalies_in_all"] else 0


def _one_run(given: argparse.Namespace) -> dict[str, Any]:
    if given.replay:
        told = json.loads((given.replay / "run.json").read_text())
        run = Run(**{**told["run"], "kinds": tuple(told["run"]["kinds"])})
        faults = [Fault(**fault) for fault in told["plan"]]
    else:
        faults = None
        count = given.faults or max(1, round(given.minutes * 10))
        run = Run(
            given.seed,
            given.minutes * 60,
            count,
            given.brokers,
            rate=given.rate,
            kinds=given.kinds,
            standbys=given.standbys,
            session_ms=given.session_ms,
        )
    folder = given.keep / f"{time.strftime('%Y%m%dT%H%M%S')}-{run.seed}"
    _say(f"seed {run.seed}, {run.faults} faults, kept in {folder}")
    return execute(run, folder.absolute(), _say, faults)


if __name__ == "__main__":
    sys.exit(main())
