"""Reads over HTTP that look into Kafka or at the views themselves: records, output, quarantine, rebuilding."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from schemas.partitioning import partition_of
from schemas.topics import RUN_LOGS, key_of
from streams.agents.projection_tables import Tables, connect
from streams.domain.bookmark import BookmarkAdvanced, BookmarkBegun, GenerationStarted
from streams.projections import run
from streams.projections.views import VIEWS, by_name
from tests.support.services import KafkaService, PostgresService
from tests.support.view_stack import ViewStack, a_run, open_stack


@pytest.fixture
async def stack(
    kafka: KafkaService, topic_prefix: str, postgres: PostgresService
) -> AsyncIterator[ViewStack]:
    async with open_stack(kafka.bootstrap, topic_prefix, postgres.new_database()) as stack:
        yield stack


async def test_datasets_show_records_of_their_generation(stack: ViewStack) -> None:
    """Counts come from the bookmark, records from Kafka: none from before the generation."""
    log = stack.log
    topic = log.topics.dataset("default", "sync", "read")
    rejects = log.topics.rejects("default", "sync", "read")
    log.topic(topic, 4)
    log.topic(rejects, 1)
    for n in range(20):
        log.raw(topic, json.dumps({"n": n}).encode(), b"customers/%d" % n, n % 4, {"stream": b"customers"})
    log.raw(rejects, b"{bad", b"customers/9", 0, {"cause": b"ValueError"})
    at = log.clock
    starts = {"0": 1, "1": 0, "2": 0, "3": 0}
    position = log.emit(
        "bookmark",
        "sync/read",
        BookmarkBegun("run-1", 1, "t", at),
        GenerationStarted("g1", "topic-1", starts, "run-1", at),
        BookmarkAdvanced("run-1", 1, '{"seen": 20}', {"0": 4, "1": 5, "2": 5, "3": 5}, 19, 1, at),
    )
    log.flush()
    listed = await stack.get(f"/v1/datasets?min-position={position}&wait=20")
    assert [(row["name"], row["records"], row["rejected"]) for row in listed["items"]] == [
        ("sync/read", 19, 1)
    ]
    dataset = await stack.get("/v1/datasets/sync/read")
    assert dataset["topic"] == topic
    assert dataset["partitions"]["0"] == {"first": 0, "end": 5}
    records = (await stack.get("/v1/datasets/sync/read/records?limit=50"))["items"]
    assert sorted(record["value"]["n"] for record in records) == list(range(1, 20))[0:3] + list(range(4, 20))
    last = (await stack.get("/v1/datasets/sync/read/records?limit=3&from=last"))["items"]
    assert len(last) == 3
    assert (await stack.get("/v1/datasets/sync/read/rejects"))["items"][0]["headers"] == {
        "cause": "ValueError"
    }
    bookmark = await stack.get("/v1/bookmarks/sync/read")
    assert (bookmark["bookmark"], bookmark["holder_run"]) == ({"seen": 20}, "run-1")
    await stack.get("/v1/datasets/sync/none", 404)


async def test_logs_are_read_from_their_topic(stack: ViewStack) -> None:
    """Only the run's lines, of one step if asked, page by page."""
    log = stack.log
    topic = log.topics.named(RUN_LOGS)
    log.topic(topic, log.shards)
    log.clock = int(time.time() * 1000)
    position = a_run(log, "run-1", ended=False)
    shard = partition_of(key_of("default", "run-1"), log.shards)
    for n in range(6):
        step = b"read" if n % 2 == 0 else b"write"
        headers = {"step": step, "attempt": b"1", "stream": b"stdout", "tenant": b"default"}
        log.raw(topic, b"line %d" % n, b"run-1", shard, headers)
        log.raw(topic, b"foreign", b"run-2", shard, headers)
    log.flush()
    await stack.get(f"/v1/runs/run-1?min-position={position}&wait=20")
    await stack.ready()
    body = await stack.get("/v1/runs/run-1/logs?limit=4")
    assert [row["line"] for row in body["items"]] == [f"line {n}" for n in range(4)]
    body = await stack.get(f"/v1/runs/run-1/logs?limit=4&cursor={body['cursor']}")
    assert [row["line"] for row in body["items"]] == ["line 4", "line 5"]
    body = await stack.get("/v1/runs/run-1/logs?step=write")
    assert [row["line"] for row in body["items"]] == ["line 1", "line 3", "line 5"]
    body = await stack.get("/v1/runs/run-1/logs?contains=LINE%203")
    assert [row["line"] for row in body["items"]] == ["line 3"]


