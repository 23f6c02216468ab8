"""Reads over HTTP, from records in Kafka through the projector and PostgreSQL to JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from app.adapters.record_reader import RecordReader
from app.adapters.time_travel import TimeTravel
from app.adapters.view_store import ViewStore
from app.api import create_api
from app.views.ports import ViewDependencies
from app.views.routes import read_routes
from schemas.partitioning import partition_of
from schemas.topics import RUN_LOGS, key_of
from streams.agents.project import Projector
from streams.aggregates import builtin
from streams.domain.bookmark import BookmarkAdvanced, BookmarkBegun, GenerationStarted
from streams.domain.pipeline import PipelineApplied, PipelineDeleted, PipelinePaused
from streams.domain.run.events import RunCreated, RunEnded, StepClaimed, StepOffered
from streams.projections.views import by_name
from streams.settings import ProjectorSettings
from tests.support.event_log import EventLog
from tests.support.services import KafkaService, PostgresService

DEFINITION = json.dumps(
    {
        "apiVersion": "flexcore/v1",
        "kind": "Pipeline",
        "metadata": {"name": "sync"},
        "spec": {"steps": [{"name": "read", "extract": {"source": "file", "config": {"path": "a.csv"}}}]},
    }
)


class _OneNode:
    def members(self) -> Sequence[Mapping[str, Any]]:
        return [{"node": "node-a", "status": "alive", "shards": [0, 1, 2, 3]}]


@dataclass
class Stack:
    log: EventLog
    database: str
    projector: Projector
    store: ViewStore
    api: TestClient[Any, Any]

    async def get(self, path: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        response = await self.api.get(path, headers=headers)
        assert response.status == status, await response.text()
        return await response.json() if status != 304 else None

    async def ready(self) -> None:
        deadline = time.monotonic() + 30
        while not self.projector.ready:
            assert time.monotonic() < deadline, self.projector.problem
            await asyncio.sleep(0.02)


@pytest.fixture
async def stack(kafka: KafkaService, topic_prefix: str, postgres: PostgresService) -> AsyncIterator[Stack]:
    log = EventLog(kafka.bootstrap, topic_prefix)
    log.create()
    database = postgres.new_database()
    settings = ProjectorSettings(log.kafka, topic_prefix, "node-a", database, topic_prefix, log.shards)
    projector = Projector(settings, log.codec, builtin())
    store = ViewStore(database)

    async def rebuild(view: str) -> bool:
        return bool(await projector.rebuild(view))

    needs = ViewDependencies(
        store=store,
        records=RecordReader(log.kafka, log.topics, log.shards),
        history=TimeTravel(store, builtin()),
        cluster=_OneNode(),
        rebuild=rebuild,
    )
    await projector.start()
    async with TestClient(TestServer(create_api(read_routes(needs), 1 << 20))) as api:
        yield Stack(log, database, projector, store, api)
    await projector.stop()
    await store.close()


def a_run(
    log: EventLog, name: str, pipeline: str = "sync", tenant: str = "default", ended: bool = True
) -> str:
    at = log.clock
    events: list[Any] = [
        RunCreated(pipeline, DEFINITION, "h1", "{}", False, "manual", None, None, None, "{}", at),
        StepOffered("read", 1, "default", at),
        StepClaimed("read", 1, "t1", "node-a", at),
    ]
    events += [RunEnded("failed", "no file", pipeline, None, "manual", at)] if ended else []
    position = log.emit("run", name, *events, tenant=tenant, correlation=f"c-{name}")
    log.flush()
    return position


async def test_a_read_waits_for_the_position_it_names(stack: Stack) -> None:
    """min-position answers as soon as the views are there, or 504 not_yet; never with something older."""
    position = a_run(stack.log, "run-1")
    run = await stack.get(f"/v1/runs/run-1?min-position={position}&wait=20")
    assert (run["status"], run["error"], run["position"]) == ("failed", "no file", position)
    aggregate, shard, sequence = position.split(":")
    late = await stack.get(
        f"/v1/runs/run-1?min-position={aggregate}:{shard}:{int(sequence) + 1}&wait=0.2", 504
    )
    assert late["code"] == "not_yet"
    assert (await stack.get("/v1/runs/run-1?min-position=nonsense", 400))["code"] == "bad_request"


async def test_a_row_has_an_etag_and_answers_304(stack: Stack) -> None:
    """The version is the ETag; a caller that has it gets nothing again."""
    position = a_run(stack.log, "run-1")
    response = await stack.api.get(f"/v1/runs/run-1?min-position={position}&wait=20")
    assert response.headers["ETag"] == '"4"'
    assert response.headers["Flexcore-Position"] == position
    await stack.get(f"/v1/runs/run-1?min-position={position}", 304, {"If-None-Match": '"4"'})
    assert (await stack.get(f"/v1/runs/nobody?min-position={position}", 404))["code"] == "not_found"


async def test_lists_are_walked_by_cursor(stack: Stack) -> None:
    """Pages follow each other without gap or repetition; the Link header names the next one."""
    for n in range(7):
        position = a_run(stack.log, f"run-{n}", pipeline="even" if n % 2 == 0 else "odd")
    await stack.get(f"/v1/runs?min-position={position}&wait=20")
    await stack.ready()
    seen, path = [], "/v1/runs?limit=3"
    while path:
        response = await stack.api.get(path)
        seen += [row["id"] for row in (await response.json())["items"]]
        path = str(URL(response.links["next"]["url"]).relative()) if "next" in response.links else ""
    assert seen == [f"run-{n}" for n in reversed(range(7))]
    assert [row["id"] for row in (await stack.get("/v1/runs?pipeline=odd"))["items"]] == [
        "run-5",
        "run-3",
        "run-1",
    ]
    assert (await stack.get("/v1/runs?status=running"))["items"] == []
    assert (await stack.get("/v1/runs?limit=501", 400))["code"] == "bad_request"
    assert (await stack.get("/v1/runs?cursor=abc", 400))["code"] == "bad_request"


async def test_tenants_do_not_see_each_other(stack: Stack) -> None:
    """A row belongs to the tenant of its key."""
    position = a_run(stack.log, "run-1", tenant="acme")
    await stack.get(f"/v1/runs/run-1?min-position={position}&wait=20", 404)
    acme = {"Flexcore-Tenant": "acme"}
    assert (await stack.get(f"/v1/runs/run-1?min-position={position}", headers=acme))["id"] == "run-1"
    assert (await stack.get(f"/v1/events?min-position={position}"))["items"] == []
    assert len((await stack.get(f"/v1/events?min-position={position}", headers=acme))["items"]) == 4


async def test_pipelines_are_listed_until_deleted(stack: Stack) -> None:
    """A deleted pipeline is not there, except in the list of deleted ones."""
    log = stack.log
    log.emit("pipeline", "one", PipelineApplied(DEFINITION, "h", 1, log.clock))
    log.emit(
        "pipeline", "two", PipelineApplied(DEFINITION, "h", 1, log.clock), PipelinePaused(log.clock, "x")
    )
    log.emit("pipeline", "old", PipelineApplied(DEFINITION, "h", 1, log.clock), PipelineDeleted(log.clock))
    log.flush()
    await stack.ready()
    await _until(stack, "/v1/pipelines?status=deleted", lambda body: body["items"])
    listed = (await stack.get("/v1/pipelines"))["items"]
    assert [(row["name"], row["status"], row["reason"]) for row in listed] == [
        ("one", "active", None),
        ("two", "paused", "x"),
    ]
    await stack.get("/v1/pipelines/old", 404)
    assert (await stack.get("/v1/pipelines/one"))["definition"] == json.loads(DEFINITION)


async def test_an_aggregate_travels_in_time(stack: Stack) -> None:
    """The domain's own fold, up to a version or a time; before the first event there was nothing."""
    position = a_run(stack.log, "run-1")
    now = await stack.get(f"/v1/aggregates/run/run-1?min-position={position}&wait=20")
    assert (now["version"], now["owner"], now["position"]) == (4, "node-a", position)
    then = await stack.get(f"/v1/aggregates/run/run-1?version=1&min-position={position}")
    assert then["version"] == 1
    assert then["state"] != now["state"]
    by_time = await stack.get(f"/v1/aggregates/run/run-1?at={then['at'] + 1}&min-position={position}")
    assert by_time["version"] == 2
    for path in ("run/run-1?version=9&", "run/run-1?at=2000-01-01T00:00:00Z&", "run/other?", "house/1?"):
        await stack.get(f"/v1/aggregates/{path}min-position={position}", 404)
    await stack.get("/v1/aggregates/run/run-1?version=1&at=1", 400)


