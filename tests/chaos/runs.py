"""Runs under SIGKILL: ``python -m tests.chaos.runs [--runs N] [--seconds S] [--every S] [--seed N] [--keep DIR]``.

Two workers and two runners, nodes of the product with real programs; every few seconds one of the four, chosen by
chance, is killed and started again. Then every run must have succeeded, ``flexcore event verify --runs`` must find
nothing wrong, and so must the ledger: a file to which each program appends who it is.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.kafka import KafkaCluster
from deploy.local.paths import cache_dir
from schemas.codec import Codec
from schemas.registry import MemoryRegistry
from schemas.topics import Topics
from tests.support.node_process import NodeProcess
from tests.support.platform import SHARDS, RegistryServer
from tests.support.run_desk import RunDesk
from tests.support.truth import read

_PREFIX = "killed"
_PIPELINE = "three"
_READY_S = 60.0
_STILL_S = 60.0  # what was in the hands of the last that were killed goes on when its leases have run out
# The pause is there to be killed in: the effect has been done, and nobody has heard of it.
_SCRIPT = 'echo "$RUN_ID $RUN_STEP $RUN_ATTEMPT" >> ledger; sleep 0.1'
STEPS = ("first", "second", "third")
Attempt = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """So many runs, begun evenly over so many seconds, with a kill every so often."""

    runs: int
    seconds: float
    every: float
    seed: int


@dataclass
class Cluster:
    """The four nodes, each with one role, and the schema registry, which is not what is broken here."""

    folder: Path
    bootstrap: str
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)

    def __post_init__(self) -> None:
        self._server = RegistryServer(self.registry)
        self.project.mkdir(parents=True)
        (self.project / "flexcore.toml").write_text("")
        self.nodes = {
            name: NodeProcess(self.folder / name, self._settings(name))
            for name in ("worker-1", "worker-2", "runner-1", "runner-2")
        }

    @property
    def project(self) -> Path:
        """Where the programs work."""
        return self.folder / "project"

    @property
    def url(self) -> str:
        """The registry's address."""
        return self._server.url

    def _settings(self, name: str) -> dict[str, str]:
        return {
            "FLEXCORE_KAFKA_BOOTSTRAP": self.bootstrap,
            "FLEXCORE_REGISTRY_URL": self.url,
            "FLEXCORE_TOPIC_PREFIX": _PREFIX,
            "FLEXCORE_CLUSTER": _PREFIX,
            "FLEXCORE_SHARDS": str(SHARDS),
            "FLEXCORE_NODE": name,
            "FLEXCORE_ROLES": name.partition("-")[0],
            "FLEXCORE_CONCURRENCY": "16",
            "FLEXCORE_HTTP_PORT": "0",
            "FLEXCORE_PROJECT": str(self.project),
            "FLEXCORE_LOG_LEVEL": "warning",
        }

    def start(self) -> None:
        """Start all; returns when each is ready. Blocking."""
        for node in self.nodes.values():
            node.start(ready=False)
        for name, node in self.nodes.items():
            deadline = time.monotonic() + _READY_S
            while node.call("GET", "/health/ready").status != 200:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{name} is not ready: {node.log()}")
                time.sleep(0.1)

    def kill(self, name: str) -> None:
        """End a node by SIGKILL, and start it again at once."""
        self.nodes[name].kill()
        self.nodes[name].start(ready=False)

    def stop(self) -> None:
        """End all that runs."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is None:
                node.kill()
        self._server.stop()


def execute(plan: Plan, bootstrap: str, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Do it in ``folder`` (made, must be empty) and return the verdict. Blocking."""
    folder.mkdir(parents=True)
    cluster = Cluster(folder, bootstrap)
    try:
        cluster.start()
        desk = RunDesk(bootstrap, _PREFIX, cluster.url)
        try:
            begun = time.monotonic()
            runs, kills = _under_fire(plan, cluster, desk, say)
            _await_all(desk, len(runs), say)
            took = time.monotonic() - begun
        finally:
            desk.close()
        judged = json.loads(cluster.nodes["worker-1"].cli("event", "verify", "--runs", "-o", "json"))
        verdict = {"kills": kills, "seconds": round(took, 1), **_verdict(cluster, runs, judged)}
    finally:
        cluster.stop()
    (folder / "verdict.json").write_text(json.dumps(verdict, indent=1))
    return verdict


def _under_fire(
    plan: Plan, cluster: Cluster, desk: RunDesk, say: Callable[[str], None]
) -> tuple[set[str], dict[str, int]]:
    """Start runs and kill nodes by the clock; return the runs, and how often each node was killed."""
    argv = ["sh", "-c", _SCRIPT]
    desk.apply(
        _PIPELINE,
        *(
            {"name": name, "command": {"argv": argv}, **({"after": [STEPS[number - 1]]} if number else {})}
            for number, name in enumerate(STEPS)
        ),
    )
    dice, kills = random.Random(plan.seed), Counter[str]()
    runs: set[str] = set()
    begun = told = time.monotonic()
    while (passed := time.monotonic() - begun) < plan.seconds:
        due = min(plan.runs, int(plan.runs * passed / plan.seconds) + 1)
        runs |= {desk.start(_PIPELINE) for _ in range(due - len(runs))}
        if passed > plan.every * (kills.total() + 1):
            name = dice.choice(list(cluster.nodes))
            cluster.kill(name)
            kills[name] += 1
        if time.monotonic() - told > 30:
            told = time.monotonic()
            say(f"{desk.ended} of {len(runs)} runs have ended, {kills.total()} kills")
        time.sleep(0.01)
    runs |= {desk.start(_PIPELINE) for _ in range(plan.runs - len(runs))}
    desk.flush()
    return runs, dict(kills)


