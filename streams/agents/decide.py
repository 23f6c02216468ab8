"""The command agent: batches of every commands topic go to the engine, in order."""

from collections.abc import Sequence
from typing import Any

import faust

from streams.transport.transport import PassThrough
from streams.writer.ownership import Ownership


def register(app: faust.App, ownership: Ownership, commands_topics: Sequence[str]) -> None:
    """Register the agent that feeds the shards. It only hands over: no failure of a command can reach Faust."""
    schema = PassThrough(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    topic = app.topic(*commands_topics, schema=schema, acks=False, allow_empty=True)

    async def decide(stream: Any) -> None:
        async for batches in stream:
            ownership.submit(batches)

    app.agent(topic, name="flexcore.decide")(decide)
