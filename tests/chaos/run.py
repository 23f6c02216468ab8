"""One fault run from start to verdict, kept in a folder: seed and plan, history, faults, log, verdict."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.check import Anomaly, check
from tests.chaos.cluster import Cluster
from tests.chaos.load import Load
from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import Fault, plan
from tests.chaos.report import verdict
from tests.chaos.truth import Log, Row, decoder, outcome, read_log

_READY_S = 60.0
_LIVE_AGAIN_S = 30.0
_SETTLED_S = 15.0
_PREFIX = "chaos"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is made of; together with the plan drawn from it, all that is needed to make it again."""

    seed: int
    seconds: float
    faults: int
    brokers: int = 3
    workers: int = 3
    rate: float = 150.0
    plant: str | None = None
    kinds: tuple[str, ...] = ()
    standbys: int = 0
    session_ms: int = 6_000


def rows(file: Path) -> list[Row]:
    """Return the lines of a JSON-lines file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def execute(
    run: Run, folder: Path, say: Callable[[str], None], faults: list[Fault] | None = None
) -> dict[str, Any]:
    """Run it in ``folder`` (made, must be empty) and return the verdict. Blocking; on the calling thread's children."""
    folder.mkdir(parents=True)
    settings = {"standbys": run.standbys, "session_timeout_ms": run.session_ms}
    cluster = Cluster(folder / "cluster", run.brokers, run.workers, _PREFIX, run.plant, settings)
    if faults is None:
        kinds = frozenset(run.kinds) or None
        faults = plan(run.seed, run.seconds, run.faults, cluster.names, run.brokers, kinds)
    told = {"run": asdict(run), "plan": [asdict(fault) for fault in faults]}
    (folder / "run.json").write_text(json.dumps(told, indent=1))
    try:
        cluster.start(say)
        answered = _under_fire(run, cluster, faults, folder, say)
        log = _truth(cluster, folder, say)
    finally:
        cluster.stop()
    result = judge(folder, log, answered)
    if not result["anomalies_in_all"]:
        shutil.rmtree(folder / "cluster" / "kafka", ignore_errors=True)  # the brokers' data; the rest stays
    return result


def _under_fire(
    run: Run, cluster: Cluster, faults: list[Fault], folder: Path, say: Callable[[str], None]
) -> bool:
    """Load and faults, then quiet; tell whether every shard was live again in time."""
    _await_ready(cluster)
    decode = decoder(cluster.registry.schema)
    load = Load(
        cluster.bootstrap,
        cluster.prefix,
        cluster.shards,
        run.seed,
        folder / "history.jsonl",
        lambda seen: outcome(seen, decode),
        run.rate,
    )
    load.start()
    say(f"{len(faults)} faults over {run.seconds:.0f} s begin")
    nemesis = Nemesis(cluster, faults, folder / "faults.jsonl", load.hush)
    last = [time.monotonic()]

    def alive() -> None:
        if load.failure is not None:
            raise load.failure
        if time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            say(f"{load.answered} answers to {load.asked} askings")

    try:
        nemesis.run(alive)
        nemesis.heal()
        say("the faults are over")
        load.end()
        load.probe()
        deadline = time.monotonic() + _LIVE_AGAIN_S
        while load.pending and time.monotonic() < deadline:
            time.sleep(0.05)
        live = not load.pending
        if not live:
            for worker in cluster.workers.values():
                os.kill(worker.pid, signal.SIGUSR1)  # their logs then tell what they wait for
        time.sleep(1.0)  # what was sent is received without a client
    finally:
        load.finish()
    _dump(nemesis, cluster.shards, folder)
    return live


def _await_ready(cluster: Cluster) -> None:
    deadline = time.monotonic() + _READY_S
    for worker in cluster.workers.values():
        while not worker.log.exists() or b"READY" not in worker.log.read_bytes():
            if time.monotonic() > deadline or not worker.running:
                raise RuntimeError(f"{worker.name} is not ready: {worker.log_tail(20)}")
            time.sleep(0.05)


def _dump(nemesis: Nemesis, shards: int, folder: Path) -> None:
    """Keep what the workers hold in memory, once every shard has its owner back and no timer can change anything."""
    deadline = time.monotonic() + _SETTLED_S
    while True:
        memory = {name: json.loads(file.read_text()) for name, file in nemesis.ask_for_states().items()}
        owned = sorted(int(number) for pieces in memory.values() for number in pieces)
        slices = [piece for pieces in memory.values() for piece in pieces.values()]
        held = any(kept for piece in slices for _, _, kept, _ in piece["wallets"].values())
        if (owned == list(range(shards)) and not held) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    (folder / "memory.json").write_text(json.dumps(memory))


def _truth(cluster: Cluster, folder: Path, say: Callable[[str], None]) -> Log:
    log = read_log(cluster.bootstrap, cluster.prefix, cluster.shards, cluster.registry.schema)
    log.memory = json.loads((folder / "memory.json").read_text())
    log.save(folder / "log.jsonl")
    say(f"{len(log.events)} events read back")
    return log


def judge(folder: Path, log: Log, live: bool) -> dict[str, Any]:
    """Check what a folder holds, write ``verdict.json`` there and return it."""
    told = json.loads((folder / "run.json").read_text())
    history = rows(folder / "history.jsonl")
    start = time.monotonic()
    found = check(history, log)
    if not live:
        found.append(
            Anomaly("I16", f"some shard did not answer within {_LIVE_AGAIN_S:.0f} s of the last fault's end")
        )
    counts = {name: len(getattr(log, name)) for name in ("commands", "events", "outcomes", "quarantine")}
    about = {
        **told["run"],
        "folder": str(folder),
        "live": live,
        "checked_in_s": round(time.monotonic() - start, 1),
    }
    result = verdict(history, rows(folder / "faults.jsonl"), found, counts, about)
    (folder / "verdict.json").write_text(json.dumps(result, indent=1))
    return result
