"""Reads of the newest state by its owner: two nodes over HTTP, a shard that moves, and owners that hang or are gone."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.adapters.peers import HttpPeers
from app.api import create_api
from app.errors import not_found
from app.ports import Held, Limits, Row
from app.routes import Route
from app.views.owner import OwnerReads
from app.views.progress import LiveProgress
from app.views.routes import owner_routes

PATH = "/v1/aggregates/account/a-1"


@dataclass
class FakeMemory:
    """What one node holds of the only shard there is; None: it is not the owner's."""

    node: str
    now: Held | None = None

    def shard_of(self, tenant: str, kind: str, aggregate_id: str) -> int:
        if kind != "account":
            raise not_found("kind of aggregate", kind)
        return 3

    def held(self, tenant: str, kind: str, aggregate_id: str) -> Held | None:
        return self.now

    def shown(self, state: Any) -> Any:
        return {"balance": state}


class RunMemory(FakeMemory):
    """The same of runs; a state is shown as it is."""

    def shard_of(self, tenant: str, kind: str, aggregate_id: str) -> int:
        return 3

    def shown(self, state: Any) -> Any:
        return {"steps": state.steps} if isinstance(state, SimpleNamespace) else state


@dataclass
class Board:
    """What the nodes have said."""

    words: dict[str, dict[str, Any]] = field(default_factory=dict)

    def say(self, node: str, url: str, at: int, *shards: int) -> None:
        self.words[node] = {"node": node, "url": url, "at": at, "status": "alive", "shards": list(shards)}

    def members(self) -> Sequence[Mapping[str, Any]]:
        return list(self.words.values())


@dataclass
class Pair:
    """Two nodes that know each other; the client speaks to the first."""

    client: TestClient[web.Request, web.Application]
    one: FakeMemory
    two: FakeMemory
    board: Board
    url_one: str
    url_two: str


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    board, one, two = Board(), FakeMemory("one"), FakeMemory("two")
    peers = HttpPeers(board)
    servers = [
        TestServer(create_api(owner_routes(memory, peers, Limits()), Limits())) for memory in (one, two)
    ]
    async with TestClient(servers[0]) as client, TestClient(servers[1]):
        urls = [f"http://127.0.0.1:{server.port}" for server in servers]
        yield Pair(client, one, two, board, *urls)
    await peers.close()


def held(version: int, position: int, *, stale: bool = False) -> Held:
    return Held(version, position, stale, version * 10)


