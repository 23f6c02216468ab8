"""One worker of the fault runs in a process of its own: ``python -m tests.chaos.worker '<json>'``.

It runs the product's worker over the ``wallet`` aggregate. Faults inside the process are asked for by files in its data
directory, each looked at where it acts:

- ``clock``: milliseconds by which its clock is wrong, while the file exists;
- ``lost-answer``: the next commit succeeds, and its caller is told that it timed out; the file is removed;
- ``refused``: the next transaction is refused before its commit; the file is removed;
- ``hold-begin``, ``hold-commit``: a batch waits before its transaction begins, or before it commits, while the file
  exists; ``holding`` exists meanwhile;
- ``dump``: the states in memory are written to ``state.json``; the file is removed.

The environment variable ``CHAOS_PLANT`` names a bug of ``planted.py`` that this process is to have.
"""

import asyncio
import faulthandler
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from app.config import KAFKA_DEFAULTS
from schemas.catalogue import Catalogue
from schemas.errors import RegistryUnavailable
from schemas.registry import HttpRegistry
from streams.provision import provision
from streams.settings import WorkerSettings
from streams.worker import Worker, create_worker
from tests.chaos import planted
from tests.chaos.wallet import AGGREGATE, SCHEMAS

_log = logging.getLogger(__name__)


def _wait_while(file: Path) -> None:
    if not file.exists():
        return
    holding = file.with_name("holding")
    holding.touch()
    while file.exists():
        time.sleep(0.01)
    holding.unlink(missing_ok=True)


def _taken(file: Path) -> bool:
    """Tell whether the file was there, and remove it."""
    if not file.exists():
        return False
    file.unlink(missing_ok=True)
    return True


def fail_on_demand(worker: Worker, folder: Path) -> None:
    """Put the faults inside the process in place."""
    writer: Any = worker.engine._writer
    engine: Any = worker.engine
    send, send_offsets, commit = engine._send, writer.send_offsets, writer.commit

    async def held_send(work: Any) -> None:
        hold, holding = folder / "hold-begin", folder / "holding"
        if hold.exists():
            holding.touch()
            while hold.exists():  # noqa: ASYNC110 - a file is all that the run and its worker share
                await asyncio.sleep(0.01)
            holding.unlink(missing_ok=True)
        await send(work)

    def refused_send(offsets: Any, membership: Any) -> None:
        if _taken(folder / "refused"):
            raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION, "on demand", False, False, True))
        send_offsets(offsets, membership)

    def held_commit() -> None:
        if (folder / "hold-commit").exists():
            writer._producer.flush()
            _wait_while(folder / "hold-commit")
        commit()
        if _taken(folder / "lost-answer"):
            writer._open = True
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "on demand, after it was committed"))

    engine._send, writer.send_offsets, writer.commit = held_send, refused_send, held_commit
    clock = folder / "clock"

    def wrong_clock() -> float:
        try:
            return time.time() + int(clock.read_text()) / 1000
        except (FileNotFoundError, ValueError):
            return time.time()

    engine._clock = wrong_clock


def dump(worker: Worker, file: Path) -> None:
    """Write what is in memory of each shard that is ready."""
    owned: dict[int, Any] = worker.engine.ownership._shards
    shards = {}
    for number, shard in owned.items():
        if shard.phase == "ready":
            piece = shard.slices["wallet"]
            states = {
                key.decode().partition("/")[2]: [
                    entry.version,
                    entry.state.balance,
                    entry.state.held,
                    entry.state.until,
                ]
                for key, entry in piece.states.items()
            }
            shards[number] = {"next": piece.next, "sequence": piece.sequence, "wallets": states}
    part = file.with_suffix(".part")
    part.write_text(json.dumps(shards))
    part.rename(file)


def tell(worker: Worker) -> None:
    """Print what every thread and task is doing: for a run that found a shard without an owner."""
    engine: Any = worker.engine
    print(
        "SHARDS", engine.ownership.phases(), engine.ownership.problem, engine._flight, engine.ownership._busy
    )
    for task in asyncio.all_tasks():
        task.print_stack(limit=6, file=sys.stdout)
    sys.stdout.flush()
    faulthandler.dump_traceback(sys.stdout)


def build(options: dict[str, Any], folder: Path) -> Worker:
    """Return the worker; asks again while Kafka or the registry is away, as a node does. Blocking."""
    settings = WorkerSettings(
        kafka={"bootstrap.servers": options["kafka"], **KAFKA_DEFAULTS},
        cluster=options["prefix"],
        node=options["node"],
        data_dir=folder,
        prefix=options["prefix"],
        shards=options["shards"],
        replication=options["replication"],
        snapshot_tail_records=400,
        **options["settings"],
    )
    catalogue = Catalogue.load().merged(Catalogue.load(SCHEMAS))
    while True:
        try:
            provision(settings, [AGGREGATE], timeout_s=5)
            return create_worker(settings, HttpRegistry(options["registry"], 3.0), catalogue, [AGGREGATE], {})
        except (RegistryUnavailable, KafkaException) as error:
            _log.warning("not yet: %s", error)
            time.sleep(0.3)


async def main(options: dict[str, Any]) -> int:
    """Run until SIGTERM; return the exit code."""
    folder = Path(options["data_dir"])
    worker = build(options, folder)  # on this thread: Faust binds to the loop it is made in
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell, worker)
    fail_on_demand(worker, folder)
    if bug := os.environ.get("CHAOS_PLANT"):
        planted.BUGS[bug](worker)
    await worker.app.start()
    said = False
    while not stop.is_set():
        if not said and worker.engine.ownership.phases() and worker.engine.ownership.ready:
            said = True
            print("READY", flush=True)
        if worker.app.crashed:
            print("CRASHED", worker.app.crash_reason, flush=True)
            return 1
        if _taken(folder / "dump"):
            dump(worker, folder / "state.json")
        await asyncio.sleep(0.05)
    await worker.app.stop()
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
