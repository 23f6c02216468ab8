"""The work that every contestant does: which commands, on which topics, and how they get there."""

import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.partitioning import partition_of
from schemas.topics import Topics
from streams.provision import provision
from streams.settings import WorkerSettings
from streams.topics import aggregate_topics
from tests.performance.account import AGGREGATE, SCHEMAS
from tests.performance.watch import Progress
from tests.performance.wire import DEPOSIT, codec_of_all, outputs

OURS = "ours"
_LEADERS_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Work:
    """How many commands, over what; the same ``seed`` gives the same commands."""

    bootstrap: str
    prefix: str
    commands: int
    aggregates: int = 10_000
    shards: int = 4
    seed: int = 1


def commands_of(work: Work) -> Iterator[tuple[int, int, bytes]]:
    """Yield account, amount and command id of every command, in order. One in ten is not positive: refused."""
    chance = random.Random(work.seed)
    for _ in range(work.commands):
        account, amount = chance.randrange(work.aggregates), chance.randint(-10, 90)
        yield account, amount, str(uuid.UUID(int=chance.getrandbits(128), version=4)).encode()


def key_of_account(account: int) -> bytes:
    """Return the key of an account's commands."""
    return b"default/account-%d" % account


def make_topics(work: Work, contestants: tuple[str, ...]) -> None:
    """Create the commands topic and every contestant's events and outcomes, all by the product's own policies."""
    kafka = {"bootstrap.servers": work.bootstrap}
    provision(
        WorkerSettings(kafka, work.prefix, "bench", SCHEMAS, prefix=work.prefix, shards=work.shards),
        (AGGREGATE,),
    )
    wanted = []
    used = {Topics(work.prefix).commands("account")}
    for name in contestants:
        topics = outputs(work.prefix, name)
        own = {topics.events("account"), topics.outcomes("account")}
        used |= own
        if name != OURS:
            wanted += [spec for spec in aggregate_topics(topics, "account", work.shards) if spec.name in own]
    admin = AdminClient({**kafka, "log_level": 3})
    new = [NewTopic(spec.name, spec.partitions, 1, config=spec.config) for spec in wanted]
    for future in admin.create_topics(new).values() if new else ():
        future.result(60)
    for topic in used:
        _await_leaders(work.bootstrap, topic, work.shards)


def _await_leaders(bootstrap: str, topic: str, partitions: int) -> None:
    """Return when every partition answers: a new topic's leaders may not know yet that they lead."""
    deadline = time.monotonic() + _LEADERS_TIMEOUT_S
    while True:
        try:
            Progress(bootstrap, topic, partitions).look()
            return
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def drop_topics(work: Work) -> None:
    """Delete every topic of the work, those that contestants made for themselves as well."""
    admin = AdminClient({"bootstrap.servers": work.bootstrap, "log_level": 3})
    names = [name for name in admin.list_topics(timeout=30).topics if work.prefix in name]
    for future in admin.delete_topics(names).values() if names else ():
        future.result(60)


def produce(work: Work, rate: float | None = None) -> float:
    """Produce the commands, at ``rate`` a second (open loop) or as fast as possible; return when the last was due.

    With a rate, ``sent_at`` is when the command was due: what the producer itself is late counts as latency.
    """
    codec, catalogue = codec_of_all()
    encode = codec.encoder(f"account.commands-{DEPOSIT}", catalogue.schema(DEPOSIT))
    producer = Producer(
        {
            "bootstrap.servers": work.bootstrap,
            # 5 is what librdkafka and, from 4.0 on, Kafka's own producer wait. With less, at 5,000/s the load alone keeps
            # more than half a core of the broker busy, and what is measured is the queue before the machine.
            "linger.ms": 5 if rate else 20,
            "queue.buffering.max.messages": 400_000,
            "enable.idempotence": True,  # a retry must not change the order: the truth depends on it
            "socket.nagle.disable": True,
            "log_level": 3,
        }
    )
    keys = [key_of_account(number) for number in range(work.aggregates)]
    parts = [partition_of(key, work.shards) for key in keys]
    topic = Topics(work.prefix).commands("account")
    start = due = time.time()
    for number, (account, amount, command_id) in enumerate(commands_of(work)):
        if rate:
            due = start + number / rate
            if (wait_s := due - time.time()) > 0:
                time.sleep(max(wait_s, 0.001))  # not for each: sleeping costs more than a command
        value = encode({"amount": amount, "sent_at": int(due * 1e6)})
        headers = [("command-id", command_id)]
        while True:
            try:
                producer.produce(topic, value, keys[account], parts[account], headers=headers)  # type: ignore[arg-type]  # list is invariant
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush(60)
    return due
