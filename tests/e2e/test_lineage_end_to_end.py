"""The lineage of a run, as connectors/README.md shows it: over HTTP, by the command line, to an endpoint, into a topic."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support.desk import Desk
from tests.support.node_process import NodeProcess, eventually
from tests.support.readme import blocks, section

SECTION = section("connectors", "Lineage")


@pytest.fixture
def desk() -> Iterator[Desk]:
    """An OpenLineage server that is away."""
    with Desk(away=True) as server:
        yield server
        server.shutdown()


def test_what_a_run_moved_is_told_though_the_endpoint_was_away(
    own: NodeProcess, desk: Desk, tmp_path: Path
) -> None:
    """Nobody waits for it; when it is there again it gets one START and one end of the run and of each step."""
    (pipeline,), (shown,), (lines,) = (blocks(SECTION, language) for language in ("yaml", "", "sh"))
    to_server = dict(word.split("=", 1) for word in shlex.split(lines.splitlines()[0]) if "=" in word)
    (tmp_path / "people.yaml").write_text(pipeline)
    people = tmp_path / "people.csv"
    people.write_text("id,name\n1,Ada\n2,Grace\n")
    (tmp_path / "flexcore.toml").write_text("")
    crm = own.settings["FLEXCORE_POSTGRES_URL"]
    with psycopg.connect(crm, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA crm")
    own.settings = {
        **own.settings,
        **to_server,
        "FLEXCORE_LINEAGE_URL": desk.url,
        "FLEXCORE_PROJECT": str(tmp_path),
        "CRM_URL": crm,
    }
    own.start()
    try:
        own.cli("pipeline", "apply", "-f", str(tmp_path / "people.yaml"))
        run = own.ended(own.run("people"))
        assert (run["status"], desk.got) == ("succeeded", [])
        desk.serve()
        eventually(lambda: len(desk.got) >= 6, 30, own.log)
        told = [event for _, event in desk.got]
        assert [(one["job"]["name"], one["eventType"]) for one in told] == [
            ("people", "START"), ("people.read", "START"), ("people.read", "COMPLETE"),
            ("people.store", "START"), ("people.store", "COMPLETE"), ("people", "COMPLETE"),
        ]  # fmt: skip
        assert len({key for key, _ in desk.got}) == 6
        assert own.ok("GET", f"/v1/runs/{run['id']}/lineage")["events"] == told
        (table,) = told[4]["outputs"]
        assert [*table["facets"]["columnLineage"]["fields"]] == ["id", "name"]

        place = urlsplit(crm)
        readme = shown.replace("127.0.0.1:9092/", f"{own.settings['FLEXCORE_KAFKA_BOOTSTRAP']}/{own.settings['FLEXCORE_TOPIC_PREFIX']}.")  # fmt: skip
        readme = readme.replace("127.0.0.1:5432/crm.", f"{place.hostname}:{place.port}{place.path}.")
        printed = own.cli("run", "lineage", run["id"], "-o", "wide").splitlines()
        assert [line.split() for line in printed] == [line.split() for line in readme.splitlines()[1:]]
    finally:
        own.stop()


def test_what_a_run_did_is_told_into_a_topic(node: NodeProcess, settings: dict[str, str]) -> None:
    """The node of all these tests is set up as the README shows it: one START and one end, in order, under the run's key."""
    node.apply("told", [{"name": "one", "command": {"argv": ["true"]}}])
    run = node.ended(node.run("told"))["id"]
    expected = node.ok("GET", f"/v1/runs/{run}/lineage")["events"]
    topic = f"{settings['FLEXCORE_TOPIC_PREFIX']}.{settings['FLEXCORE_LINEAGE_URL'].removeprefix('topic:')}"
    consumer = Consumer({"bootstrap.servers": settings["FLEXCORE_KAFKA_BOOTSTRAP"], "group.id": topic})
    eventually(lambda: len(consumer.list_topics(topic, 10).topics[topic].partitions) == 8, 60, node.log)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(8)])
    found: list[Any] = []

    def told() -> bool:
        records = consumer.consume(500, 0.5)
        found.extend(json.loads(one.value() or b"") for one in records if one.key() == run.encode())
        return len(found) >= len(expected)

    eventually(told, 20, node.log)
    consumer.close()
    assert [(one["job"]["name"], one["eventType"]) for one in found] == [
        ("told", "START"), ("told.one", "START"), ("told.one", "COMPLETE"), ("told", "COMPLETE"),
    ]  # fmt: skip
    assert found == expected
