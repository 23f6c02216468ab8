"""The work that every contestant does, and how it is produced and measured from outside."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.partitioning import partition_of
from schemas.registry import MemoryRegistry
from streams.domain.aggregate import Aggregate
from streams.provision import provision
from streams.settings import WorkerSettings
from tests.performance.account import AGGREGATE, SCHEMAS

DEPOSIT = "flexcore.account.Deposit"
DEPOSITED = "flexcore.account.Deposited"
OUTCOME = "flexcore.common.Outcome"


@dataclass(frozen=True, slots=True)
class Work:
    """How much, over what."""

    bootstrap: str
    prefix: str
    commands: int
    aggregates: int = 10_000
    shards: int = 4


def codec_of_all() -> tuple[Codec, Catalogue]:
    """Return a codec whose schema ids are the same in every process of the benchmark."""
    catalogue = Catalogue.load().merged(Catalogue.load(SCHEMAS))
    codec = Codec(MemoryRegistry(), catalogue)
    for topic, name in (("commands", DEPOSIT), ("events", DEPOSITED), ("outcomes", OUTCOME)):
        codec.encoder(f"account.{topic}-{name}", catalogue.schema(name))
    return codec, catalogue


def make_topics(work: Work, aggregates: tuple[Aggregate, ...] = (AGGREGATE,)) -> None:
    """Create the topics of the aggregate under the work's prefix."""
    kafka = {"bootstrap.servers": work.bootstrap}
    provision(
        WorkerSettings(kafka, work.prefix, "bench", SCHEMAS, prefix=work.prefix, shards=work.shards),
        aggregates,
    )


def produce(work: Work, rate: float | None = None, seed: int = 1) -> float:
    """Produce the commands, at ``rate`` a second (open loop) or as fast as possible; return the seconds it took."""
    codec, catalogue = codec_of_all()
    encode = codec.encoder(f"account.commands-{DEPOSIT}", catalogue.schema(DEPOSIT))
    producer = Producer(
        {"bootstrap.servers": work.bootstrap, "linger.ms": 0.5 if rate else 20, "log_level": 3}
    )
    keys = [f"default/account-{number}".encode() for number in range(work.aggregates)]
    parts = [partition_of(key, work.shards) for key in keys]
    chance = random.Random(seed)
    topic = f"{work.prefix}.account.commands"
    start = time.perf_counter()
    for number in range(work.commands):
        if rate and (wait := start + number / rate - time.perf_counter()) > 0:
            time.sleep(wait)
        which = chance.randrange(work.aggregates)
        value = encode({"amount": chance.randint(-10, 90), "sent_at": time.time_ns() // 1000})
        headers = [("command-id", str(uuid.UUID(int=chance.getrandbits(128), version=4)).encode())]
        while True:
            try:
                producer.produce(topic, value, keys[which], parts[which], headers=headers)  # type: ignore[arg-type]  # list is invariant
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush(60)
    return time.perf_counter() - start


def watch(
    bootstrap: str,
    topic: str,
    partitions: int,
    wanted: int,
    timeout_s: float,
    seen: Callable[[bytes], None] | None = None,
) -> list[float]:
    """Follow a topic as a read_committed client until ``wanted`` records are there; return when each became visible."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "watch",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 5,
            "log_level": 3,
        }
    )
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    at: list[float] = []
    deadline = time.monotonic() + timeout_s
    try:
        while len(at) < wanted and time.monotonic() < deadline:
            first = consumer.poll(0.1)
            if first is None:
                continue
            for record in (first, *consumer.consume(5000, 0)):
                if (error := record.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise RuntimeError(str(error))
                    continue
                at.append(time.time())
                if seen is not None:
                    seen(record.value() or b"")
    finally:
        consumer.close()
    return at
