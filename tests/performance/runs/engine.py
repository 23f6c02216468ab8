"""The product's worker over all its aggregates: ``python -m tests.performance.runs.engine BOOTSTRAP PREFIX FOLDER``.

Prints one line of JSON when every shard is ready: the registry's address, seconds from the worker's start, and from when it had
the shards: before that it may wait for the session of a dead one to run out.
"""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import uvloop

from schemas.catalogue import Catalogue
from schemas.registry import MemoryRegistry
from streams.aggregates import builtin
from streams.provision import provision
from streams.reactors import REACTORS
from streams.settings import WorkerSettings
from streams.worker import create_worker
from tests.support.platform import SHARDS, RegistryServer


async def run(bootstrap: str, prefix: str, folder: Path) -> None:
    """Work until SIGTERM."""
    settings = WorkerSettings(
        {"bootstrap.servers": bootstrap}, prefix, "engine", folder, prefix=prefix, shards=SHARDS
    )
    registry, aggregates = MemoryRegistry(), builtin()
    await asyncio.to_thread(provision, settings, aggregates)
    worker = create_worker(settings, registry, Catalogue.load(), aggregates, REACTORS)
    server = RegistryServer(registry)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    begun = time.monotonic()
    await worker.app.start()
    phases = worker.engine.ownership.phases
    while len(phases()) < SHARDS:  # noqa: ASYNC110  # nobody is told, and nobody but a benchmark asks
        await asyncio.sleep(0.001)
    assigned = time.monotonic()
    while set(phases().values()) != {"ready"}:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.001)
    now = time.monotonic()
    told = {
        "registry": server.url,
        "ready_s": round(now - begun, 3),
        "loaded_s": round(now - assigned, 3),
    }
    print(json.dumps(told), flush=True)
    await ended.wait()
    await worker.app.stop()
    server.stop()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
