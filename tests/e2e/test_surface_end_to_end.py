"""What outside programs rely on, against a real node: commands by Kafka, positions, time travel, quarantine, streams."""

import json
import re
import subprocess
import sys
import threading
import urllib.request
import uuid
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas.partitioning import partition_of
from streams.domain.identity import run_id
from tests.support.node_process import NodeProcess, eventually
from tests.support.readme import blocks, commands, request, section

STEPS = [{"name": "one", "command": {"argv": ["true"]}}]


def produce(
    settings: dict[str, str],
    topic: str,
    key: str,
    value: bytes,
    headers: dict[str, str],
    partition: int | None = None,
    at: int = 0,
) -> None:
    """Write a record as any Kafka client would; ``at``: its time, where the topic leaves that to the client."""
    producer = Producer({"bootstrap.servers": settings["FLEXCORE_KAFKA_BOOTSTRAP"]})
    name = f"{settings['FLEXCORE_TOPIC_PREFIX']}.{topic}"
    shards = int(settings.get("FLEXCORE_SHARDS", 8))
    target = partition if partition is not None else partition_of(key.encode(), shards)
    producer.produce(name, value, key.encode(), target, timestamp=at, headers=[*headers.items()])
    assert producer.flush(10) == 0


def test_twenty_starts_under_one_key_make_one_run(node: NodeProcess) -> None:
    """However often and from wherever it is posted."""
    node.apply("keyed", STEPS)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(node.run("keyed", key="2026-11-24", input={"a": 1})))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert len(set(found)) == 1
    node.ended(found[0])
    assert len(node.ok("GET", "/v1/runs?pipeline=keyed")["items"]) == 1
    other = node.call("POST", "/v1/pipelines/keyed/runs", {"key": "2026-11-24", "input": {"a": 2}})
    assert (other.status, other.body["code"]) == (422, "body_mismatch")


def test_a_run_is_started_once_by_the_command_line_over_http_and_by_a_kafka_client(
    node: NodeProcess, settings: dict[str, str]
) -> None:
    """As the README shows it, each twice; under the same key another body is refused."""
    node.apply("copy", STEPS)
    text = section("app", "Starting a run")
    start, *_ = commands(text)
    by_cli = [node.cli(*start, "-o", "name").strip() for _ in range(2)]
    method, path, headers, body = request(re.findall(r"^curl (.*?)^```", text, re.DOTALL | re.MULTILINE)[0])
    by_http = [node.ok(method, path, json.loads(body), **headers)["id"] for _ in range(2)]
    refused = node.call(method, path, {"input": {"day": "another"}}, **headers)
    assert (refused.status, refused.body["code"]) == (422, "body_mismatch")
    program = blocks(text, "python")[0].replace("127.0.0.1:9092", settings["FLEXCORE_KAFKA_BOOTSTRAP"])
    program = program.replace(
        '"pipeline.commands"', f'"{settings["FLEXCORE_TOPIC_PREFIX"]}.pipeline.commands"'
    )
    ids = {subprocess.check_output([sys.executable, "-c", program], text=True).strip() for _ in range(2)}
    (command_id,) = ids
    eventually(lambda: "accepted" in node.cli("command", "get", command_id), 20, node.log)
    runs = [*by_cli, *by_http, run_id("default", "copy", command_id)]
    ended = [node.ended(run) for run in dict.fromkeys(runs)]
    assert [(run["trigger"], run["input"]["day"]) for run in ended] == [
        ("api", "2026-11-24"), ("api", "2026-11-25"), ("manual", "2026-11-26"),
    ]  # fmt: skip
    assert len(node.ok("GET", "/v1/runs?pipeline=copy")["items"]) == 3


def test_a_command_from_a_plain_kafka_client_is_answered(node: NodeProcess, settings: dict[str, str]) -> None:
    """JSON with the record's field names, an id and a type as headers; the outcome is there under the id."""
    node.apply("by-kafka", STEPS)
    command_id = str(uuid.uuid4())
    headers = {"command-id": command_id, "command-type": "PausePipeline"}
    produce(settings, "pipeline.commands", "default/by-kafka", b'{"reason": "from Kafka"}', headers)
    path = f"/v1/commands/{command_id}"
    eventually(lambda: node.ok("GET", path)["status"] == "accepted", 20, node.log)
    outcome = node.ok("GET", path)
    assert outcome["command_type"] == "PausePipeline"
    pipeline = node.ok("GET", f"/v1/pipelines/by-kafka?min-position={outcome['position']}&wait=5")
    assert (pipeline["status"], pipeline["reason"]) == ("paused", "from Kafka")
    assert json.loads(node.cli("command", "get", command_id, "-o", "json"))["status"] == "accepted"