async def test_events_are_searched_and_read_one_by_one(stack: Stack) -> None:
    """By aggregate, type, correlation, id, time and position."""
    first = a_run(stack.log, "run-1")
    last = a_run(stack.log, "run-2")
    await stack.get(f"/v1/events?min-position={first}&wait=20")
    await stack.get(f"/v1/events?min-position={last}&wait=20")
    await stack.ready()

    async def types(query: str) -> list[str]:
        return [event["type"] for event in (await stack.get(f"/v1/events?{query}"))["items"]]

    everything = ["RunCreated", "StepOffered", "StepClaimed", "RunEnded"]
    assert await types("aggregate=run") == everything * 2
    assert await types("aggregate=pipeline") == []
    assert await types("correlation=c-run-2") == everything
    assert await types("id=run-1&type=RunEnded") == ["RunEnded"]
    assert await types("order=desc&limit=1") == ["RunEnded"]
    assert await types(f"id=run-1&after={first}") == []
    found = (await stack.get("/v1/events?id=run-1&limit=1"))["items"][0]
    assert await types(f"until={found['at']}") == ["RunCreated"]
    assert await stack.get(f"/v1/events/{found['event_id']}") == found
    assert found["body"]["pipeline"] == "sync"
    assert await stack.get("/v1/events/none", 404)
    run_events = (await stack.get("/v1/runs/run-1/events"))["items"]
    assert [event["version"] for event in run_events] == [1, 2, 3, 4]


