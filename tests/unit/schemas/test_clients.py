"""Kafka clients that have lost all their brokers for good are known."""

import json

import pytest

from schemas import clients
from schemas.clients import lost, watched

BROKERS = {"a:1/1": {"source": "learned"}, "GroupCoordinator": {"source": "logical"}}


def _statistics(*names: str) -> str:
    return json.dumps({"brokers": {name: BROKERS[name] for name in names}})


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of the test's own, and no clients but its own."""
    now = [1000.0]
    monkeypatch.setattr(clients, "_without", {})
    monkeypatch.setattr("schemas.clients.time.monotonic", lambda: now[0])
    return now


def test_a_client_that_knows_no_broker_twice_in_a_row_is_lost(clock: list[float]) -> None:
    """Given a client whose only broker is none, once is not yet lost, twice is, and one broker is enough to be back."""
    told = watched({"client.id": "sender"})["stats_cb"]
    told(_statistics("GroupCoordinator"))
    assert lost() == []
    clock[0] += 5
    told(_statistics("GroupCoordinator"))
    assert lost() == ["sender"]
    told(_statistics("a:1/1", "GroupCoordinator"))
    assert lost() == []


def test_a_lost_client_that_is_used_no_more_is_forgotten(clock: list[float]) -> None:
    """Given a lost client that tells nothing any more, because it was closed, it is lost no longer."""
    told = watched({"group.id": "readers"})["stats_cb"]
    told(_statistics())
    clock[0] += 5
    told(_statistics())
    assert lost() == ["readers"]
    clock[0] += 15
    assert lost() == []


def test_clients_of_one_name_are_told_apart(clock: list[float]) -> None:
    """Given two clients of one name, what one of them knows says nothing of the other."""
    first, second = (watched({"client.id": "twin"})["stats_cb"] for _ in range(2))
    for _ in range(2):
        clock[0] += 5
        first(_statistics())
        second(_statistics("a:1/1"))
    assert lost() == ["twin"]
