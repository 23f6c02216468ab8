"""The kill test of runs that events start: the node whose follower holds the events dies in the middle of them."""

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from connectors.sdk.producer import IDEMPOTENT
from streams.domain.identity import event_key, run_id
from tests.chaos.truth import decoder, ends, standing
from tests.support.node_process import NodeProcess, eventually
from tests.support.services import KafkaService, PostgresService
from tests.support.truth import read

SHARDS = 4
EVENTS = 240
PAUSE_S = 0.02
PIPELINE = "orders"


@pytest.fixture
def nodes(
    kafka: KafkaService, postgres: PostgresService, topic_prefix: str, tmp_path: Path
) -> Iterator[dict[str, NodeProcess]]:
    """Two nodes with all roles, by name."""
    common = {
        "FLEXCORE_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "FLEXCORE_POSTGRES_URL": postgres.new_database(),
        "FLEXCORE_TOPIC_PREFIX": topic_prefix,
        "FLEXCORE_CLUSTER": topic_prefix,
        "FLEXCORE_HTTP_PORT": "0",
        "FLEXCORE_SHARDS": str(SHARDS),
    }
    found = {name: NodeProcess(tmp_path / name, {**common, "FLEXCORE_NODE": name}) for name in ("one", "two")}
    started = []
    try:
        for node in found.values():
            node.start()
            started.append(node)
        yield found
    finally:
        for node in started:
            node.kill()


class Events:
    """A stream of orders from any Kafka client, on all partitions by turns; each third one comes twice."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.sent = 0
        self._producer = Producer({"bootstrap.servers": bootstrap, **IDEMPOTENT})
        self._topic = topic

    def run(self) -> None:
        """Send all of them, each third one once more a little later."""
        for number in range(EVENTS):
            self._send(number)
            if number % 3 == 0 and number >= 20:
                self._send(number - 20)
            self._producer.poll(PAUSE_S)
            self.sent += 1
        assert self._producer.flush(15) == 0

    def _send(self, number: int) -> None:
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", "1.0"), ("ce_id", f"o-{number}"), ("ce_source", "/shop"), ("ce_type", "placed")
        ]  # fmt: skip
        value = json.dumps({"total": number}).encode()
        self._producer.produce(self._topic, value, partition=number % SHARDS, headers=headers)


@dataclass(frozen=True)
class Cluster:
    """What a plain Kafka client and the schema registry of a node say of it."""

    bootstrap: str
    name: str
    topic: str

    def holders(self) -> dict[int, str]:
        """Return which node follows each partition."""
        group = f"{self.name}.triggers"
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        found: dict[int, str] = {}
        for member in admin.describe_consumer_groups([group])[group].result(10).members:
            node = member.client_id.removeprefix(f"{self.name}-").removesuffix("-triggers")
            found |= {one.partition: node for one in member.assignment.topic_partitions}
        return found

    def behind(self) -> dict[int, int]:
        """Return how many events of each partition nobody has done with."""
        done = standing(self.bootstrap, f"{self.name}.triggers", self.topic, SHARDS)
        end = ends(self.bootstrap, [self.topic], SHARDS)
        return {number: end[f"{self.topic}/{number}"][0] - done[str(number)][0] for number in range(SHARDS)}

    def runs(self, node: NodeProcess) -> tuple[Counter[str], Counter[str]]:
        """Return how often each run has begun, and ended."""

        def schema(number: int) -> Any:
            registry = json.loads((node.folder / "data" / "node.json").read_text())["registry_url"]
            with urllib.request.urlopen(f"{registry}/schemas/ids/{number}", timeout=10) as answer:
                return json.loads(json.loads(answer.read())["schema"])

        decode, found = decoder(schema), {"RunCreated": Counter[str](), "RunEnded": Counter[str]()}
        for record in read(self.bootstrap, f"{self.name}.run.events", SHARDS):
            kind, body = decode(record.value)
            if kind in found:
                found[kind][body["envelope"]["aggregate_id"]] += 1
        return found["RunCreated"], found["RunEnded"]


@pytest.mark.timeout(120)
def test_each_event_starts_one_run_though_the_node_that_follows_it_is_killed(
    kafka: KafkaService, topic_prefix: str, nodes: dict[str, NodeProcess]
) -> None:
    """Given events on all partitions, some sent twice, when a node dies among them, the other one goes on where it was."""
    cluster = Cluster(kafka.bootstrap, topic_prefix, f"{topic_prefix}.user-events.orders")
    trigger = {"event": {"name": "orders", "filter": "${{ event.data.total % 2 == 0 }}"}}
    nodes["one"].apply(PIPELINE, [{"name": "only", "wait": {"for": "1ms"}}], triggers=[trigger])
    eventually(
        lambda: len(held := cluster.holders()) == SHARDS and set(held.values()) == set(nodes),
        20,
        lambda: f"not all follow: {cluster.holders()}",
    )
    events = Events(kafka.bootstrap, cluster.topic)
    sending = threading.Thread(target=events.run)
    sending.start()
    try:
        eventually(lambda: events.sent >= EVENTS // 2, 20, lambda: f"{events.sent} sent")
        dies = cluster.holders()[0]
        nodes[dies].kill()
        eventually(lambda: cluster.behind()[0] > 0, 20, lambda: "nobody misses the dead one")
    finally:
        sending.join(30)
    (lives,) = (node for name, node in nodes.items() if name != dies)
    eventually(lambda: not any(cluster.behind().values()), 30, lambda: f"{cluster.behind()}\n{lives.log()}")
    wanted = {
        run_id("default", PIPELINE, event_key("/shop", f"o-{number}")) for number in range(0, EVENTS, 2)
    }
    eventually(lambda: cluster.runs(lives)[1].keys() >= wanted, 20, lambda: f"some are lost\n{lives.log()}")
    begun, ended = cluster.runs(lives)
    assert begun == ended == dict.fromkeys(wanted, 1)