def test_reads_are_fresh_or_refused(node: NodeProcess) -> None:
    """The position of a write makes the next read show it; one that is not reached is 504, never stale."""
    node.apply("fresh", STEPS)
    reply = node.call("POST", "/v1/pipelines/fresh/pause", {})
    position = reply.headers["Flexcore-Position"]
    assert node.ok("GET", f"/v1/pipelines/fresh?min-position={position}")["status"] == "paused"
    aggregate, shard, sequence = position.split(":")
    later = f"{aggregate}:{shard}:{int(sequence) + 10_000}"
    refused = node.call("GET", f"/v1/pipelines/fresh?min-position={later}&wait=0.2")
    assert (refused.status, refused.body["code"]) == (504, "not_yet")


def test_versions_guard_changes(node: NodeProcess) -> None:
    """ETag of a read, If-Match of a write: the second of two racing changes is 412 and names the version."""
    node.apply("guarded", STEPS)
    tag = node.call("GET", "/v1/pipelines/guarded").headers["ETag"]
    assert node.call("POST", "/v1/pipelines/guarded/pause", {}, If_Match=tag).status == 200
    late = node.call("POST", "/v1/pipelines/guarded/resume", {}, If_Match=tag)
    assert (late.status, late.body["code"]) == (412, "version_conflict")
    assert "2" in late.body["detail"]


def test_an_aggregate_can_be_seen_as_it_was(node: NodeProcess) -> None:
    """Time travel folds the history up to a version."""
    node.apply("traveller", STEPS)
    node.apply("traveller", [*STEPS, {"name": "two", "after": ["one"], "command": {"argv": ["true"]}}])
    path = "/v1/aggregates/pipeline/traveller"
    then, now = node.ok("GET", f"{path}?version=1"), node.ok("GET", path)
    assert (then["version"], then["state"]["number"]) == (1, 1)
    assert now["state"]["number"] == 2
    assert node.call("GET", f"{path}?version=99").status == 404


def quarantined(node: NodeProcess, query: str, count: int) -> list[dict[str, Any]]:
    """Return the quarantined records of a query, once they are so many."""
    path = f"/v1/quarantine?limit=500&{query}"
    eventually(lambda: len(node.ok("GET", path)["items"]) == count, 20, node.log)
    found: list[dict[str, Any]] = node.ok("GET", path)["items"]
    return found


def test_garbage_is_quarantined_sent_again_and_mended(node: NodeProcess, settings: dict[str, str]) -> None:
    """The partition goes on; what is redriven is a new command caused by the old one, what is edited is checked first."""
    node.apply("survivor", STEPS)
    command_id, key = str(uuid.uuid4()), "default/survivor"
    headers = {"command-id": command_id, "command-type": "PausePipeline", "x-team": "crm"}
    produce(settings, "pipeline.commands", key, b"\xff\xff\xffgarbage", headers)
    mine = "aggregate=pipeline/survivor"
    (first,) = quarantined(node, mine, 1)
    assert (first["cause"], first["command_id"], first["attempts"]) == ("undecodable", command_id, 1)
    assert node.ok("GET", f"/v1/quarantine/{first['id']}")["command"] is None
    sent = json.loads(node.cli("quarantine", "redrive", first["id"], "-o", "json"))
    assert (sent["causation_id"], sent["aggregate_id"]) == (command_id, "survivor")
    assert sent["command_id"] == str(uuid.uuid5(uuid.UUID(command_id), "1"))
    eventually(lambda: node.ok("GET", f"/v1/quarantine/{first['id']}")["status"] == "redriven", 20, node.log)

    (second,) = quarantined(node, f"{mine}&status=open", 1)
    assert (second["command_id"], second["attempts"], second["failed_alike"]) == (sent["command_id"], 2, 2)
    refused = node.call("POST", f"/v1/quarantine/{second['id']}/edit", {"data": {"why": "so"}})
    assert (refused.status, refused.body["code"]) == (422, "invalid")
    assert "it has ['reason']" in refused.body["detail"]
    mended = json.loads(
        node.cli("quarantine", "edit", second["id"], "--data", '{"reason": "mended"}', "-o", "json")
    )
    outcome = f"/v1/commands/{mended['command_id']}"
    eventually(lambda: node.ok("GET", outcome)["status"] == "accepted", 20, node.log)
    position = node.ok("GET", outcome)["position"]
    assert node.ok("GET", f"/v1/pipelines/survivor?min-position={position}&wait=5")["reason"] == "mended"
    eventually(lambda: node.ok("GET", f"/v1/quarantine/{second['id']}")["edited"], 20, node.log)
    assert node.ok("GET", f"/v1/quarantine/{second['id']}")["redriven_by"]
    events = node.ok("GET", f"/v1/events?aggregate=pipeline&type=PipelinePaused&correlation={command_id}")
    assert [event["command_id"] for event in events["items"]] == [mended["command_id"]]
    assert node.cli("quarantine", "redrive", "pipeline.commands/0/999999", code=3)