def _await_all(desk: RunDesk, runs: int, say: Callable[[str], None]) -> None:
    """Wait until all have ended, for as long as anything happens: first come, first served, so the first steps of all come
    before the last step of any.
    """
    say(f"{desk.ended} of {runs} runs have ended, no more kills")
    last, deadline, told = -1, 0.0, time.monotonic()
    while desk.ended < runs:
        if time.monotonic() - told > 30:
            told = time.monotonic()
            say(f"{desk.ended} of {runs} runs have ended")
        if (events := desk.events) != last:
            last, deadline = events, time.monotonic() + _STILL_S
        elif time.monotonic() > deadline:
            raise RuntimeError(
                f"{runs - desk.ended} runs do not end: nothing has happened for {_STILL_S:g} s"
            )
        time.sleep(0.1)


def _verdict(cluster: Cluster, runs: set[str], judged: dict[str, Any]) -> dict[str, Any]:
    """Compare what the events say with what the programs have done."""
    offered, won, statuses = _told(cluster, runs)
    lines = [line.split() for line in (cluster.project / "ledger").read_text().splitlines()]
    done = Counter((run, step, int(attempt)) for run, step, attempt in lines)
    wrong = [f"attempt {one} was done {count} times" for one, count in done.items() if count > 1]
    wrong += [f"attempt {one} was done and never offered" for one in done.keys() - offered]
    wrong += [f"attempt {one} succeeded and was never done" for one in won - done.keys()]
    wrong += [
        f"step {run} {step} succeeded {count} times"
        for (run, step), count in Counter((run, step) for run, step, _ in won).items()
        if count > 1
    ]
    wrong += [f"run {run} ended as {statuses.get(run)}" for run in runs if statuses.get(run) != "succeeded"]
    wrong += [f"{len(won)} of {3 * len(runs)} steps succeeded"] if len(won) != 3 * len(runs) else []
    effects = Counter((run, step) for run, step, _ in done)
    return {
        "runs": len(runs),
        "succeeded": sum(status == "succeeded" for status in statuses.values()),
        "effects": done.total(),
        "effects_again": sum(count - 1 for count in effects.values()),
        "judged": judged["runs"],
        "open": judged["open"],
        "findings": judged["findings"],
        "wrong": wrong,
        "anomalies": len(wrong) + len(judged["findings"]) + judged["open"],
    }


def _told(cluster: Cluster, runs: set[str]) -> tuple[set[Attempt], set[Attempt], dict[str, str]]:
    """Return the attempts that were offered, those that succeeded, and how each run ended, by the events."""
    codec = Codec(cluster.registry)
    offered: set[Attempt] = set()
    won: set[Attempt] = set()
    statuses: dict[str, str] = {}
    for record in read(cluster.bootstrap, Topics(_PREFIX).events("run"), SHARDS):
        run, (name, event) = record.key.split(b"/")[1].decode(), codec.decode(record.value)
        kind = name.rpartition(".")[2]
        if kind == "RunEnded":
            statuses[run] = event["status"]
        elif kind == "StepOffered":
            offered.add((run, event["step"], event["attempt"]))
        elif kind == "StepSucceeded":
            won.add((run, event["step"], event["attempt"]))
    return offered, won, statuses


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main() -> int:
    """Do what the arguments say; exit code 0: no anomaly."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.runs", description="Kill those who do the runs."
    )
    parser.add_argument("--runs", type=int, default=5_000, help="runs of three steps")
    parser.add_argument("--seconds", type=float, default=300.0, help="over which they begin, and kills go on")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of who is killed")
    parser.add_argument("--keep", type=Path, default=Path(".flexcore") / "chaos", help="where it is kept")
    given = parser.parse_args()
    plan = Plan(given.runs, given.seconds, given.every, given.seed)
    folder = (given.keep / f"runs-{time.strftime('%Y%m%dT%H%M%S')}-{plan.seed}").absolute()
    _say(f"{plan}, kept in {folder}")
    with tempfile.TemporaryDirectory() as place:
        kafka = KafkaCluster(
            Path(place) / "kafka", folder.with_suffix(".kafka"), cache=cache_dir(), brokers=1
        )
        kafka.start()
        try:
            verdict = execute(plan, kafka.bootstrap, folder, _say)
        finally:
            kafka.stop()
    print(json.dumps(verdict, indent=1))
    return 1 if verdict["anomalies"] else 0


if __name__ == "__main__":
    sys.exit(main())
