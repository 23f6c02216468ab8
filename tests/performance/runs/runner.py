"""The product's runner, whose programs do nothing: ``python -m tests.performance.runs.runner BOOTSTRAP PREFIX REGISTRY``.

Offers, claims in transactions, leases, heartbeats and results are the product's. What is left out is the starting of
a program, which is the operating system's work and would be the whole of what is measured.
"""

import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from connectors.runners import runner
from connectors.runners.execution import Execution
from connectors.runners.offer import Ended
from connectors.runners.settings import RunnerSettings
from schemas.codec import Codec
from schemas.registry import HttpRegistry
from tests.support.platform import SHARDS

_CONCURRENCY = 500


class _Nothing(Execution):
    """An attempt that ends well at once."""

    async def run(self) -> Ended:
        """Do nothing."""
        return Ended(output={"exit_code": 0})


async def run(bootstrap: str, prefix: str, registry: str) -> None:
    """Work until SIGTERM; one line on stdout says that it has begun."""
    patched: Any = runner
    patched.Execution = _Nothing
    with tempfile.TemporaryDirectory() as folder:
        settings = RunnerSettings(
            kafka={"bootstrap.servers": bootstrap},
            cluster=prefix,
            node="runner",
            registry_url=registry,
            project_dir=Path(folder),
            plugins_dir=Path(folder),
            prefix=prefix,
            shards=SHARDS,
            concurrency=_CONCURRENCY,
        )
        held = runner.Runner(settings, Codec(HttpRegistry(registry)))
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await held.start()
        print("{}", flush=True)
        await ended.wait()
        await held.stop(0.0)


if __name__ == "__main__":
    uvloop.run(run(*sys.argv[1:4]))
