"""Shards change hands: from snapshots, to standbys, on SIGTERM and SIGKILL, under every kind of membership."""

import json
import signal
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from schemas.catalogue import Catalogue
from schemas.topics import Topics
from streams.recovery.load import Loader, Loading
from streams.recovery.offsets import Broker
from streams.recovery.snapshots import StateCodec
from streams.shards.shard import Slice
from tests.performance.account import AGGREGATE, SCHEMAS
from tests.support.services import KafkaService
from tests.support.truth import read
from tests.support.workers import SHARDS, Accounts, WorkerProcess, eventually


@pytest.fixture
def workers() -> Iterator[list[WorkerProcess]]:
    """Workers that end with the test."""
    started: list[WorkerProcess] = []
    yield started
    for worker in started:
        worker.stop()


def _loaded(accounts: Accounts, with_snapshots: bool) -> list[Slice]:
    """Return every shard as the next owner would load it."""
    catalogue = Catalogue.load().merged(Catalogue.load(SCHEMAS))
    broker = Broker({"bootstrap.servers": accounts.bootstrap}, f"{accounts.prefix}.worker", "test", 0.3, 10)
    loader = Loader(broker, [AGGREGATE], catalogue, accounts.codec, Topics(accounts.prefix))
    if not with_snapshots:
        cold: dict[str, StateCodec | None] = {AGGREGATE.name: None}
        loader._states = cold
    slices = []
    for shard in range(SHARDS):
        found = loader.load(shard, {}, lambda: True, Loading())
        assert found is not None
        slices.append(found[0][AGGREGATE.name])
    broker.close()
    return slices


def _told(piece: Slice) -> tuple[Any, ...]:
    states = {key: (entry.version, entry.state) for key, entry in piece.states.items()}
    return states, piece.sequence, piece.position, piece.next


def _pauses(accounts: Accounts, since_ms: float) -> dict[int, float]:
    """Return the longest time without an outcome in each shard, in seconds."""
    last = dict.fromkeys(range(SHARDS), since_ms)
    longest = dict.fromkeys(range(SHARDS), 0.0)
    for record in read(accounts.bootstrap, f"{accounts.prefix}.account.outcomes", SHARDS):
        if record.at >= since_ms:
            pause = (record.at - last[record.partition]) / 1000
            longest[record.partition] = max(longest[record.partition], pause)
            last[record.partition] = record.at
    return longest


@cache
def _admin(bootstrap: str) -> AdminClient:
    """One for all questions: each new one connects, and asks for all topics first."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 3})


def _owners(accounts: Accounts) -> dict[str, set[int]]:
    """Return the shards of each member, as the group's coordinator sees it."""
    group = f"{accounts.prefix}.worker"
    members = _admin(accounts.bootstrap).describe_consumer_groups([group])[group].result(10).members
    return {
        member.client_id.rpartition("/")[2]: {part.partition for part in member.assignment.topic_partitions}
        for member in members
        if member.assignment is not None
    }


