"""The product's own write path over the benchmark's aggregate: nothing switched off.

``python -m tests.performance.ours BOOTSTRAP PREFIX COMMANDS``
"""

import asyncio
import contextlib
import signal

import uvloop

from schemas.catalogue import Catalogue
from streams.settings import WorkerSettings
from streams.worker import Worker, create_worker
from tests.performance.account import AGGREGATE, SCHEMAS
from tests.performance.breakdown import Breakdown
from tests.performance.invocation import Invocation, parse
from tests.performance.wire import registry_of_all


def worker_of(told: Invocation) -> Worker:
    """Return the worker that a node would run, for the benchmark's aggregate."""
    catalogue = Catalogue.load().merged(Catalogue.load(SCHEMAS))
    settings = WorkerSettings(
        {"bootstrap.servers": told.bootstrap},
        told.prefix,
        told.node,
        told.state,
        prefix=told.prefix,
        shards=told.shards,
    )
    return create_worker(settings, registry_of_all(catalogue), catalogue, [AGGREGATE], {})


async def run(told: Invocation) -> None:
    """Process the commands and end."""
    worker = worker_of(told)
    counters = worker.engine.counters
    breakdown = Breakdown() if told.breakdown else None
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await worker.app.start()
    while counters.commands < told.commands and not ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 0.05)
        if worker.app.crashed:
            raise SystemExit("the worker ended by itself")
    parts = breakdown.stop(counters.commands) if breakdown else {}
    told.report(
        commands=counters.commands,
        transactions=counters.transactions,
        aborts=counters.aborts,
        loads=counters.loads,
        parts_us=parts,
    )
    await worker.app.stop()


if __name__ == "__main__":
    uvloop.run(run(parse()))
