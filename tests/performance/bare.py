"""The bare loop: librdkafka and nothing else, doing the same work with the same codec, exactly once.

One transaction a batch; state in a dict; no membership check, no recovery, no dedupe over restarts, no timers.
What it costs is what the job itself costs in Python: ``python -m tests.performance.bare BOOTSTRAP PREFIX COMMANDS``.
"""

import gc
import time
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.topics import Topics
from tests.performance.invocation import Invocation, parse
from tests.performance.job import Job, Memory
from tests.performance.wire import outputs

_SETTINGS: dict[str, Any] = {"enable.sparse.connections": False, "socket.nagle.disable": True, "log_level": 3}


def clients(bootstrap: str, prefix: str) -> tuple[Consumer, Producer]:
    """Return both clients with the settings that the product has."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{prefix}.bare",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "queued.min.messages": 20_000,
            "fetch.queue.backoff.ms": 5,
            **_SETTINGS,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": f"{prefix}.bare",
            "linger.ms": 1,
            "batch.size": 1 << 20,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 400_000,
            "retry.backoff.ms": 1,
            "retry.backoff.max.ms": 10,
            "compression.type": "lz4",
            **_SETTINGS,
        }
    )
    producer.init_transactions(30)
    return consumer, producer


def run(told: Invocation) -> None:
    """Process the commands and end."""
    # As the product does: the states are many, and collecting garbage among them would be a fifth of the CPU.
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 100)
    memory = Memory(Job(outputs(told.prefix, "bare"), told.prefix, f"{told.prefix}/bare"))
    consumer, producer = clients(told.bootstrap, told.prefix)
    topic = Topics(told.prefix).commands("account")
    consumer.assign([TopicPartition(topic, number, 0) for number in range(told.shards)])
    done = transactions = 0
    while done < told.commands:
        first = consumer.poll(0.1)
        if first is None:
            continue
        batch: list[Any] = [first, *consumer.consume(3999, 0)]
        producer.begin_transaction()
        offsets: dict[int, int] = {}
        for record in batch:
            part, offset = record.partition(), record.offset()
            offsets[part] = offset + 1
            source = (part, offset, record.timestamp()[1])
            produced = memory.do(record.key(), record.value(), record.headers(), source)
            for name, value, key, partition, headers in produced:
                producer.produce(name, value, key, partition, headers=headers)  # type: ignore[arg-type]  # list is invariant
        producer.send_offsets_to_transaction(
            [TopicPartition(topic, part, offset) for part, offset in offsets.items()],
            consumer.consumer_group_metadata(),
            10,
        )
        producer.commit_transaction(10)
        done += len(batch)
        transactions += 1
        time.sleep(0.002)
    told.report(transactions=transactions)


if __name__ == "__main__":
    run(parse())
