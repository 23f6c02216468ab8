"""One runner in a process of its own, for tests that kill it: ``python -m tests.support.runner_process '<json>'``."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from connectors.runners.runner import Runner
from connectors.runners.settings import RunnerSettings
from schemas.codec import Codec
from schemas.registry import HttpRegistry
from tests.support.platform import SHARDS


async def main(options: dict[str, Any]) -> None:
    """Run until SIGTERM."""
    settings = RunnerSettings(
        kafka={"bootstrap.servers": options["kafka"]},
        cluster=options["prefix"],
        node=options.get("node", "first"),
        registry_url=options["registry"],
        project_dir=Path(options["project"]),
        plugins_dir=Path(options["data"]) / "plugins",
        prefix=options["prefix"],
        shards=SHARDS,
        kill_grace_s=1.0,
        environ=dict(os.environ),
    )
    runner = Runner(settings, Codec(HttpRegistry(options["registry"])))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await runner.start()
    await stop.wait()
    await runner.stop(5.0)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
