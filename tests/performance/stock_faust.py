"""Stock Faust doing the same work as its documentation teaches: agent, memory, sends; at least once.

``python -m tests.performance.stock_faust BOOTSTRAP PREFIX COMMANDS``
"""

import asyncio
from typing import Any

import faust

from schemas.topics import Topics
from tests.performance.invocation import Invocation, parse
from tests.performance.job import Job, Memory
from tests.performance.wire import outputs


async def run(told: Invocation) -> None:
    """Process the commands and end."""
    app = faust.App(
        f"{told.prefix}.stock_faust",
        broker=f"kafka://{told.bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        datadir=str(told.state),
    )
    raw: dict[str, Any] = {
        "key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"
    }  # fmt: skip
    own = outputs(told.prefix, "stock_faust")
    source = app.topic(Topics(told.prefix).commands("account"), **raw)
    targets = {name: app.topic(name, **raw) for name in (own.events("account"), own.outcomes("account"))}
    memory = Memory(Job(own, told.prefix, f"{told.prefix}/stock_faust"))
    done = asyncio.Event()
    count = 0

    async def deposits(stream: Any) -> None:
        nonlocal count
        async for event in stream.events():
            record = event.message
            where = (record.partition, record.offset, int(record.timestamp * 1000))
            for name, value, key, partition, headers in memory.do(
                record.key, event.value, record.headers, where
            ):
                await targets[name].send(key=key, value=value, partition=partition, headers=headers)
            count += 1
            if count >= told.commands:
                done.set()

    app.agent(source, name="deposits")(deposits)
    await app.start()
    await done.wait()
    await app.producer.flush()
    told.report()
    await app.stop()


if __name__ == "__main__":
    asyncio.run(run(parse()))
