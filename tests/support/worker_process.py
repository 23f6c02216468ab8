"""One worker in a process of its own, for tests that kill it: ``python -m tests.support.worker_process '<json>'``.

Runs the benchmark's ``account`` aggregate. ``kill`` = [point, when, n] makes the process kill itself with SIGKILL
before or after the n-th passing of a point of the write path: send_offsets, commit, end (everything is written), merge. ``hold`` = a file:
while it exists, a transaction stays open before its commit. ``broken`` = a file: while it exists, the rules raise.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from schemas.catalogue import Catalogue
from schemas.registry import MemoryRegistry
from streams.domain.aggregate import Aggregate, Decision, Message
from streams.protocol.producer import TransactionalProducer
from streams.provision import provision
from streams.settings import WorkerSettings
from streams.worker import Worker, create_worker
from tests.performance.account import AGGREGATE, SCHEMAS


def _die_at(owner: Any, name: str, when: str, count: int) -> None:
    original = getattr(owner, name)
    passed = 0

    def wrapped(*args: Any, **named: Any) -> Any:
        nonlocal passed
        passed += 1
        if when == "before" and passed == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **named)
        if when == "after" and passed == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def _hold(writer: Any, file: Path) -> None:
    commit = writer.commit

    def held() -> None:
        if file.exists():
            writer._producer.flush()
            file.with_suffix(".holding").touch()
            while file.exists():
                time.sleep(0.01)
        commit()

    writer.commit = held


def _breakable(file: Path) -> Aggregate:
    def decide(message: Message, account: Any) -> Decision:
        if file.exists():
            raise RuntimeError("a bug")
        return AGGREGATE.decide(message, account)

    return replace(AGGREGATE, decide=decide)


def build(options: dict[str, Any]) -> Worker:
    """Return the worker that the options describe."""
    settings = WorkerSettings(
        kafka={"bootstrap.servers": options["kafka"]},
        cluster=options["prefix"],
        node=options["node"],
        data_dir=Path(options["data_dir"]),
        prefix=options["prefix"],
        shards=options.get("shards", 4),
        batch_records_max=options.get("batch", 2000),
        group_protocol=options.get("protocol", "classic"),
        group_instance_id=options.get("instance"),
        session_timeout_ms=options.get("session_ms", 6_000),
        heartbeat_interval_ms=options.get("session_ms", 6_000) // 8,
        standbys=options.get("standbys", 0),
        snapshot_tail_records=options.get("tail", 20_000),
    )
    aggregate = _breakable(Path(options["broken"])) if options.get("broken") else AGGREGATE
    aggregate = replace(aggregate, parks=options.get("parks", False))
    provision(settings, [aggregate])
    worker = create_worker(
        settings, MemoryRegistry(), Catalogue.load().merged(Catalogue.load(SCHEMAS)), [aggregate], {}
    )
    if options.get("kill"):
        point, when, count = options["kill"]
        owners: dict[str, Any] = {"merge": worker.engine, "end": TransactionalProducer}
        private = f"_{point}" if point in owners else point
        _die_at(owners.get(point, worker.engine._writer), private, when, count)
    if options.get("hold"):
        _hold(worker.engine._writer, Path(options["hold"]))
    return worker


async def main(options: dict[str, Any]) -> None:
    """Run until SIGTERM; print READY once every owned shard is ready."""
    worker = build(options)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await worker.app.start()
    said = False
    while not stop.is_set():
        if not said and worker.engine.ownership.phases() and worker.engine.ownership.ready:
            said = True
            print("READY", flush=True)
        if worker.app.crashed:
            print("CRASHED", worker.app.crash_reason, flush=True)
            break
        await asyncio.sleep(0.02)
    await worker.app.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(main(json.loads(sys.argv[1])))