async def test_quarantined_records_are_shown_with_their_cause(stack: ViewStack) -> None:
    """By the place they came from; a redrive marks them."""
    log = stack.log
    headers = {
        "cause": b"undecodable",
        "detail": b"no Avro",
        "original-key": b"default/run-1",
        "original-x": b"1",
    }
    log.raw(log.topics.quarantine("run"), b"\xff\x00", b"run.commands/0/7", 0, headers)
    log.flush()
    body = await stack.until("/v1/quarantine", lambda body: body["items"])
    assert [(row["id"], row["status"], row["cause"]) for row in body["items"]] == [
        ("run.commands/0/7", "open", "undecodable")
    ]
    one = await stack.get("/v1/quarantine/run.commands/0/7")
    assert (one["headers"], one["sample_hex"], one["size"]) == ({"x": "1"}, "ff00", 2)
    marker = {"redriven-by": b"ops", "redrive-command-id": b"c2", "at": b"2026-01-01T00:00:00Z"}
    log.raw(log.topics.quarantine("run"), b"", b"run.commands/0/7", 0, marker)
    log.flush()
    await stack.until("/v1/quarantine?status=redriven", lambda body: body["items"])
    assert (await stack.get("/v1/quarantine?status=open"))["items"] == []
    await stack.get("/v1/quarantine/run.commands/0/8", 404)


async def test_a_view_is_rebuilt_beside_the_one_in_use(stack: ViewStack) -> None:
    """Rows that were damaged by hand are right again; readers see the old table until the switch, and never a gap."""
    positions = [a_run(stack.log, f"run-{n}") for n in range(20)]
    await stack.get(f"/v1/runs?min-position={','.join(positions)}&wait=20")
    await stack.ready()
    view = by_name("run")
    assert view is not None
    with psycopg.connect(stack.database, autocommit=True) as connection:
        connection.execute(f"UPDATE flexcore.{view.table.name} SET status = 'damaged'".encode())
    response = await stack.api.post("/v1/views/run/rebuild")
    assert response.status == 200, await response.text()
    assert (await response.json())["complete"] is True
    later = a_run(stack.log, "run-later")
    runs = (await stack.get(f"/v1/runs?min-position={later}&wait=20"))["items"]
    assert [run["status"] for run in runs] == ["failed"] * 21
    # Once more: names of tables and indexes are free again.
    assert (await stack.api.post("/v1/views/run/rebuild")).status == 200
    assert (await stack.api.post("/v1/views/none/rebuild")).status == 404


async def test_while_a_view_is_filled_it_says_so(stack: ViewStack) -> None:
    """Before the log's end is reached a plain read answers 503, never half of the rows."""
    await stack.ready()
    position = a_run(stack.log, "run-1")
    await stack.get(f"/v1/runs/run-1?min-position={position}&wait=20")
    with psycopg.connect(stack.database, autocommit=True) as connection:
        connection.execute(
            b"UPDATE flexcore.checkpoint SET target = next_offset + 1 WHERE topic LIKE '%run.events'"
        )
        assert (await stack.get("/v1/runs/run-1", 503))["code"] == "unavailable"
        views = {row["name"]: row for row in (await stack.get("/v1/views"))["items"]}
        assert (views["run"]["complete"], views["schedule"]["complete"]) == (False, True)
        connection.execute(b"DROP SCHEMA flexcore CASCADE")
    await stack.until("/v1/runs/run-1", lambda body: body.get("status") == "failed")


async def test_a_rebuild_under_load_never_goes_backwards(stack: ViewStack) -> None:
    """Positions that a reader has seen hold through the switch, while events keep coming."""
    await stack.ready()
    rebuilding = asyncio.create_task(stack.api.post("/v1/views/run/rebuild"))
    for n in range(60):
        position = a_run(stack.log, f"run-{n}")
        found = await stack.get(f"/v1/runs/run-{n}?min-position={position}&wait=20")
        assert found["status"] == "failed"
        if n % 20 == 10 and rebuilding.done():
            rebuilding = asyncio.create_task(stack.api.post("/v1/views/run/rebuild"))
    assert (await rebuilding).status == 200
    assert len((await stack.get("/v1/runs?limit=500"))["items"]) == 60


async def test_tables_of_another_shape_are_dropped_when_unused(stack: ViewStack) -> None:
    """Only those nobody has used for a while; the tables in use stay."""
    await stack.ready()
    tables = Tables("flexcore")
    with connect(stack.database, "test") as connection:
        connection.execute(
            "CREATE TABLE flexcore.run_vold (id text); CREATE TABLE flexcore.run_vnew (id text)"
        )
        for name, age in (("run_vold", "1 hour"), ("run_vnew", "1 second")):
            connection.execute(
                "INSERT INTO flexcore.view_table VALUES (%s, 'run', 1, now() - %s::interval)", (name, age)
            )
        assert tables.retire(connection, VIEWS, 600) == ["run_vold"]
        left = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'run%'").fetchall()
        assert sorted(name for (name,) in left) == sorted(["run_vnew", run.TABLE.name])