@pytest.mark.timeout(120)
def test_a_shard_is_loaded_from_snapshots_and_old_commands_get_their_first_answer(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path, workers: list[WorkerProcess]
) -> None:
    """After a restart the tail is short, states are those of the whole log, and a command sent again is answered alike."""
    accounts = Accounts(kafka.bootstrap, topic_prefix)
    common = {"kafka": kafka.bootstrap, "prefix": topic_prefix, "node": "a", "batch": 40, "tail": 200}
    workers.append(WorkerProcess(tmp_path, **common).ready())
    for number in range(1600):
        accounts.deposit(f"a{number % 60}", 1)
    accounts.flush()
    first = accounts.settled()
    workers[-1].stop()

    warm, cold = _loaded(accounts, True), _loaded(accounts, False)
    assert list(map(_told, warm)) == list(map(_told, cold))
    assert all(piece.saved.mark is not None and piece.saved.mark.events > 0 for piece in warm)
    assert sum(len(piece.index) for piece in warm) < 1600 / 2

    workers.append(WorkerProcess(tmp_path, **common).ready())
    for command_id in list(accounts.sent)[:50]:
        accounts.deposit(*accounts.sent[command_id], command_id)
    marks = [accounts.deposit(f"a{number}", 1) for number in range(60)]
    accounts.flush()
    for mark in marks:
        accounts.outcome(mark)
    verdict = accounts.settled()

    assert verdict.problems == []
    assert verdict.events == 1660
    for command_id in list(first.outcome_of)[:1]:
        assert set(verdict.outcome_of[command_id]) == set(first.outcome_of[command_id])
    assert sum(len(answers) for answers in verdict.outcome_of.values()) == 1660 + 50


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_rebalance_stops_only_the_shards_that_move_and_only_for_a_moment(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path, workers: list[WorkerProcess], protocol: str
) -> None:
    """A second worker joins and leaves by SIGTERM: it ends at once, and nobody waits for a session to run out."""
    accounts = Accounts(kafka.bootstrap, topic_prefix)
    common = {"kafka": kafka.bootstrap, "prefix": topic_prefix, "protocol": protocol}
    workers.append(WorkerProcess(tmp_path, **common, node="a").ready())
    with accounts.load(rate=300):
        time.sleep(2)
        joined_ms = time.time() * 1000
        workers.append(WorkerProcess(tmp_path, **common, node="b").ready())
        eventually(lambda: len(_owners(accounts).get("b", ())) == SHARDS / 2)
        time.sleep(1)
        at_join = _pauses(accounts, joined_ms)
        moved = _owners(accounts)["b"]
        left_ms = time.time() * 1000
        workers[1].process.terminate()
        assert workers[1].process.wait(10) == 0
        took_s = time.time() - left_ms / 1000
        time.sleep(2)
    verdict = accounts.settled()
    at_leave = _pauses(accounts, left_ms)
    stayed = {shard: pause for shard, pause in at_join.items() if shard not in moved}
    print(
        json.dumps(
            {"protocol": protocol, "join": at_join, "moved": sorted(moved), "leave": at_leave, "end": took_s}
        )
    )

    assert verdict.problems == []
    # The promise is 0.3 s for those that stay, 1.5 s for those that move, 2 s to the end; a busy machine gets more.
    # In the newer protocol moving takes two of the broker's heartbeat intervals, 5 s each unless it is told otherwise.
    moving_s = 4 if protocol == "classic" else 15
    assert max(stayed.values()) < 3
    assert max(at_join.values()) < moving_s
    assert max(at_leave.values()) < moving_s
    assert took_s < 4


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_static_member_that_restarts_in_time_gets_its_shards_back_and_nobody_else_notices(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path, workers: list[WorkerProcess], protocol: str
) -> None:
    """SIGTERM and start again within the session: no rebalance, the other worker's shards do not pause."""
    accounts = Accounts(kafka.bootstrap, topic_prefix)
    common = {"kafka": kafka.bootstrap, "prefix": topic_prefix, "session_ms": 20_000, "protocol": protocol}
    for node in ("a", "b"):
        workers.append(
            WorkerProcess(tmp_path, **common, node=node, instance=f"{topic_prefix}-{node}").ready()
        )
    eventually(lambda: len(_owners(accounts).get("b", ())) == SHARDS / 2)
    before = _owners(accounts)
    with accounts.load(rate=200):
        time.sleep(2)
        start_ms = time.time() * 1000
        workers[1].process.terminate()
        assert workers[1].process.wait(10) == 0
        workers.append(WorkerProcess(tmp_path, **common, node="b", instance=f"{topic_prefix}-b").ready())
        time.sleep(1)
    verdict = accounts.settled()
    pauses = _pauses(accounts, start_ms)

    assert verdict.problems == []
    assert _owners(accounts) == before
    assert max(pauses[shard] for shard in before["a"]) < 3  # as where a rebalance stops nobody who stays


def _take_over(accounts: Accounts, victim: WorkerProcess) -> float:
    """Kill a worker, and return after how many seconds every shard has answered a command sent after the kill."""
    killed_ms = time.time() * 1000
    victim.signal(signal.SIGKILL)
    victim.process.wait(10)
    marks = {accounts.deposit(f"mark{number}", 1).encode() for number in range(8 * SHARDS)}
    accounts.flush()
    answered: dict[bytes, float] = {}

    def all_answered() -> bool:
        for record in read(accounts.bootstrap, f"{accounts.prefix}.account.outcomes", SHARDS):
            if record.key in marks:
                answered[record.key] = record.at
        return len(answered) == len(marks)

    eventually(all_answered, 30, 0.5)
    return (max(answered.values()) - killed_ms) / 1000


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("standbys", "session_ms", "limit_s"), [(0, 6_000, 10.0), (1, 2_500, 5.0)])
def test_shards_of_a_killed_worker_are_taken_over_in_seconds(
    kafka: KafkaService,
    topic_prefix: str,
    tmp_path: Path,
    workers: list[WorkerProcess],
    standbys: int,
    session_ms: int,
    limit_s: float,
) -> None:
    """SIGKILL under load, several times, from one node to the other: nothing lost, nothing doubled."""
    accounts = Accounts(kafka.bootstrap, topic_prefix)
    common = {
        "kafka": kafka.bootstrap,
        "prefix": topic_prefix,
        "session_ms": session_ms,
        "standbys": standbys,
        "tail": 400,
    }
    alive = {node: WorkerProcess(tmp_path, **common, node=node).ready() for node in ("a", "b")}
    workers += alive.values()
    took = []
    with accounts.load(rate=150):
        for round_number in range(3):
            eventually(lambda: len(_owners(accounts)) == 2, every_s=0.2)
            time.sleep(4 * standbys)  # one looks around every three seconds
            node = "ab"[round_number % 2]
            took.append(_take_over(accounts, alive[node]))
            alive[node] = WorkerProcess(tmp_path, **common, node=node).ready()
            workers.append(alive[node])
    verdict = accounts.settled()
    print(json.dumps({"standbys": standbys, "session_ms": session_ms, "took_s": took}))

    assert verdict.problems == []
    assert sum(verdict.outcomes.values()) == len(accounts.sent)
    assert sorted(took)[-2] <= limit_s