async def test_any_node_answers_for_the_owner() -> None:
    """The same answer with position and version, whoever is asked; the caller's ETag is honoured by the owner."""
    async with pair() as nodes:
        nodes.two.now = held(4, 17)
        nodes.board.say("two", nodes.url_two, 1, 3)
        answer = await nodes.client.get(PATH)
        assert (answer.status, answer.headers["Flexcore-Position"]) == (200, "account:3:17")
        body = await answer.json()
        assert (body["owner"], body["version"], body["state"]) == ("two", 4, {"balance": 40})
        assert "Flexcore-Stale" not in answer.headers
        again = await nodes.client.get(PATH, headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status == 304


async def test_a_position_is_waited_for_at_the_owner() -> None:
    """Fresh, or 504 within the caller's time; never an older answer."""
    async with pair() as nodes:
        nodes.two.now = held(1, 5)
        nodes.board.say("two", nodes.url_two, 1, 3)
        late = await nodes.client.get(f"{PATH}?min-position=account:3:6&wait=0.2")
        assert (late.status, (await late.json())["code"]) == (504, "not_yet")
        asyncio.get_running_loop().call_later(0.2, lambda: setattr(nodes.two, "now", held(2, 6)))
        fresh = await nodes.client.get(f"{PATH}?min-position=account:3:6&wait=5")
        assert (fresh.status, (await fresh.json())["version"]) == (200, 2)


async def test_a_shard_that_moves_meanwhile_is_not_noticed() -> None:
    """The old owner says 421, the new one is found when it has spoken."""
    async with pair() as nodes:
        nodes.board.say(
            "two", nodes.url_two, 1, 3
        )  # it has lost the shard, but its newest word is older than that

        def moved() -> None:
            nodes.one.now = held(7, 30)
            nodes.board.say("one", nodes.url_one, 2, 3)

        asyncio.get_running_loop().call_later(0.3, moved)
        answer = await nodes.client.get(f"{PATH}?min-position=account:3:30")
        assert (answer.status, (await answer.json())["owner"]) == (200, "one")


async def test_an_owner_that_hangs_or_is_gone_is_passed_over(unused_tcp_port: int) -> None:
    """A frozen owner costs one attempt, a dead one nothing; the caller's time is its own."""

    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    frozen = web.Application()
    frozen.router.add_get(PATH, hang)
    async with pair() as nodes, TestServer(frozen, shutdown_timeout=0.1) as server:
        nodes.two.now = held(1, 1)
        nodes.board.say("gone", f"http://127.0.0.1:{unused_tcp_port}", 9, 3)
        nodes.board.say("frozen", f"http://127.0.0.1:{server.port}", 8, 3)
        nodes.board.say("two", nodes.url_two, 1, 3)
        begun = time.monotonic()
        answer = await nodes.client.get(PATH)
        assert answer.status == 200
        assert time.monotonic() - begun < 3


async def test_without_an_owner_it_is_said_in_time() -> None:
    """503 and when to come back."""
    async with pair() as nodes:
        answer = await nodes.client.get(f"{PATH}?wait=0.2")
        assert (answer.status, (await answer.json())["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert (await nodes.client.get("/v1/aggregates/house/1")).status == 404


async def test_a_node_asked_by_another_answers_for_itself_or_not_at_all() -> None:
    """421 at once: a read must not go around in circles."""
    async with pair() as nodes:
        nodes.board.say("two", nodes.url_two, 1, 3)
        nodes.two.now = held(1, 1)
        answer = await nodes.client.get(PATH, headers={"Flexcore-Forwarded": "two"})
        assert (answer.status, (await answer.json())["code"]) == (421, "not_owner")
        nodes.one.now = held(1, 1, stale=True)
        assert (await nodes.client.get(PATH, headers={"Flexcore-Forwarded": "two"})).status == 421


@pytest.mark.parametrize(
    ("mine", "version", "owner", "marked"),
    [
        (held(2, 8, stale=True), 2, "two", "true"),
        (held(2, 8), 2, "one", None),
        (held(0, 8, stale=True), 3, "two", None),
    ],
    ids=["followed or being loaded", "owned", "not loaded yet"],
)
async def test_stale_ok_takes_what_is_near(mine: Held, version: int, owner: str, marked: str | None) -> None:
    """A followed shard answers marked; what is not loaded yet is no answer, and a position still binds."""
    async with pair() as nodes:
        nodes.one.now, nodes.two.now = mine, held(3, 9)
        nodes.board.say("two", nodes.url_two, 1, 3)
        answer = await nodes.client.get(f"{PATH}?stale-ok=true")
        body = await answer.json()
        assert (answer.status, body["version"], body["owner"]) == (200, version, owner)
        assert answer.headers.get("Flexcore-Stale") == marked
        if mine.stale:
            newer = await nodes.client.get(f"{PATH}?stale-ok=true&min-position=account:3:9")
            assert (await newer.json())["version"] == 3


def run_at_work() -> tuple[Row, Held]:
    """Return a run as its events tell it, and as its owner knows it."""
    counts = {"records_in": 0, "records_out": 0, "records_rejected": 0, "bytes": 0}
    told = {**counts, "status": "running", "attempt": 2, "percent": None, "progress": None}
    steps = [{**told, "name": name} for name in ("pull", "again", "done")]
    steps[2]["status"] = "succeeded"
    newest = {**told, "records_out": 7, "percent": 40.0, "progress": "page 2"}
    known = {"pull": newest, "again": {**newest, "attempt": 3}, "done": newest}
    return {"id": "r-1", "ended_at": None, "steps": steps}, Held(4, 17, False, SimpleNamespace(steps=known))


@pytest.mark.parametrize("own", [True, False])
async def test_a_run_is_shown_with_what_its_owner_heard_last(own: bool) -> None:
    """Here or on another node; only of attempts that the events know, and never longer than a moment."""
    row, at_work = run_at_work()
    board, one, two = Board(), RunMemory("one"), RunMemory("two")
    (one if own else two).now = at_work
    peers, limits = HttpPeers(board), Limits()
    live = LiveProgress(one, OwnerReads(one, peers, limits))

    async def shown(request: web.Request) -> web.Response:
        return web.json_response(await live.added(request, row))

    front = create_api([Route("GET", "/run", shown, "getIt", "It", "runs", response="Any")], limits)
    async with (
        TestClient(TestServer(front)) as client,
        TestClient(TestServer(create_api(owner_routes(two, peers, limits), limits))) as other,
    ):
        assert own or (await (await client.get("/run")).json()) == row, "no owner is known yet"
        board.say("two", str(other.make_url("")).rstrip("/"), 1, 3)
        found = await (await client.get("/run", headers={"If-None-Match": '"4"'})).json()
    await peers.close()
    assert found["steps"][0] == {**row["steps"][0], "records_out": 7, "percent": 40.0, "progress": "page 2"}
    assert found["steps"][1:] == row["steps"][1:]
