"""`flexcore event verify` on a log that moved data: whole, until somebody tampers with it; then it names the record."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from streams.projections.run import TABLE
from tests.support.node_process import NodeProcess, eventually
from tests.support.readme import commands, section


def first_of(node: NodeProcess, topic: str, partitions: int) -> Any:
    """Return the first record of a topic."""
    consumer = Consumer({"bootstrap.servers": node.settings["FLEXCORE_KAFKA_BOOTSTRAP"], "group.id": "tests"})
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    record = consumer.poll(20)
    consumer.close()
    assert record is not None
    assert record.error() is None
    return record


def put(node: NodeProcess, record: Any) -> None:
    """Write a record once more, as it is, where it is."""
    producer = Producer({"bootstrap.servers": node.settings["FLEXCORE_KAFKA_BOOTSTRAP"]})
    producer.produce(
        record.topic(), record.value(), record.key(), record.partition(), headers=record.headers()
    )
    assert producer.flush(10) == 0


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def an_export_proves_itself(node: NodeProcess, folder: Path) -> None:
    """Twice the same bytes; whole; and whoever changes a line, or drops one, is found out."""
    one, two = folder / "one", folder / "two"
    *_, export, verify, judge = commands(section("app", "Proof"), {"backup/2026-11-28": str(one)})
    node.cli(*export)
    node.cli("event", "export", str(two), "--at", str(one))
    assert contents(one) == contents(two)
    assert json.loads(node.cli(*verify, "-o", "json"))["whole"]
    runs = json.loads(node.cli(*judge, "-o", "json"))
    assert (runs["whole"], runs["runs"], runs["open"], len(runs["invariants"])) == (True, 1, 0, 17)

    file = max(one.glob("run.events-*.jsonl"), key=lambda file: file.stat().st_size)
    lines = file.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[0])["specversion"] == "1.0"
    file.write_bytes(b"".join([lines[0], *lines[2:]]))
    said = node.cli("event", "verify", "--export", str(one), code=1)
    assert "missing" in said
    assert "I2" in node.cli("event", "verify", "--runs", "--export", str(one), code=1)
    assert f"{file.name} is not the file that the manifest describes" in said
    file.write_bytes(b"".join(lines).replace(b'"actor":"', b'"actor":"m'))
    assert "altered" in node.cli("event", "verify", "--export", str(one), code=1)


def an_import_is_the_log_again(node: NodeProcess, folder: Path, run: Any) -> None:
    """Under another name: a second time changes nothing, a node goes on from it, and it exports to the same bytes."""
    prefix = node.settings["FLEXCORE_TOPIC_PREFIX"]
    names = {"TOPIC_PREFIX": f"{prefix}-again", "CLUSTER": f"{prefix}-again", "POSTGRES_SCHEMA": "again"}
    other = NodeProcess(
        folder / "other", {**node.settings, **{f"FLEXCORE_{name}": text for name, text in names.items()}}
    )
    written = [
        json.loads(other.cli("event", "import", str(folder / "two"), "-o", "json"))["written"] for _ in "12"
    ]
    assert written[0] > 10
    assert written[1] == 0
    other.start()
    try:
        found = other.ok("GET", f"/v1/runs/{run['id']}")
        assert {name: value for name, value in found.items() if name != "position"} == {
            name: value for name, value in run.items() if name != "position"
        }
        assert json.loads(other.cli("event", "verify", "-o", "json"))["whole"]
        other.cli("event", "export", str(folder / "third"), "--at", str(folder / "two"))
        theirs, ours = contents(folder / "third"), contents(folder / "two")
        assert theirs.pop("manifest.json").replace(b"-again", b"") == ours.pop("manifest.json")
        assert theirs == ours
    finally:
        assert other.stop() == 0


def a_row_that_somebody_changed_is_found(node: NodeProcess) -> None:
    """The log says otherwise."""
    with psycopg.connect(node.settings["FLEXCORE_POSTGRES_URL"]) as database:
        database.execute(f"UPDATE flexcore.{TABLE.name} SET steps = replace(steps::text, '700', '701')::json")
    said = node.cli("event", "verify", "--runs", code=1)
    assert "I16" in said
    assert "its row is not what" in said


@pytest.mark.timeout(240)
def test_tampering_is_found_and_named(own: NodeProcess, project: Path) -> None:
    """An event written twice, and a record that no bookmark counts."""
    (project / "rows.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(700)))
    own.start()
    own.apply(
        "read",
        [
            {
                "name": "rows",
                "extract": {"source": "file", "config": {"path": "rows.jsonl", "primary_key": ["id"]}},
            }
        ],
    )
    run = own.ended(own.run("read"), 60)
    assert run["status"] == "succeeded", run
    assert run["steps"][0]["records_out"] == 700
    dataset = ("dataset", "get", "read/rows", "-o", "json")
    eventually(lambda: json.loads(own.cli(*dataset))["records"] == 700, 20, own.log)
    assert len(own.cli("dataset", "head", "read/rows", "-n", "5").splitlines()) == 5
    assert own.cli("bookmark", "get", "read/rows").count("\n") > 3

    assert own.stop() == 0  # what is written is vouched for before it ends
    own.start()
    assert len(json.loads(own.cli("audit", "keys", "-o", "json"))) == 1
    assert len(json.loads(own.cli("audit", "export", "-o", "json"))) > 2
    assert json.loads(own.cli("audit", "search", "--type", "RunCreated", "-o", "json"))

    whole = json.loads(own.cli("event", "verify", "-o", "json"))
    datasets = next(check for check in whole["checks"] if check["name"] == "datasets")
    assert (whole["whole"], datasets["wrong"]) == (True, 0)
    assert datasets["examined"] > 0

    judged = json.loads(own.cli("event", "verify", "--runs", "-o", "json"))
    assert (judged["whole"], judged["findings"], judged["runs"]) == (True, [], 1)
    compared = {one["id"]: one for one in judged["invariants"]}
    assert [compared[law]["not_judged"] for law in ("I12", "I16")] == [None, None]
    assert compared["I16"]["examined"] == 1
    a_row_that_somebody_changed_is_found(own)
    an_export_proves_itself(own, project)

    prefix = own.settings["FLEXCORE_TOPIC_PREFIX"]
    put(own, first_of(own, f"{prefix}.dataset.default.read.rows", 4))
    said = own.cli("event", "verify", code=1)
    assert f"{prefix}.dataset.default.read.rows/" in said
    assert "the bookmark counts" in said

    event = first_of(own, f"{prefix}.run.events", int(own.settings["FLEXCORE_SHARDS"]))
    put(own, event)
    said = own.cli("event", "verify", code=1)
    assert f"{prefix}.run.events/{event.partition()}/" in said
    assert "repeats the event" in said
    assert own.stop() == 0
    an_import_is_the_log_again(own, project, run)
