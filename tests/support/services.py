"""The services tests run against: real Kafka and real PostgreSQL, from wherever this machine has them.

Order of choice: addresses in FLEXCORE_TEST_KAFKA and FLEXCORE_TEST_POSTGRES; containers, where a Docker engine
answers; else processes of `deploy.local`. A service that cannot be had fails the test, it never skips it. The
report header says which were chosen.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest

from deploy.local import jars
from deploy.local.kafka import SETTINGS, KafkaCluster
from deploy.local.paths import cache_dir
from deploy.local.postgres import PostgresServer, new_database

_KAFKA_IMAGE = "confluentinc/cp-kafka:8.1.0"  # Apache Kafka 4.1
_POSTGRES_IMAGE = "postgres:18"


class KafkaService(Protocol):
    """What a test may know of Kafka."""

    @property
    def bootstrap(self) -> str:
        """What a client takes as `bootstrap.servers`."""


class PostgresService(Protocol):
    """What a test may know of PostgreSQL."""

    @property
    def url(self) -> str:
        """The URL of a database that exists."""

    def new_database(self) -> str:
        """Create an empty database and return its URL."""


class LocalKafka:
    """A cluster of this test session's own: its brokers may be killed, frozen and restarted.

    `kill`, `pause`, `resume` and `restart` act on broker `number` (from 0).
    """

    def __init__(self, cluster: KafkaCluster) -> None:
        self.cluster = cluster

    @property
    def bootstrap(self) -> str:
        """What a client takes as `bootstrap.servers`; the same after a restart."""
        return self.cluster.bootstrap

    def kill(self, number: int = 0) -> None:
        """End the broker by SIGKILL."""
        self.cluster.brokers[number].kill()

    def pause(self, number: int = 0) -> None:
        """Freeze the broker."""
        self.cluster.brokers[number].pause()

    def resume(self, number: int = 0) -> None:
        """Let the frozen broker go on."""
        self.cluster.brokers[number].resume()

    def restart(self, number: int = 0) -> None:
        """Start the dead broker again and wait until the whole cluster serves."""
        self.cluster.brokers[number].restart()
        self.cluster.await_ready()


class _Kafka:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


class _Postgres:
    def __init__(self, url: str) -> None:
        self.url = url

    def new_database(self) -> str:
        return new_database(self.url)


@cache
def _docker_answers() -> bool:
    """Tell whether a Docker engine of this machine can start containers."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=2)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (DockerException, OSError):
        return False


def pytest_report_header() -> list[str]:
    """Say which backend serves each service, and its version where it is known before it starts."""
    kafka, postgres = os.environ.get("FLEXCORE_TEST_KAFKA"), os.environ.get("FLEXCORE_TEST_POSTGRES")
    if kafka:
        kafka_is = f"external at {kafka}"
    else:
        kafka_is = f"container {_KAFKA_IMAGE}" if _docker_answers() else f"{jars.KAFKA_VERSION}, own process"
    if postgres:
        postgres_is = f"external at {postgres.rpartition('@')[2]}, {_server_version(postgres)}"
    else:
        postgres_is = f"container {_POSTGRES_IMAGE}" if _docker_answers() else "18, own process"
    return [f"Kafka: {kafka_is}", f"PostgreSQL: {postgres_is}"]


def _server_version(url: str) -> str:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            return str(connection.info.parameter_status("server_version"))
    except psycopg.OperationalError as error:
        return f"not reachable ({str(error).splitlines()[0]})"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaService]:
    """Kafka that all tests of the session share; nobody may stop it. For that there are own_kafka and kafka3."""
    external = os.environ.get("FLEXCORE_TEST_KAFKA")
    if external:
        yield _Kafka(external)
    elif _docker_answers():
        yield from _kafka_container()
    else:
        yield from _local_kafka(tmp_path_factory.mktemp("kafka"), brokers=1)


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One broker that belongs to the test module, to be killed and frozen at will."""
    yield from _local_kafka(tmp_path_factory.mktemp("own-kafka"), brokers=1)


@pytest.fixture(scope="session")
def kafka3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Three brokers that tests of the session share; a test that kills one brings it back before it ends."""
    yield from _local_kafka(tmp_path_factory.mktemp("kafka3"), brokers=3)


def _local_kafka(folder: Path, brokers: int) -> Iterator[LocalKafka]:
    cluster = KafkaCluster(
        folder / "kafka", folder / "logs", cache=cache_dir(), brokers=brokers, optimised=False
    )
    try:
        cluster.start()
        yield LocalKafka(cluster)
    finally:
        for broker in cluster.brokers:
            broker.kill()  # what it would save by a clean end is thrown away
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _kafka_container() -> Iterator[_Kafka]:
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer(_KAFKA_IMAGE).with_kraft()
    replication = {
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
    }
    for name, value in (SETTINGS | replication).items():
        container.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)
    with container as running:
        yield _Kafka(running.get_bootstrap_server())


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresService]:
    """PostgreSQL that all tests of the session share; take a database of your own by `new_database()`."""
    external = os.environ.get("FLEXCORE_TEST_POSTGRES")
    if external:
        yield _Postgres(external)
    elif _docker_answers():
        yield from _postgres_container()
    else:
        yield from _local_postgres(tmp_path_factory.mktemp("postgres"))


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server that belongs to the test module, to be killed and frozen at will."""
    yield from _local_postgres(tmp_path_factory.mktemp("own-postgres"))


def _local_postgres(folder: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(folder / "postgres", folder / "logs")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_container() -> Iterator[_Postgres]:
    from testcontainers.community.postgres import PostgresContainer

    container: Any = PostgresContainer(_POSTGRES_IMAGE, driver=None)
    container.with_command("-c wal_level=logical -c max_connections=200")
    with container as running:
        yield _Postgres(running.get_connection_url())


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups and transactional ids that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"
