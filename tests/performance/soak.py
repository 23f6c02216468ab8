"""Soak mode: our worker at one rate for a long time (open loop). Does its memory grow, and does it keep up?

What it wrote is held against the commands in their order, so that the check needs no memory however long it took.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import linear_regression
from typing import Any

import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from schemas.partitioning import partition_of
from schemas.topics import Topics
from streams.settings import WorkerSettings
from streams.worker import group_id
from tests.performance.account import SCHEMAS
from tests.performance.contestants import OURS, Running
from tests.performance.load import Work, commands_of, key_of_account
from tests.performance.paced import feeder
from tests.performance.truth import Found
from tests.performance.watch import reader, records
from tests.performance.wire import codec_of_all, outputs

_EVERY_S = 5.0
_BEHIND_MAX_S = 2.0  # a backlog that grew by more than this much of the rate, in the second half, did grow
_PATIENCE_S = 300


@dataclass(frozen=True, slots=True)
class Sample:
    """At ``at`` (s) the worker had ``memory_mb`` of its own and ``files_mb`` of files that the kernel may drop, ``decided``
    commands behind it and ``backlog`` before it.
    """

    at: float
    memory_mb: float
    files_mb: float
    decided: int
    backlog: int


@dataclass(frozen=True, slots=True)
class Soaked:
    """Of the second half: commands/s decided, by how much memory of its own grew (least squares), and the backlog in all of it."""

    rate: float
    mb_per_hour: float
    mb_per_million: float
    backlog_growth: float
    samples: list[Sample]
    found: Found


def soak(work: Work, rate: float) -> Soaked:
    """Feed ``work`` at ``rate``, then check all that was written. Blocking."""
    parts = [TopicPartition(Topics(work.prefix).commands("account"), number) for number in range(work.shards)]
    kafka = {"bootstrap.servers": work.bootstrap}
    group = Consumer({**kafka, "group.id": group_id(WorkerSettings(kafka, work.prefix, "", SCHEMAS))})
    running = Running(OURS, work, "--paced", commands=1 << 40)
    process, feeding, start = psutil.Process(running.pid), feeder(work, rate), time.monotonic()
    samples: list[Sample] = []  # while commands come

    def look() -> Sample:
        decided = sum(max(part.offset, 0) for part in group.committed(parts, 30))
        ends = sum(group.get_watermark_offsets(part, 30)[1] for part in parts)
        memory = process.memory_info()
        own_mb, files_mb = (memory.rss - memory.shared) / 1e6, memory.shared / 1e6
        return Sample(time.monotonic() - start, own_mb, files_mb, decided, ends - decided)

    try:
        while feeding.poll() is None and running.alive():
            time.sleep(_EVERY_S)
            samples.append(look())
        deadline = time.monotonic() + _PATIENCE_S
        while look().decided < work.commands and running.alive() and time.monotonic() < deadline:
            time.sleep(_EVERY_S)
        if not running.alive():
            raise RuntimeError(f"the worker ended: {running.complaint()}")
        if feeding.wait():
            raise RuntimeError("the feeder failed")
    finally:
        feeding.kill()
        running.stop()
        group.close()
    return _judged(samples, rate, in_order(work))


def _judged(samples: list[Sample], rate: float, found: Found) -> Soaked:
    half = samples[len(samples) // 2 :]

    def slope(of: Callable[[Sample], float], by: Callable[[Sample], float]) -> float:
        return linear_regression(list(map(by, half)), list(map(of, half))).slope

    grown = slope(lambda each: each.backlog, lambda each: each.at) * (half[-1].at - half[0].at)
    if grown > _BEHIND_MAX_S * rate:
        found.wrong["commands by which the backlog grew"] += int(grown)
    return Soaked(
        slope(lambda each: each.decided, lambda each: each.at),
        slope(lambda each: each.memory_mb, lambda each: each.at / 3600),
        slope(lambda each: each.memory_mb, lambda each: each.decided / 1e6),
        grown,
        samples,
        found,
    )


def in_order(work: Work) -> Found:
    """Hold what a read_committed reader finds in each partition against the commands, one by one, in their order."""
    found, decode = Found(), codec_of_all()[0].decode
    topics = outputs(work.prefix, OURS.name)
    outcomes = [_bodies(work, topics.outcomes("account"), number, decode) for number in range(work.shards)]
    events = [_bodies(work, topics.events("account"), number, decode) for number in range(work.shards)]
    shards = [partition_of(key_of_account(number), work.shards) for number in range(work.aggregates)]
    balances, versions = [0] * work.aggregates, [0] * work.aggregates
    for account, amount, command_id in commands_of(work):
        shard, accepted = shards[account], amount > 0
        outcome = next(outcomes[shard], None)
        if outcome is None or outcome["command_id"] != command_id.decode():
            found.wrong["outcomes missing or out of turn; nothing behind it was looked at"] += 1
            return found
        found.outcomes += 1
        found.wrong["wrong outcomes"] += (outcome["status"] == "accepted") is not accepted
        if accepted:
            balances[account] += amount
            versions[account] += 1
            event = next(events[shard], None)
            if event is None or _told(event) != (f"account-{account}", versions[account], balances[account]):
                found.wrong["events missing, wrong or out of turn; nothing behind it was looked at"] += 1
                return found
            found.events += 1
    found.wrong["records too many"] += sum(1 for rest in (*outcomes, *events) for _ in rest)
    found.wrong = +found.wrong
    return found


def _told(event: dict[str, Any]) -> tuple[str, int, int]:
    return event["envelope"]["aggregate_id"], event["envelope"]["version"], event["balance"]


def _bodies(work: Work, topic: str, number: int, decode: Callable[[bytes], Any]) -> Iterator[dict[str, Any]]:
    """Yield what the records of one partition hold, up to its end."""
    consumer = reader(work.bootstrap, {})
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING)])
    ended = silence = 0
    while not ended and silence < 100:
        batch, ended = records(consumer, 0.2)
        silence = 0 if batch or ended else silence + 1
        for record in batch:
            yield decode(record.value())[1]
    consumer.close()
