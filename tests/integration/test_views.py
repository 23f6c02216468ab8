"""Reads over HTTP, from records in Kafka through the projector and PostgreSQL to JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from streams.domain.listeners import ListenerSet
from streams.domain.pipeline import PipelineApplied, PipelineDeleted, PipelinePaused
from tests.support.services import KafkaService, PostgresService
from tests.support.view_stack import DEFINITION, ViewStack, a_run, open_stack


@pytest.fixture
async def stack(
    kafka: KafkaService, topic_prefix: str, postgres: PostgresService
) -> AsyncIterator[ViewStack]:
    async with open_stack(kafka.bootstrap, topic_prefix, postgres.new_database()) as stack:
        yield stack


async def test_a_read_waits_for_the_position_it_names(stack: ViewStack) -> None:
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


async def test_a_row_has_an_etag_and_answers_304(stack: ViewStack) -> None:
    """The version is the ETag; a caller that has it gets nothing again."""
    position = a_run(stack.log, "run-1")
    response = await stack.api.get(f"/v1/runs/run-1?min-position={position}&wait=20")
    assert response.headers["ETag"] == '"4"'
    assert response.headers["Flexcore-Position"] == position
    await stack.get(f"/v1/runs/run-1?min-position={position}", 304, {"If-None-Match": '"4"'})
    assert (await stack.get(f"/v1/runs/nobody?min-position={position}", 404))["code"] == "not_found"


async def test_lists_are_walked_by_cursor(stack: ViewStack) -> None:
    """Pages follow each other without gap or repetition; the Link header names the next one."""
    positions = [a_run(stack.log, f"run-{n}", pipeline="odd" if n % 2 else "even") for n in range(7)]
    await stack.get(f"/v1/runs?min-position={','.join(positions)}&wait=20")
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


async def test_tenants_do_not_see_each_other(stack: ViewStack) -> None:
    """A row belongs to the tenant of its key."""
    position = a_run(stack.log, "run-1", tenant="acme")
    await stack.get(f"/v1/runs/run-1?min-position={position}&wait=20", 404)
    acme = {"Flexcore-Tenant": "acme"}
    assert (await stack.get(f"/v1/runs/run-1?min-position={position}", headers=acme))["id"] == "run-1"
    assert (await stack.get(f"/v1/events?min-position={position}"))["items"] == []
    assert len((await stack.get(f"/v1/events?min-position={position}", headers=acme))["items"]) == 4


async def test_pipelines_are_listed_until_deleted(stack: ViewStack) -> None:
    """A deleted pipeline is not there, except in the list of deleted ones; one that was never applied is nowhere."""
    log = stack.log
    applied = PipelineApplied(DEFINITION, "h", 1, log.clock)
    positions = [
        log.emit("pipeline", "one", applied),
        log.emit("pipeline", "two", applied, PipelinePaused(log.clock, "x")),
        log.emit("pipeline", "listened-to", ListenerSet("one", ("succeeded",), log.clock)),
        log.emit("pipeline", "old", applied, PipelineDeleted(log.clock)),
    ]
    log.flush()
    await stack.ready()
    gone = await stack.get(f"/v1/pipelines?status=deleted&min-position={','.join(positions)}&wait=20")
    assert [row["name"] for row in gone["items"]] == ["old"]
    listed = (await stack.get("/v1/pipelines"))["items"]
    assert [(row["name"], row["status"], row["reason"]) for row in listed] == [
        ("one", "active", None),
        ("two", "paused", "x"),
    ]
    await stack.get("/v1/pipelines/old", 404)
    assert (await stack.get("/v1/pipelines/one"))["definition"] == json.loads(DEFINITION)


async def test_an_aggregate_travels_in_time(stack: ViewStack) -> None:
    """The domain's own fold, up to a version or a time; before the first event there was nothing."""
    position = a_run(stack.log, "run-1")
    now = await stack.get(f"/v1/aggregates/run/run-1?stale-ok=true&min-position={position}&wait=20")
    assert (now["version"], now["owner"], now["position"]) == (4, "node-a", position)
    then = await stack.get(f"/v1/aggregates/run/run-1?version=1&min-position={position}")
    assert then["version"] == 1
    assert then["state"] != now["state"]
    by_time = await stack.get(f"/v1/aggregates/run/run-1?at={then['at'] + 1}&min-position={position}")
    assert by_time["version"] == 2
    for path in (
        "run/run-1?version=9&",
        "run/run-1?at=2000-01-01T00:00:00Z&",
        "run/other?stale-ok=true&",
        "house/1?",
    ):
        await stack.get(f"/v1/aggregates/{path}min-position={position}", 404)
    await stack.get("/v1/aggregates/run/run-1?version=1&at=1", 400)


async def test_events_are_searched_and_read_one_by_one(stack: ViewStack) -> None:
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


async def test_the_stream_resumes_where_it_was(stack: ViewStack) -> None:
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


async def test_a_command_is_pending_until_its_outcome(stack: ViewStack) -> None:
    """An id without an outcome is pending; the stored outcome is never replaced by one that is not."""
    await stack.ready()
    command = str(uuid.uuid4())
    assert (await stack.get(f"/v1/commands/{command}"))["status"] == "pending"
    stack.log.outcome("run", "run-1", command, first_version=1, last_version=2)
    stack.log.outcome("run", "run-1", command, status="rejected", reason="body_mismatch", stored=False)
    stack.log.flush()
    body = await stack.until(f"/v1/commands/{command}", lambda body: body["status"] != "pending")
    assert (body["status"], body["last_version"]) == ("accepted", 2)
    assert body["position"].startswith("run:")


@contextlib.asynccontextmanager
async def _stream(
    stack: ViewStack, headers: dict[str, str], query: str = ""
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
