"""Whole nodes whose PostgreSQL or schema registry goes away: what was answered is in the log once, reads are never stale."""

import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.local.postgres import PostgresServer
from deploy.local.process import free_ports
from tests.chaos.proxy import Proxy
from tests.chaos.truth import decoder
from tests.support.node_process import NodeProcess, eventually
from tests.support.services import KafkaService
from tests.support.truth import read

SHARDS = 8
_NO_ANSWER = {0, 202, 409, 500, 502, 503, 504}


@dataclass
class Writer:
    """Changes one pipeline again and again, by turns at each node, and reads its own writes."""

    name: str
    nodes: list[NodeProcess]
    acked: dict[str, int] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)

    def run(self, ending: threading.Event) -> None:
        """Go on until told to end."""
        number = 0
        while not ending.is_set():
            number += 1
            self._change(number, str(uuid.uuid4()), ending)

    def _change(self, number: int, key: str, ending: threading.Event) -> None:
        step = {"name": "only", "command": {"argv": ["true", str(number)]}}
        document = {
            "apiVersion": "flexcore/v1",
            "kind": "Pipeline",
            "metadata": {"name": self.name},
            "spec": {"steps": [step]},
        }
        for attempt in range(100):
            node = self.nodes[(number + attempt) % len(self.nodes)]
            status, headers = ask(node, "PUT", f"/v1/pipelines/{self.name}", document, key)
            self.statuses[status] += 1
            if status in (200, 201):
                self.acked[key] = int(headers["ETag"].strip('"'))
                self._read(node, headers["Flexcore-Position"], self.acked[key])
                return
            assert status in _NO_ANSWER, f"{status} for {self.name}"
            if ending.is_set() and attempt > 20:
                return
            time.sleep(0.2)

    def _read(self, node: NodeProcess, position: str, version: int) -> None:
        status, headers = ask(node, "GET", f"/v1/pipelines/{self.name}?min-position={position}&wait=1")
        if status == 200 and int(headers["ETag"].strip('"')) < version:
            self.stale.append(f"{self.name} at {position}: {headers['ETag']}, {version} was acked")


def ask(
    node: NodeProcess, method: str, path: str, body: Any = None, key: str = ""
) -> tuple[int, dict[str, str]]:
    """Return status and headers; status 0 when there was no answer at all."""
    given = {"Content-Type": "application/json", "Prefer": "wait=2"}
    if key:
        given["Idempotency-Key"] = key
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(node.url + path, data, given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=8) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)
    except OSError:
        return 0, {}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Links that end with the test."""
    running = Proxy()
    yield running
    running.stop()


@pytest.fixture
def nodes(
    kafka: KafkaService, own_postgres: PostgresServer, topic_prefix: str, proxy: Proxy, tmp_path: Path
) -> Iterator[list[NodeProcess]]:
    """Two nodes; the second one asks the first one's schema registry, through the proxy."""
    registry, link = free_ports(2)
    proxy.add("registry", link, registry)
    common = {
        "FLEXCORE_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "FLEXCORE_POSTGRES_URL": own_postgres.new_database(),
        "FLEXCORE_TOPIC_PREFIX": topic_prefix,
        "FLEXCORE_CLUSTER": topic_prefix,
        "FLEXCORE_HTTP_PORT": "0",
        "FLEXCORE_ROLES": "api,worker",
    }
    one = NodeProcess(
        tmp_path / "one", {**common, "FLEXCORE_NODE": "one", "FLEXCORE_REGISTRY_PORT": str(registry)}
    )
    two = NodeProcess(
        tmp_path / "two",
        {**common, "FLEXCORE_NODE": "two", "FLEXCORE_REGISTRY_URL": f"http://127.0.0.1:{link}"},
    )
    started = []
    try:
        for node in (one, two):
            node.start()
            started.append(node)
        yield [one, two]
    finally:
        for node in started:
            node.kill()


@pytest.mark.timeout(300)
def test_nodes_whose_database_or_registry_goes_away_lose_nothing_and_never_answer_stale(
    kafka: KafkaService,
    own_postgres: PostgresServer,
    topic_prefix: str,
    proxy: Proxy,
    nodes: list[NodeProcess],
) -> None:
    """PostgreSQL killed, then frozen; the registry cut off while a node restarts: one event for each answer, and all is read."""
    two = nodes[1]
    writers = [Writer(f"pipeline-{number}", nodes) for number in range(4)]
    ending = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(ending,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        time.sleep(3)
        own_postgres.kill()
        time.sleep(4)
        own_postgres.restart()
        time.sleep(3)
        own_postgres.pause()
        time.sleep(4)
        own_postgres.resume()
        proxy.set("registry", "reset")
        two.kill()
        (two.folder / "data" / "node.json").unlink(missing_ok=True)
        threading.Timer(5, proxy.set, ("registry",)).start()
        two.start()
        time.sleep(4)
    finally:
        ending.set()
        for thread in threads:
            thread.join(60)
    _judge(kafka, topic_prefix, nodes, writers)


def _judge(kafka: KafkaService, prefix: str, nodes: list[NodeProcess], writers: list[Writer]) -> None:
    registry = f"http://127.0.0.1:{nodes[0].settings['FLEXCORE_REGISTRY_PORT']}"

    def schema(number: int) -> Any:
        with urllib.request.urlopen(f"{registry}/schemas/ids/{number}", timeout=10) as answer:
            return json.loads(json.loads(answer.read())["schema"])

    decode = decoder(schema)
    versions: dict[str, list[int]] = {}
    written: dict[str, list[int]] = {}
    for record in read(kafka.bootstrap, f"{prefix}.pipeline.events", SHARDS):
        said = decode(record.value)[1]["envelope"]
        versions.setdefault(said["aggregate_id"], []).append(said["version"])
        written.setdefault(said["command_id"], []).append(said["version"])
    for writer in writers:
        assert versions[writer.name] == list(range(1, len(versions[writer.name]) + 1))
        assert {key: written.get(key) for key in writer.acked} == {
            key: [number] for key, number in writer.acked.items()
        }
        assert writer.stale == []
        assert len(writer.acked) > 10, writer.statuses
    for node in nodes:
        for writer in writers:
            newest = versions[writer.name][-1]
            eventually(
                lambda node=node, writer=writer, newest=newest: (  # type: ignore[misc]  # bound at once
                    ask(node, "GET", f"/v1/pipelines/{writer.name}")[1].get("ETag") == f'"{newest}"'
                ),
                30,
                lambda node=node: f"a node does not show what is in the log\n{node.log()}",  # type: ignore[misc]  # bound at once
            )
