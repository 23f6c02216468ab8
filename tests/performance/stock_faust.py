"""Stock Faust doing the same work as its documentation teaches: agent, memory table, sends; at least once.

``python -m tests.performance.stock_faust BOOTSTRAP PREFIX COMMANDS``
"""

import asyncio
import sys
import time
import uuid
from typing import Any

import faust

from schemas.topics import Topics
from streams.domain.aggregate import Message
from streams.writer.encoding import Encoder, body_hash, cause_of
from tests.performance.account import AGGREGATE, Account, Deposit, decide, evolve
from tests.performance.load import codec_of_all


async def run(bootstrap: str, prefix: str, commands: int, shards: int = 4) -> None:
    """Process ``commands`` commands and end."""
    codec, catalogue = codec_of_all()
    encoder = Encoder(AGGREGATE, catalogue, codec, Topics(prefix), prefix, "stock")
    app = faust.App(
        f"{prefix}.stock",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        datadir=f"/tmp/{prefix}-faust-{uuid.uuid4().hex[:6]}",
    )
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    source = app.topic(f"{prefix}.account.commands", **raw)
    events_topic = app.topic(f"{prefix}.account.events", **raw)
    outcomes_topic = app.topic(f"{prefix}.account.outcomes", **raw)
    states: dict[bytes, tuple[int, Account]] = {}
    seen: set[bytes] = set()
    sequences = dict.fromkeys(range(shards), 0)
    done = asyncio.Event()
    count = 0

    async def deposits(stream: Any) -> None:
        nonlocal count
        async for event in stream.events():
            message_in = event.message
            key, part, offset = message_in.key, message_in.partition, message_in.offset
            command_id = dict(message_in.headers)["command-id"].decode()
            _, body = codec.decode(event.value)
            command = Deposit(**body)
            if key + command_id.encode() not in seen:
                seen.add(key + command_id.encode())
                version, state = states.get(key) or (0, Account())
                tenant, _, name = key.decode().partition("/")
                message = Message(
                    command,
                    tenant,
                    name,
                    command_id,
                    int(message_in.timestamp * 1000),
                    "anonymous",
                    command_id,
                )
                cause = cause_of(command_id, "", offset, None)
                decided = decide(message, state)
                accepted = isinstance(decided, tuple)
                for index, fact in enumerate(decided if accepted else ()):
                    version += 1
                    sequences[part] += 1
                    state = evolve(state, fact)
                    _, out = encoder.event(message, fact, key, part, version, sequences[part], index, cause)
                    await events_topic.send(key=out[2], value=out[1], partition=part, headers=out[4])
                states[key] = (version, state)
                sequences[part] += 1
                out = encoder.outcome(
                    {
                        "command_id": command_id,
                        "command_type": "Deposit",
                        "tenant": tenant,
                        "aggregate": "account",
                        "aggregate_id": name,
                        "status": "accepted" if accepted else "rejected",
                        "reason": None if accepted else decided.reason,
                        "detail": None if accepted else decided.detail,
                        "first_version": version,
                        "last_version": version,
                        "shard": part,
                        "sequence": sequences[part],
                        "position": sequences[part],
                        "body_hash": body_hash("Deposit", command),
                        "actor": "anonymous",
                        "correlation_id": command_id,
                        "at": message.now,
                        "stored": True,
                        "reply": None,
                    },
                    part,
                    offset,
                )
                await outcomes_topic.send(key=out[2], value=out[1], partition=part, headers=out[4])
            count += 1
            if count >= commands:
                done.set()

    app.agent(source, name="deposits")(deposits)
    await app.start()
    await done.wait()
    print(f"CPU {time.process_time():.3f}", flush=True)
    await app.stop()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
