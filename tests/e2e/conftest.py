"""One real node for all scenarios: API, worker and runner in a process of its own, on real Kafka and PostgreSQL."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node_process import NodeProcess
from tests.support.readme import readme
from tests.support.services import KafkaService, PostgresService


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "flexcore.toml").write_text("")
    (folder / "transforms").mkdir()
    return folder


@pytest.fixture(scope="session")
def settings(kafka: KafkaService, postgres: PostgresService, project: Path) -> dict[str, str]:
    """What a node of this session is told."""
    prefix = f"e2e-{uuid.uuid4().hex[:8]}"
    (lineage,) = re.findall(r"^FLEXCORE_LINEAGE_URL=(topic:\w+) flexcore", readme("connectors"), re.MULTILINE)
    database = postgres.new_database()
    return {
        "FLEXCORE_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "FLEXCORE_POSTGRES_URL": database,
        "FLEXCORE_TOPIC_PREFIX": prefix,
        "FLEXCORE_CLUSTER": prefix,
        "FLEXCORE_NODE": "one",
        "FLEXCORE_HTTP_PORT": "0",
        "FLEXCORE_PROJECT": str(project),
        "FLEXCORE_PARKS": "limit",
        "FLEXCORE_LINEAGE_URL": lineage,
        **dict.fromkeys(("MEMBERS_URL", "ORDERS_URL"), database),  # where the READMEs' pipelines load to
    }


@pytest.fixture(scope="session")
def node(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """The running node; it must end well when it is told to stop."""
    running = NodeProcess(tmp_path_factory.mktemp("node"), settings)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """A node that a failed test leaves behind would slow down every test after it."""
    before = len(NodeProcess.started)
    yield
    for process in NodeProcess.started[before:]:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def own(settings: dict[str, str], postgres: PostgresService, tmp_path: Path) -> NodeProcess:
    """A node of a cluster of its own, not started; it makes its own name."""
    prefix = f"e2e-{uuid.uuid4().hex[:8]}"
    apart = {
        "FLEXCORE_SHARDS": "4",  # topics of fewer partitions are made in half the time
        "FLEXCORE_TOPIC_PREFIX": prefix,
        "FLEXCORE_CLUSTER": prefix,
        "FLEXCORE_POSTGRES_URL": postgres.new_database(),
        "COVERAGE_PROCESS_CONFIG": "",  # the session's node says what is covered; without, one starts in half the time
    }
    session = ("FLEXCORE_NODE", "FLEXCORE_LINEAGE_URL")
    shared = {name: value for name, value in settings.items() if name not in session}
    return NodeProcess(tmp_path, {**shared, **apart})
