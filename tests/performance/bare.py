"""The bare loop: librdkafka and nothing else, doing the same work with the same codec, exactly once.

One transaction a batch; state in a dict; no membership check, no recovery, no dedupe over restarts, no timers.
What it costs is what the job itself costs in Python: ``python -m tests.performance.bare BOOTSTRAP PREFIX COMMANDS``.
"""

import sys
import time
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.performance.job import Job

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


def run(bootstrap: str, prefix: str, commands: int, shards: int = 4) -> None:
    """Process ``commands`` commands and end."""
    begun = time.process_time()
    job = Job(prefix, "bare", shards)
    consumer, producer = clients(bootstrap, prefix)
    topic = f"{prefix}.account.commands"
    consumer.assign([TopicPartition(topic, number, 0) for number in range(shards)])
    done = 0
    while done < commands:
        first = consumer.poll(0.1)
        if first is None:
            continue
        batch: list[Any] = [first, *consumer.consume(3999, 0)]
        producer.begin_transaction()
        offsets: dict[int, int] = {}
        for record in batch:
            part, offset = record.partition(), record.offset()
            offsets[part] = offset + 1
            produced = job.do(
                record.key(), record.value(), record.headers(), part, offset, record.timestamp()[1]
            )
            for name, value, key, partition, headers in produced:
                producer.produce(name, value, key, partition, headers=headers)  # type: ignore[arg-type]  # list is invariant
        producer.send_offsets_to_transaction(
            [TopicPartition(topic, part, offset) for part, offset in offsets.items()],
            consumer.consumer_group_metadata(),
            10,
        )
        producer.commit_transaction(10)
        done += len(batch)
        time.sleep(0.002)
    print(f"CPU {time.process_time() - begun:.3f}", flush=True)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
