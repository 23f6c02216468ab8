"""Parked aggregates on real Kafka: whoever owns the shard next knows them, and lets them go in order."""

import re
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas import topics as names
from schemas.partitioning import partition_of
from tests.support.services import KafkaService
from tests.support.truth import read
from tests.support.workers import SHARDS, Accounts, WorkerProcess, eventually

ACCOUNT = next(
    name for name in map(str, range(99)) if partition_of(f"default/{name}".encode(), SHARDS) == SHARDS - 1
)
KEY = f"default/{ACCOUNT}".encode()  # on the shard that moves when a second node joins


@pytest.fixture
def nodes(kafka: KafkaService, tmp_path: Path) -> Iterator[Callable[[str, int], WorkerProcess]]:
    """Starts nodes of accounts that park, by name and by how many follow a shard they do not own."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    told = {"kafka": kafka.bootstrap, "prefix": prefix, "parks": True, "session_ms": 2500}
    started: list[WorkerProcess] = []

    def start(name: str, standbys: int) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path, node=name, standbys=standbys, **told))
        return started[-1].ready()

    yield start
    for node in started:
        node.stop()


def _amounts(accounts: Accounts) -> list[int]:
    records = read(accounts.bootstrap, f"{accounts.prefix}.account.events", SHARDS)
    mine = [record.value for record in records if record.key.startswith(KEY + b"/")]
    return [accounts.codec.decode(value)[1]["amount"] for value in mine]


def test_the_next_owner_knows_who_is_parked_and_keeps_their_order(
    nodes: Callable[[str, int], WorkerProcess],
) -> None:
    """Garbage parks an account; its shard moves to a node that reads the log, and, by SIGKILL, to one that followed it."""
    first = nodes("a", 1)
    accounts = Accounts(str(first.options["kafka"]), str(first.options["prefix"]))
    kind = [("command-type", b"Deposit")]
    accounts.deposit(ACCOUNT, 1)
    accounts.flush()
    accounts.raw(b"garbage", KEY, kind, SHARDS - 1)
    waiting = [accounts.deposit(ACCOUNT, amount) for amount in range(3, 3003)]
    accounts.flush()
    last = accounts.outcome(waiting[-1])
    assert (last["status"], last["reason"]) == ("failed", "parked")

    second = nodes("b", 0)
    eventually(
        lambda: re.search(rf"shard {SHARDS - 1}: 1 slices folded from \d{{4}}", second.log.read_text())
    )
    assert accounts.outcome(_sent(accounts, 3003))["reason"] == "parked"
    second.signal(signal.SIGKILL)
    assert accounts.outcome(_sent(accounts, 3004), 30)["reason"] == "parked"

    quarantined = read(accounts.bootstrap, f"{accounts.prefix}.account.quarantine", SHARDS)
    (place,) = [record.key for record in quarantined if record.headers.get("parked") == b"first"]
    accounts.raw(b'{"amount": 2}', KEY, [*kind, (names.REDRIVE_OF, place)], SHARDS - 1)
    _sent(accounts, 3005)
    eventually(lambda: len(_amounts(accounts)) >= 3005, 30, 0.3)
    assert _amounts(accounts) == list(range(1, 3006))


def _sent(accounts: Accounts, amount: int) -> str:
    command_id = accounts.deposit(ACCOUNT, amount)
    accounts.flush()
    return command_id
