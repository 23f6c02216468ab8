"""Kafka, the database or the registry is away: health names it and since when, nothing is lost, the node goes on by itself."""

import signal
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg

from tests.support.node_process import FLEXCORE, NodeProcess, eventually
from tests.support.services import LocalKafka, PostgresService

STEPS = [{"name": "one", "command": {"argv": ["true"]}}]


def part(node: NodeProcess, name: str) -> dict[str, Any]:
    """Return what health says about one part."""
    report = node.ok("GET", "/health")
    return next(part for part in report["parts"] if part["name"] == name)


def missing(node: NodeProcess) -> list[str]:
    """Return the parts that make the node not ready."""
    reply = node.call("GET", "/health/ready")
    assert (reply.status == 503) == bool(reply.body["missing"])
    return list(reply.body["missing"])


def test_kafka_away(
    own: NodeProcess, own_kafka: LocalKafka, postgres: PostgresService, tmp_path: Path
) -> None:
    """A frozen broker: writes are answered in time, and what was taken has its outcome when the broker is back."""
    settings = {"FLEXCORE_KAFKA_BOOTSTRAP": own_kafka.bootstrap, "FLEXCORE_SESSION_TIMEOUT_MS": "3000"}
    node = NodeProcess(tmp_path / "frozen", {**own.settings, **settings})
    node.start()
    node.apply("kept", STEPS)
    own_kafka.pause()
    begun = time.time() * 1000
    until = time.monotonic() + 6  # the worker's session is over then, the broker's own is not
    try:
        eventually(lambda: "kafka" in missing(node), 15, node.log)
        late = node.call("POST", "/v1/pipelines/kept/pause", {}, Prefer="wait=1", Idempotency_Key="the-one")
        assert late.status in (202, 503), late.body
        told = part(node, "kafka")
        assert own_kafka.bootstrap in told["detail"]
        assert begun - 3_000 <= told["since"] <= time.time() * 1000
        assert node.ok("GET", "/v1/pipelines/kept")["status"] == "active"
        time.sleep(max(0, until - time.monotonic()))
    finally:
        own_kafka.resume()
    eventually(lambda: missing(node) == [], 60, lambda: str(node.ok("GET", "/health")["parts"]))
    again = node.call("POST", "/v1/pipelines/kept/pause", {}, Prefer="wait=20", Idempotency_Key="the-one")
    assert (again.status, again.body["status"], again.body["version"]) == (200, "paused", 2)
    assert '"whole": true' in node.cli("event", "verify", "-o", "json")
    assert node.stop() == 0


def test_a_client_that_kafka_has_lost(own: NodeProcess) -> None:
    """The process is replaced by a new one, in its place and at its address, and what was known still is."""
    own.argv = [*FLEXCORE[:-1], "tests.support.lost_client"]
    own.start()
    own.apply("kept", STEPS)
    assert own.process is not None
    eventually(lambda: "the-lost-one: the process starts anew" in own.log(), 20, own.log)
    eventually((own.folder / "data" / "node.json").exists, 40, own.log)
    eventually(lambda: missing(own) == [], 40, own.log)
    assert own.ok("GET", "/v1/pipelines/kept")["status"] == "active"
    assert own.stop() == 0


def test_the_database_away(own: NodeProcess, postgres: PostgresService) -> None:
    """It takes no connections: commands are kept (202), owners answer from memory, and the views catch up after."""
    own.start()
    own.apply("kept", STEPS)
    url = own.settings["FLEXCORE_POSTGRES_URL"]
    database = url.rpartition("/")[2].partition("?")[0]
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
        try:
            eventually(lambda: {"read_store", "projector"} <= set(missing(own)), 20, own.log)
            assert part(own, "read_store")["since"] > 0
            kept = own.call("POST", "/v1/pipelines/kept/pause", {}, Prefer="wait=3")
            assert (kept.status, kept.body["status"]) == (202, "accepted")
            position = kept.headers["Flexcore-Position"]
            owned = own.ok("GET", f"/v1/aggregates/pipeline/kept?min-position={position}")
            assert (owned["state"]["status"], owned["owner"]) == ("paused", own.ok("GET", "/health")["node"])
            refused = own.call("GET", "/v1/pipelines/kept")
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        finally:
            admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
    eventually(lambda: missing(own) == [], 40, own.log)
    assert own.ok("GET", f"/v1/pipelines/kept?min-position={position}&wait=10")["status"] == "paused"
    assert own.stop() == 0


def test_the_registry_away(own: NodeProcess, tmp_path: Path) -> None:
    """A node that uses another one's registry: its health says when that does not answer, and that it does again."""
    host = NodeProcess(tmp_path / "host", {**own.settings, "FLEXCORE_ROLES": "runner"})
    host.start()
    registry = host.ok("GET", "/health")["registry_url"]
    node = NodeProcess(tmp_path / "guest", {**own.settings, "FLEXCORE_REGISTRY_URL": registry})
    node.start()
    node.apply("kept", STEPS)
    assert host.process is not None
    host.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: missing(node) == ["registry"], 20, node.log)
        assert (
            registry in part(node, "registry")["detail"]
            or "did not answer" in part(node, "registry")["detail"]
        )
        paused = node.call("POST", "/v1/pipelines/kept/pause", {}, Prefer="wait=2")
        assert paused.status in (200, 202, 503), paused.body
    finally:
        host.process.send_signal(signal.SIGCONT)
    eventually(lambda: missing(node) == [], 40, node.log)
    key = str(uuid.uuid4())
    resumed = node.call("POST", "/v1/pipelines/kept/resume", {}, Prefer="wait=20", Idempotency_Key=key)
    assert (resumed.status, resumed.body["status"]) == (200, "active")
    assert node.stop() == 0
    assert host.stop() == 0
