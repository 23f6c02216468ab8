"""The product's own write path over the benchmark's aggregate: nothing switched off.

``python -m tests.performance.ours BOOTSTRAP PREFIX COMMANDS``
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from schemas.registry import MemoryRegistry
from streams.settings import WorkerSettings
from streams.worker import create_worker
from tests.performance.account import AGGREGATE
from tests.performance.load import DEPOSIT, DEPOSITED, OUTCOME, codec_of_all


def _time(owner: Any, name: str, what: str, spent: dict[str, float]) -> None:
    original = getattr(owner, name)

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*args)
        finally:
            spent[what] = spent.get(what, 0.0) + time.perf_counter() - start

    setattr(owner, name, timed)


async def run(bootstrap: str, prefix: str, commands: int, shards: int = 4) -> None:
    """Process ``commands`` commands and end."""
    _, catalogue = codec_of_all()
    registry = MemoryRegistry()
    for topic, name in (("commands", DEPOSIT), ("events", DEPOSITED), ("outcomes", OUTCOME)):
        registry.register(f"account.{topic}-{name}", catalogue.schema(name))
    with tempfile.TemporaryDirectory() as folder:
        settings = WorkerSettings(
            {"bootstrap.servers": bootstrap}, prefix, "bench", Path(folder), prefix=prefix, shards=shards
        )
        worker = create_worker(settings, registry, catalogue, [AGGREGATE], {})
        spent: dict[str, float] = {}
        _time(worker.engine, "_decide", "decide and encode", spent)
        _time(worker.engine._writer, "produce", "produce", spent)
        _time(worker.engine, "_commit", "wait for the commit", spent)
        _time(worker.engine, "_merge", "merge", spent)
        begun = time.process_time()
        await worker.app.start()
        while worker.engine.counters.commands < commands:  # noqa: ASYNC110  # the engine counts, it does not signal
            await asyncio.sleep(0.05)
        counters = worker.engine.counters
        parts = ", ".join(f"{what} {1e6 * seconds / commands:.1f}" for what, seconds in spent.items())
        print(
            f"CPU {time.process_time() - begun:.3f} | wall us a command: {parts};"
            f" {commands / max(counters.transactions, 1):.0f} commands a transaction, {counters.aborts} aborted",
            flush=True,
        )
        await worker.app.stop()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
