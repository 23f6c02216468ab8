"""The bare loop: librdkafka and nothing else, doing the same work with the same codec, exactly once.

One transaction a batch; state in a dict; no membership check, no recovery, no dedupe over restarts, no timers.
What it costs is what the job itself costs in Python: ``python -m tests.performance.bare BOOTSTRAP PREFIX COMMANDS``.
"""

import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.topics import Topics
from streams.domain.aggregate import Message
from streams.writer.encoding import Encoder, body_hash, cause_of
from tests.performance.account import AGGREGATE, Account, Deposit, decide, evolve
from tests.performance.load import codec_of_all

_SETTINGS = {"enable.sparse.connections": False, "socket.nagle.disable": True, "log_level": 3}


def run(bootstrap: str, prefix: str, commands: int, shards: int = 4) -> None:
    """Process ``commands`` commands and end."""
    codec, catalogue = codec_of_all()
    encoder = Encoder(AGGREGATE, catalogue, codec, Topics(prefix), prefix, "bare")
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{prefix}.bare",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "queued.min.messages": 20000,
            **_SETTINGS,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": f"{prefix}.bare",
            "linger.ms": 1,
            "batch.size": 1 << 20,
            "batch.num.messages": 10000,
            "queue.buffering.max.messages": 400000,
            "retry.backoff.ms": 1,
            "retry.backoff.max.ms": 10,
            "compression.type": "lz4",
            **_SETTINGS,
        }
    )
    producer.init_transactions(30)
    topic = f"{prefix}.account.commands"
    consumer.assign([TopicPartition(topic, number, 0) for number in range(shards)])
    states: dict[bytes, tuple[int, Account]] = {}
    seen: set[bytes] = set()
    sequences = dict.fromkeys(range(shards), 0)
    done = 0
    while done < commands:
        first = consumer.poll(0.1)
        if first is None:
            continue
        batch = [first, *consumer.consume(2000, 0)]
        producer.begin_transaction()
        offsets: dict[int, int] = {}
        for record in batch:
            key, part = record.key(), record.partition()
            command_id = dict(record.headers())["command-id"].decode()
            _, body = codec.decode(record.value())
            command = Deposit(**body)
            offsets[part] = record.offset() + 1
            if key + command_id.encode() in seen:
                continue
            seen.add(key + command_id.encode())
            version, state = states.get(key) or (0, Account())
            tenant, _, aggregate_id = key.decode().partition("/")
            message = Message(
                command, tenant, aggregate_id, command_id, record.timestamp()[1], "anonymous", command_id
            )
            cause = cause_of(command_id, "", record.offset(), None)
            events = decide(message, state)
            accepted = isinstance(events, tuple)
            for index, event in enumerate(events if accepted else ()):
                version += 1
                sequences[part] += 1
                state = evolve(state, event)
                _, out = encoder.event(message, event, key, part, version, sequences[part], index, cause)
                producer.produce(out[0], out[1], out[2], out[3], headers=out[4])
            states[key] = (version, state)
            sequences[part] += 1
            out = encoder.outcome(
                {
                    "command_id": command_id,
                    "command_type": "Deposit",
                    "tenant": tenant,
                    "aggregate": "account",
                    "aggregate_id": aggregate_id,
                    "status": "accepted" if accepted else "rejected",
                    "reason": None if accepted else events.reason,
                    "detail": None if accepted else events.detail,
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
                record.offset(),
            )
            producer.produce(out[0], out[1], out[2], out[3], headers=out[4])
        producer.send_offsets_to_transaction(
            [TopicPartition(topic, part, offset) for part, offset in offsets.items()],
            consumer.consumer_group_metadata(),
            10,
        )
        producer.commit_transaction(10)
        done += len(batch)
        time.sleep(0.002)
    print(f"CPU {time.process_time():.3f} {uuid.uuid4().hex[:4]}", flush=True)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
