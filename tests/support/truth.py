"""What really is on the topics, read by a plain Kafka client and judged without the product's counters."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition


class Seen(NamedTuple):
    """A record as it is on the topic."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]
    at: int


def read(bootstrap: str, topic: str, partitions: int, isolation: str = "read_committed") -> list[Seen]:
    """Return all records of a topic, partition by partition in offset order, up to the high watermark of now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "truth",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # its end is what is waited for
        }
    )
    parts = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)]
    ends = {part.partition: consumer.get_watermark_offsets(part, timeout=10)[1] for part in parts}
    left = {number for number, end in ends.items() if end}
    records: dict[int, list[Seen]] = {number: [] for number in range(partitions)}
    try:
        consumer.assign([part for part in parts if part.partition in left])
        while left:
            for record in cast(list[Any], consumer.consume(5000, 0.05)):
                error = record.error()
                if error is None:
                    records[record.partition()].append(
                        Seen(
                            record.partition(),
                            record.offset(),
                            record.key() or b"",
                            record.value() or b"",
                            dict(record.headers() or ()),
                            record.timestamp()[1],
                        )
                    )
                elif (
                    error.code() == KafkaError._PARTITION_EOF and record.offset() >= ends[record.partition()]
                ):
                    left.discard(record.partition())
    finally:
        consumer.close()
    return [record for number in range(partitions) for record in records[number]]


@dataclass
class Verdict:
    """What a log of accounts holds, and everything that is wrong with it."""

    problems: list[str] = field(default_factory=list)
    events: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    outcome_of: dict[str, list[bytes]] = field(default_factory=dict)
    event_commands: Counter[str] = field(default_factory=Counter)
    writers: list[tuple[int, str, int]] = field(
        default_factory=list
    )  # shard, transactional id, append time (ms)


def judge(bootstrap: str, prefix: str, shards: int, decode: Any) -> Verdict:
    """Fold the account topics: versions and sequences gapless, balances right, each event and outcome once."""
    verdict = Verdict()
    versions: dict[str, int] = {}
    balances: dict[str, int] = {}
    sequences: dict[int, list[int]] = {number: [] for number in range(shards)}
    keys: Counter[bytes] = Counter()
    # Outcomes first: an outcome that is there has its events there, not the other way round in time.
    for record in read(bootstrap, f"{prefix}.account.outcomes", shards):
        _, body = decode(record.value)
        verdict.outcome_of.setdefault(body["command_id"], []).append(record.value)
        if "replayed" in record.headers:
            continue
        verdict.outcomes[body["status"]] += 1
        sequences[record.partition].append(body["sequence"])
    for record in read(bootstrap, f"{prefix}.account.events", shards):
        _, body = decode(record.value)
        envelope = body["envelope"]
        name = envelope["aggregate_id"]
        verdict.events += 1
        verdict.event_commands[envelope["command_id"]] += 1
        verdict.writers.append((record.partition, record.headers["writer"].decode(), record.at))
        keys[record.key] += 1
        if envelope["version"] != versions.get(name, 0) + 1:
            verdict.problems.append(f"{name}: version {envelope['version']} after {versions.get(name, 0)}")
        versions[name] = envelope["version"]
        balances[name] = balances.get(name, 0) + body["amount"]
        if body["balance"] != balances[name]:
            verdict.problems.append(
                f"{name}: balance {body['balance']}, and the deposits are {balances[name]}"
            )
        sequences[record.partition].append(envelope["sequence"])
    verdict.problems += [f"key {key!r} {count} times" for key, count in keys.items() if count > 1]
    verdict.problems += [
        f"{cid}: {count} events" for cid, count in verdict.event_commands.items() if count > 1
    ]
    for number, found in sequences.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            verdict.problems.append(f"shard {number}: sequences are not 1..{len(found)}")
    for command_id, answers in verdict.outcome_of.items():
        if len(set(answers)) > 1:
            verdict.problems.append(f"{command_id}: {len(set(answers))} different outcomes")
    return verdict
