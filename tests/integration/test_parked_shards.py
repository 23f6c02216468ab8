"""Parked aggregates on real Kafka: whoever owns the shard next knows them, and lets them go in order."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import topics as names
from schemas.partitioning import partition_of
from tests.support.services import KafkaService
from tests.support.truth import read
from tests.support.workers import SHARDS, Accounts, WorkerProcess, eventually

KEY = b"default/parked"
PART = partition_of(KEY, SHARDS)


@pytest.fixture
def nodes(kafka: KafkaService, tmp_path: Path) -> Iterator[list[WorkerProcess]]:
    """Two nodes of accounts that park, of which each follows what the other one owns; the first is ready."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    told = {"kafka": kafka.bootstrap, "prefix": prefix, "parks": True, "standbys": 1}
    first = WorkerProcess(tmp_path, node="a", **told).ready()
    started = [first, WorkerProcess(tmp_path, node="b", **told)]
    yield started
    for node in started:
        node.stop()


def _amounts(accounts: Accounts) -> list[int]:
    records = read(accounts.bootstrap, f"{accounts.prefix}.account.events", SHARDS)
    return [
        accounts.codec.decode(record.value)[1]["amount"] for record in records if record.key.startswith(KEY)
    ]


def test_the_next_owner_knows_who_is_parked_and_keeps_their_order(nodes: list[WorkerProcess]) -> None:
    """Garbage parks an account; both nodes in turn are killed; sent again and mended, it is decided, then what waited."""
    accounts = Accounts(str(nodes[0].options["kafka"]), str(nodes[0].options["prefix"]))
    kind = [("command-type", b"Deposit")]
    accounts.deposit("parked", 1)
    accounts.flush()
    accounts.raw(b"garbage", KEY, kind, PART)
    waiting = [accounts.deposit("parked", amount) for amount in range(3, 3003)]
    accounts.flush()
    last = accounts.outcome(waiting[-1])
    assert (last["status"], last["reason"]) == ("failed", "parked")

    nodes[1].ready()
    nodes[0].signal(9)
    accounts.deposit("parked", 3003)
    other = accounts.deposit("other", 1)
    accounts.flush()
    accounts.outcome(other, 30)
    place = next(
        record.key
        for record in read(accounts.bootstrap, f"{accounts.prefix}.account.quarantine", SHARDS)
        if record.headers.get("parked") == b"first"
    )
    accounts.raw(b'{"amount": 2}', KEY, [*kind, (names.REDRIVE_OF, place)], PART)
    accounts.deposit("parked", 3004)
    accounts.flush()
    eventually(lambda: len(_amounts(accounts)) == 3004, 30, 0.3)
    assert _amounts(accounts) == list(range(1, 3005))
