"""Waiting for what a node cannot begin without: Kafka, and a schema registry that somebody else runs."""

import asyncio
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from app.node import NodeFailed
from app.ports import Ping

_WAIT_S = 30.0


async def await_kafka(kafka: Mapping[str, str]) -> None:
    """Return when a broker has answered: asked in short turns, so that a signal is obeyed meanwhile.

    Raises :class:`NodeFailed` when none has for 30 s, and at once for settings that no client takes.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WAIT_S
    while True:
        try:
            return await asyncio.to_thread(_ask_kafka, kafka)
        except KafkaException as error:
            said = error.args[0].str()
            if error.args[0].code() == KafkaError._INVALID_ARG:
                raise NodeFailed(f"librdkafka refuses a FLEXCORE_KAFKA_* setting: {said}.") from None
            if loop.time() > deadline:
                raise NodeFailed(
                    f"Kafka at {kafka['bootstrap.servers']} does not answer within {_WAIT_S:g} s ({said}); start it, or set "
                    "FLEXCORE_KAFKA_BOOTSTRAP."
                ) from None


def _ask_kafka(kafka: Mapping[str, str]) -> None:
    AdminClient({**kafka, "log_level": 2}).list_topics(timeout=1.0)


async def await_registry(ping: Ping) -> None:
    """Return when the registry answers: nothing can be written without the ids of its schemas.

    Raises :class:`NodeFailed` when it has not for 30 s.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WAIT_S
    while (complaint := await ping()) is not None:
        if loop.time() > deadline:
            raise NodeFailed(complaint)
        await asyncio.sleep(0.5)
