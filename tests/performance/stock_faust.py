"""Stock Faust doing the same work as its documentation teaches: agent, memory, sends; at least once.

``python -m tests.performance.stock_faust BOOTSTRAP PREFIX COMMANDS``
"""

import asyncio
import sys
import tempfile
import time
from typing import Any

import faust

from tests.performance.job import Job


async def run(bootstrap: str, prefix: str, commands: int, shards: int = 4) -> None:
    """Process ``commands`` commands and end."""
    app = faust.App(
        f"{prefix}.stock",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        datadir=tempfile.mkdtemp(),
    )
    raw: dict[str, Any] = {
        "key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"
    }  # fmt: skip
    source = app.topic(f"{prefix}.account.commands", **raw)
    targets = {
        name: app.topic(name, **raw) for name in (f"{prefix}.account.events", f"{prefix}.account.outcomes")
    }
    job = Job(prefix, "stock", shards)
    done = asyncio.Event()
    count = 0

    async def deposits(stream: Any) -> None:
        nonlocal count
        async for event in stream.events():
            record = event.message
            at_ms = int(record.timestamp * 1000)
            produced = job.do(record.key, event.value, record.headers, record.partition, record.offset, at_ms)
            for name, value, key, partition, headers in produced:
                await targets[name].send(key=key, value=value, partition=partition, headers=headers)
            count += 1
            if count >= commands:
                done.set()

    app.agent(source, name="deposits")(deposits)
    begun = time.process_time()
    await app.start()
    await done.wait()
    print(f"CPU {time.process_time() - begun:.3f}", flush=True)
    await app.stop()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