def test_many_quarantined_records_are_chosen_by_filter(node: NodeProcess, settings: dict[str, str]) -> None:
    """A dry run shows what would go; those that are dropped say by whom and why, and are not sent with others."""
    for number in range(3):
        produce(
            settings, "pipeline.commands", "default/lost", b"%d" % number, {"command-type": "PausePipeline"}
        )
    records = quarantined(node, "aggregate=pipeline/lost&cause=undecodable&status=open", 3)
    chosen = ("--aggregate", "pipeline/lost", "-o", "json")
    dry = json.loads(node.cli("quarantine", "redrive", *chosen, "--since", "1h", "--dry-run"))
    assert [(item["id"], item["why_not"]) for item in dry] == [(one["id"], None) for one in reversed(records)]
    assert (
        node.ok("GET", "/v1/quarantine?aggregate=pipeline/lost&status=open&since=2100-01-01")["items"] == []
    )
    node.cli("quarantine", "drop", records[0]["id"], "--reason", "sent by a test")
    (dropped,) = quarantined(node, "aggregate=pipeline/lost&status=dropped", 1)
    assert (dropped["id"], dropped["drop_reason"]) == (records[0]["id"], "sent by a test")
    assert dropped["dropped_by"]
    sent = json.loads(node.cli("quarantine", "redrive", *chosen, "--rate", "100/s"))
    assert [item["done"] for item in sent] == [True, True]
    quarantined(node, "aggregate=pipeline/lost&status=redriven", 2)
    assert "0 sent, 3 not" in node.cli("quarantine", "redrive", *(one["id"] for one in records), code=4)


def test_events_are_streamed_as_they_happen(node: NodeProcess) -> None:
    """Server-sent events; each id is a position to go on from."""
    request = urllib.request.Request(f"{node.url}/v1/events/stream?aggregate=pipeline")
    with urllib.request.urlopen(request, timeout=30) as stream:
        node.apply("streamed", STEPS)
        seen: dict[str, str] = {}
        for raw in stream:
            name, _, text = raw.decode().strip().partition(": ")
            seen[name] = text
            if name == "data" and json.loads(text)["aggregate_id"] == "streamed":
                break
    assert json.loads(seen["data"])["type"] == "PipelineApplied"
    assert "pipeline:" in seen["id"]


def test_health_names_every_part_and_metrics_count(node: NodeProcess) -> None:
    """Ready means every part works; the numbers are Prometheus' own format."""
    report = node.ok("GET", "/health/ready")
    assert report["missing"] == []
    assert {"kafka", "registry", "commands", "read_store", "worker", "projector", "runner"} == {
        part["name"] for part in report["parts"]
    }
    assert node.ok("GET", "/health/live") == {"status": "live"}
    metrics = node.call("GET", "/metrics").body
    assert "flexcore_worker_commands_total" in metrics
    assert "flexcore_http_requests_total" in metrics
    assert 'flexcore_shard_ready{of="0"} 1.0' in metrics


def test_the_served_document_is_valid_and_whole(node: NodeProcess) -> None:
    """OpenAPI 3.1 by the specification's own schema, reads and writes alike; every answer of these tests is held to it."""
    OpenAPIV31SpecValidator(node.document).validate()
    assert {"/v1/runs/{id}", "/v1/events/stream", "/v1/aggregates/{type}/{id}", "/metrics"} <= set(
        node.document["paths"]
    )


def test_the_cluster_knows_who_owns_what(node: NodeProcess) -> None:
    """One node owns all shards here; those of other tests are silent by now."""
    eventually(lambda: len(node.ok("GET", "/v1/cluster")["shards"]) == 8, 20, node.log)
    cluster = node.ok("GET", "/v1/cluster")
    assert [member["node"] for member in cluster["nodes"] if member["status"] == "alive"] == ["one"]
    assert {entry["owner"] for entry in cluster["shards"]} == {"one"}


def test_events_of_users_become_records_of_a_topic(node: NodeProcess, settings: dict[str, str]) -> None:
    """Over HTTP to a topic made at need; any Kafka client reads CloudEvents in binary mode."""
    event = {
        "specversion": "1.0", "id": "e-1", "source": "/shop", "type": "com.shop.order", "subject": "o-1", "data": {"n": 1},
    }  # fmt: skip
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    sent = node.call("POST", "/v1/user-events", [event, {**event, "id": "e-2"}], **headers)
    assert (sent.status, [item["id"] for item in sent.body["items"]]) == (200, ["e-1", "e-2"])
    place = sent.body["items"][1]
    consumer = Consumer({"bootstrap.servers": settings["FLEXCORE_KAFKA_BOOTSTRAP"], "group.id": "reader"})
    consumer.assign([TopicPartition(place["topic"], place["partition"], place["offset"])])
    record = consumer.poll(20)
    consumer.close()
    assert record is not None
    told = dict(record.headers() or [])
    assert (record.key(), json.loads(record.value() or b"")) == (b"default/o-1", {"n": 1})
    assert (told["ce_id"], told["ce_type"], told["content-type"]) == (
        b"e-2",
        b"com.shop.order",
        b"application/json",
    )
    assert place["partition"] == partition_of(b"default/o-1", 8)
