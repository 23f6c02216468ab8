"""Health, cluster and metrics over HTTP; what nodes say about themselves."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer

from app.adapters.nodes import NodesBoard
from app.adapters.system_clock import now_ms
from app.api import create_api
from app.health import Health, HealthDependencies
from app.ports import Limits, Ping
from app.telemetry import expose
from app.vitals import Vitals
from streams.writer.breaker import Breakers
from streams.writer.ownership import Ownership
from tests.unit.app.api_client import Client


class Members:
    """A cluster of these words."""

    def __init__(self, *words: Mapping[str, Any]) -> None:
        self.words = words

    def members(self) -> Sequence[Mapping[str, Any]]:
        return self.words


def answering(text: str | None) -> Ping:
    async def ping() -> str | None:
        return text

    return ping


@asynccontextmanager
async def serving(pings: Mapping[str, Ping], *words: Mapping[str, Any]) -> AsyncIterator[Client]:
    health = Health(HealthDependencies(pings, lambda: {"node": "one"}, Members(*words)))
    async with TestClient(TestServer(create_api(health.routes(), Limits()))) as client:
        yield client


async def test_ready_names_what_is_missing() -> None:
    """One part down is 503 with its name and its sentence; the others are told too."""
    async with serving({"kafka": answering(None), "read_store": answering("PostgreSQL is away")}) as client:
        answer = await client.get("/health/ready")
        report = await answer.json()
        assert (answer.status, report["status"], report["missing"]) == (503, "not_ready", ["read_store"])
        part = report["parts"][1]
        assert (part["name"], part["status"], part["detail"]) == (
            "read_store",
            "failing",
            "PostgreSQL is away",
        )
        assert (await client.get("/health")).status == 200
        assert (await client.get("/health/live")).status == 200


async def test_health_says_since_when_and_logs_the_change(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that fails has failed since it was first seen so, whoever asks how often; its return is logged too."""
    now, wrong = [1_000], ["broken"]

    async def ping() -> str | None:
        return wrong[0] or None

    monkeypatch.setattr("app.health.now_ms", lambda: now[0])
    caplog.set_level("INFO", "app.health")
    async with serving({"registry": ping}) as client:

        async def since() -> tuple[str, int]:
            (part,) = (await (await client.get("/health")).json())["parts"]
            return part["status"], part["since"]

        assert await since() == ("failing", 1_000)
        now[0] = 4_000
        assert await since() == ("failing", 1_000)
        wrong[0] = ""
        assert await since() == ("ok", 4_000)
        wrong[0] = "away"
        assert await since() == ("failing", 4_000)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "registry does not work yet: broken"),
        ("INFO", "registry works, after 3.0 s"),
        ("WARNING", "registry does not work: away"),
    ]


async def test_ready_is_200_when_every_part_works() -> None:
    """What a load balancer asks."""
    async with serving({"kafka": answering(None)}) as client:
        answer = await client.get("/health/ready")
        assert (answer.status, (await answer.json())["missing"]) == (200, [])


async def test_a_part_that_hangs_or_breaks_is_a_part_that_does_not_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Health answers in bounded time, whatever it asks."""

    async def hang() -> str | None:
        await asyncio.sleep(60)
        return None

    async def broken() -> str | None:
        raise RuntimeError("no such table")

    monkeypatch.setattr("app.health._PING_TIMEOUT_S", 0.05)
    async with serving({"a": hang, "b": broken}) as client:
        details = [part["detail"] for part in (await (await client.get("/health")).json())["parts"]]
    assert details == ["did not answer within 0.05 s", "RuntimeError: no such table"]


async def test_the_cluster_lists_nodes_and_owners() -> None:
    """Who owns which shard, from the nodes' own words."""
    word = {"node": "b", "shards": [1, 2], "status": "alive"}
    async with serving({}, word, {"node": "a", "shards": [0], "status": "alive"}) as client:
        body = await (await client.get("/v1/cluster")).json()
    assert [node["node"] for node in body["nodes"]] == ["a", "b"]
    assert body["shards"] == [
        {"shard": 0, "owner": "a"},
        {"shard": 1, "owner": "b"},
        {"shard": 2, "owner": "b"},
    ]


async def test_metrics_show_what_the_parts_count() -> None:
    """Counters and gauges of the parts are read when Prometheus asks."""
    take_away = expose({"worker": lambda: {"commands": 7}}, {"lag": lambda: {"run.events/0": 3}})
    try:
        async with serving({}) as client:
            text = await (await client.get("/metrics")).text()
    finally:
        take_away()
    assert "flexcore_worker_commands_total 7.0" in text
    assert 'flexcore_lag{of="run.events/0"} 3.0' in text


def test_nodes_are_believed_while_they_speak() -> None:
    """A node that has left is gone; one that fell silent owns nothing; what is no word is not heard."""
    board = NodesBoard({}, "nodes", dict)
    board.hear(b"one", json.dumps({"node": "one", "at": now_ms(), "shards": [0]}).encode())
    board.hear(b"two", json.dumps({"node": "two", "at": now_ms() - 60_000, "shards": [1]}).encode())
    board.hear(b"old", json.dumps({"node": "old", "at": 1, "shards": [2]}).encode())
    board.hear(b"bad", b"garbage")
    board.hear(b"liar", json.dumps({"node": "one", "at": now_ms()}).encode())
    assert [(word["node"], word["status"], word["shards"]) for word in board.members()] == [
        ("one", "alive", [0]),
        ("two", "silent", []),
    ]
    board.hear(b"one", None)
    assert [word["node"] for word in board.members()] == ["two"]


def test_the_fullest_shard_of_each_kind_tells_how_many_command_ids_there_are() -> None:
    """Given shards that remember ids, then the gauge shows the most of each kind: at the limit commands are refused."""
    run, limit = (SimpleNamespace(command_ids=count) for count in (7, 2))
    ownership: Any = object.__new__(Ownership)
    ownership._shards = {
        0: SimpleNamespace(slices={"run": run, "limit": limit}),
        1: SimpleNamespace(slices={"run": SimpleNamespace(command_ids=9)}),
    }
    vitals = Vitals({})
    vitals.worker = cast(Any, SimpleNamespace(engine=SimpleNamespace(ownership=ownership)))
    assert vitals.gauges()["command_ids"]() == {"limit": 2.0, "run": 9.0}


async def test_an_aggregate_that_rests_is_named() -> None:
    """The worker does not work as long as it leaves commands undecided: which, why, since when, and what to look at."""
    breakers = Breakers()
    shards = SimpleNamespace(phases=lambda: {0: "ready"}, problem=None)
    vitals = Vitals({})
    vitals.worker = cast(Any, SimpleNamespace(engine=SimpleNamespace(ownership=shards, breakers=breakers)))
    ping = vitals.pings(["worker"], projects=False)["worker"]
    assert await ping() is None
    breakers.note("run", 100, 80, "KeyError (fingerprint 5b1c09)", 1_795_000_000_000)
    told = await ping() or ""
    assert told.startswith("run is paused since 2026-11-18T11:06:40Z: 80 of the last 100 commands failed")
    assert "fingerprint 5b1c09" in told
    assert vitals.gauges()["aggregate_paused"]() == {"run": 1.0}
