"""Lineage follows the real log: whatever happens to the endpoint or the follower, each run is told, from its beginning."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from connectors.lineage.follower import LineageFollower, LineageSettings
from connectors.lineage.story import RunEvent
from connectors.sdk.errors import Refused, Unavailable
from streams.domain.run.events import RunCreated, RunEnded, StepClaimed, StepSucceeded
from tests.support.event_log import EventLog
from tests.support.node_process import eventually
from tests.support.services import KafkaService
from tests.support.view_stack import DEFINITION


class Endpoint:
    """Keeps what it takes while it is there."""

    def __init__(self) -> None:
        self.away = False
        self.got: list[RunEvent] = []

    def send(self, event: RunEvent) -> None:
        if self.away:
            raise Unavailable("it is away")
        if event["job"]["name"].startswith("bad"):
            raise Refused("what is that?")
        self.got.append(event)

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def following(
    settings: LineageSettings, log: EventLog, endpoint: Endpoint | None
) -> Iterator[LineageFollower]:
    """Follow until the block ends."""
    follower = LineageFollower(settings, log.codec, endpoint)
    follower.start()
    try:
        eventually(lambda: follower.problem is None, 30, lambda: str(follower.problem))
        yield follower
    finally:
        follower.stop()


def begins(log: EventLog, run: str, pipeline: str = "sync") -> None:
    """Begin a run and its step."""
    created = RunCreated(pipeline, DEFINITION, "h1", "{}", False, "manual", None, None, None, "{}", log.clock)
    log.emit("run", run, created, StepClaimed("read", 1, "t1", "node-a", log.clock))
    log.flush()


def ends(log: EventLog, run: str, pipeline: str = "sync") -> None:
    """End the step and the run."""
    output = json.dumps({"topic": "d", "generation": "g", "streams": {}})
    succeeded = StepSucceeded("read", 1, output, 1, 1, 0, 9, log.clock)
    log.emit("run", run, succeeded, RunEnded("succeeded", None, pipeline, None, "manual", log.clock))
    log.flush()


def test_nothing_is_lost_and_a_new_follower_knows_the_runs_it_goes_on_with(kafka: KafkaService) -> None:
    """Given an endpoint that goes away and a follower that ends in the middle of runs, then each is told once to its end."""
    prefix = f"lineage-{uuid.uuid4().hex[:8]}"
    log, endpoint = EventLog(kafka.bootstrap, prefix), Endpoint()
    log.create("run")
    begins(log, "of-the-past")
    settings = LineageSettings(log.kafka, prefix, "one", "topic:lineage", prefix=prefix, shards=log.shards)
    runs = [str(uuid.uuid4()) for _ in range(6)]
    with following(settings, log, endpoint):
        ends(log, "of-the-past")
        begins(log, str(uuid.uuid4()), "bad")
        for run in runs[:4]:
            begins(log, run)
        ends(log, runs[0])
        eventually(lambda: len(endpoint.got) == 10, 20, lambda: f"{len(endpoint.got)}")
        endpoint.away = True
        for run in runs[1:3]:
            ends(log, run)
        for run in runs[4:]:
            begins(log, run)
    assert len(endpoint.got) == 10
    endpoint.away = False
    with following(settings, log, endpoint):
        eventually(lambda: len(endpoint.got) == 18, 20, lambda: f"{len(endpoint.got)}")
    kinds = [(event["run"]["runId"], event["eventType"]) for event in endpoint.got]
    assert len(set(kinds)) == len(kinds)
    assert {run for run, kind in kinds if kind == "COMPLETE"} >= set(runs[:3])
    assert {run for run, kind in kinds if kind == "START"} >= set(runs)

    with following(settings, log, None) as to_topic:
        created = RunCreated("sync", DEFINITION, "h1", "{}", False, "manual", None, None, None, "{}", 0)
        log.redact("run", runs[0], 1, created)
        log.redact("run", runs[0], 4, RunEnded("succeeded", None, "sync", None, "manual", 0))
        ends(log, runs[3])
        eventually(lambda: to_topic.counts["sent"] == 2, 20, lambda: str(to_topic.counts))
    assert [event["eventType"] for event in read(log, f"{prefix}.lineage")] == ["COMPLETE", "COMPLETE"]


def read(log: EventLog, topic: str) -> list[Any]:
    """Return the events in a topic, two of them."""
    consumer = Consumer({**log.kafka, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(log.shards)])
    found: list[Any] = []
    while len(found) < 2:
        record = consumer.poll(20)
        assert record is not None
        if record.error() is None:
            found.append(json.loads(record.value() or b""))
    consumer.close()
    return found