async def test_the_stream_resumes_where_it_was(stack: Stack) -> None:
    """Every event once, in order; Last-Event-ID goes on behind the last one that was read."""
    await stack.ready()
    async with _stream(stack, {}) as events:
        a_run(stack.log, "run-1")
        received = [await anext(events) for _ in range(3)]
    assert [data["type"] for _, data in received] == ["RunCreated", "StepOffered", "StepClaimed"]
    a_run(stack.log, "run-2")
    async with _stream(stack, {"Last-Event-ID": received[-1][0]}) as events:
        rest = [await anext(events) for _ in range(5)]
    assert [(data["aggregate_id"], data["type"]) for _, data in rest] == [
        ("run-1", "RunEnded"),
        *(("run-2", kind) for kind in ("RunCreated", "StepOffered", "StepClaimed", "RunEnded")),
    ]
    async with _stream(stack, {}, "?after=beginning&type=RunEnded") as events:
        assert [(await anext(events))[1]["aggregate_id"] for _ in range(2)] == ["run-1", "run-2"]


async def test_a_command_is_pending_until_its_outcome(stack: Stack) -> None:
    """An id without an outcome is pending; the stored outcome is never replaced by one that is not."""
    await stack.ready()
    command = str(uuid.uuid4())
    assert (await stack.get(f"/v1/commands/{command}"))["status"] == "pending"
    stack.log.outcome("run", "run-1", command, first_version=1, last_version=2)
    stack.log.outcome("run", "run-1", command, status="rejected", reason="body_mismatch", stored=False)
    stack.log.flush()
    body = await _until(stack, f"/v1/commands/{command}", lambda body: body["status"] != "pending")
    assert (body["status"], body["last_version"]) == ("accepted", 2)
    assert body["position"].startswith("run:")


async def test_datasets_show_records_of_their_generation(stack: Stack) -> None:
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
    log.emit(
        "bookmark",
        "sync/read",
        BookmarkBegun("run-1", 1, "t", at),
        GenerationStarted("g1", "topic-1", starts, "run-1", at),
        BookmarkAdvanced("run-1", 1, '{"seen": 20}', {"0": 4, "1": 5, "2": 5, "3": 5}, 19, 1, at),
    )
    log.flush()
    listed = await _until(stack, "/v1/datasets", lambda body: body["items"])
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


async def test_logs_are_read_from_their_topic(stack: Stack) -> None:
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


async def test_quarantined_records_are_shown_with_their_cause(stack: Stack) -> None:
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
    body = await _until(stack, "/v1/quarantine", lambda body: body["items"])
    assert [(row["id"], row["status"], row["cause"]) for row in body["items"]] == [
        ("run.commands/0/7", "open", "undecodable")
    ]
    one = await stack.get("/v1/quarantine/run.commands/0/7")
    assert (one["headers"], one["sample_hex"], one["size"]) == ({"x": "1"}, "ff00", 2)
    marker = {"redriven-by": b"ops", "redrive-command-id": b"c2", "at": b"2026-01-01T00:00:00Z"}
    log.raw(log.topics.quarantine("run"), b"", b"run.commands/0/7", 0, marker)
    log.flush()
    await _until(stack, "/v1/quarantine?status=redriven", lambda body: body["items"])
    assert (await stack.get("/v1/quarantine?status=open"))["items"] == []
    await stack.get("/v1/quarantine/run.commands/0/8", 404)


async def test_a_view_is_rebuilt_beside_the_one_in_use(stack: Stack) -> None:
    """Rows that were damaged by hand are right again; readers see the old table until the switch, and never a gap."""
    for n in range(20):
        position = a_run(stack.log, f"run-{n}")
    await stack.get(f"/v1/runs?min-position={position}&wait=20")
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


async def test_while_a_view_is_filled_it_says_so(stack: Stack) -> None:
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
    await _until(stack, "/v1/runs/run-1", lambda body: body.get("status") == "failed")


async def _until(stack: Stack, path: str, check: Any) -> Any:
    deadline, body = time.monotonic() + 30, None
    while time.monotonic() < deadline:
        response = await stack.api.get(path)
        body = await response.json()
        if response.status == 200 and check(body):
            return body
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path}: {body}")


@contextlib.asynccontextmanager
async def _stream(
    stack: Stack, headers: dict[str, str], query: str = ""
) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    response = await stack.api.get(f"/v1/events/stream{query}", headers=headers)
    assert response.status == 200

    async def events() -> AsyncIterator[tuple[str, Any]]:
        last = ""
        async for raw in response.content:
            line = raw.decode().rstrip("\n")
            if line.startswith("id: "):
                last = line[4:]
            elif line.startswith("data: "):
                yield last, json.loads(line[6:])

    # The first block is the heartbeat: the stream has begun.
    async for raw in response.content:
        if raw == b"\n":
            break
    async with asyncio.timeout(30):
        yield events()
    response.close()
