"""What people may do about quarantined records: one by one, many at once, and what is held back."""

import time
from typing import Any

import pytest

from app.adapters.memory import MemoryQuarantine
from app.adapters.quarantine import bounded, redrive_id
from app.cli.failure import Failed
from app.cli.many import moment, paced, per_second
from app.ports import Edit, Row
from streams.projections.quarantine import TABLE
from tests.support.described import assert_described
from tests.unit.app.api_client import serving

WHO = {"Flexcore-Actor": "ada@home"}


def record(offset: int, **values: Any) -> Row:
    """Return the row of a record that waits."""
    row: Row = dict.fromkeys(column.name for column in TABLE.columns)
    return {
        **row,
        "aggregate": "run",
        "source_topic": "run.commands",
        "source_partition": 3,
        "source_offset": offset,
        "tenant": "default",
        "status": "open",
        "original_key": "default/r1",
        "command_id": f"c{offset}",
        "attempts": 1,
        "failed_alike": 1,
        "redrives": 0,
        **values,
    }


def name(offset: int) -> str:
    return f"run.commands/3/{offset}"


async def test_redriving_answers_where_the_new_outcome_will_be() -> None:
    """A redriven record is a new command caused by the old one, sent in the name of who asked."""
    quarantine = MemoryQuarantine([record(7)])
    async with serving(quarantine=quarantine) as (client, _platform):
        answer = await client.post(f"/v1/quarantine/{name(7)}/redrive", headers=WHO)
        assert (answer.status, answer.headers["Location"]) == (202, "/v1/commands/c7-1")
        assert (await answer.json())["causation_id"] == "c7"
    assert quarantine.deeds == [("redrive", ("run.commands", 3, 7), "ada@home", None)]


async def test_one_record_is_sent_though_it_keeps_failing() -> None:
    """Who names it knows it; the guard is for those that send many."""
    quarantine = MemoryQuarantine([record(7, failed_alike=9, status="redriven")])
    async with serving(quarantine=quarantine) as (client, _platform):
        assert (await client.post(f"/v1/quarantine/{name(7)}/redrive")).status == 202


async def test_what_waits_is_not_sent_by_itself() -> None:
    """It would overtake those before it: the answer says what it waits for, also among many; it may be dropped."""
    waits = record(8, parked="behind", detail="parked behind run.commands/3/7", cause="parked")
    quarantine = MemoryQuarantine([record(7, parked="first"), waits])
    async with serving(quarantine=quarantine) as (client, _platform):
        refused = await client.post(f"/v1/quarantine/{name(8)}/redrive")
        assert refused.status == 422
        assert "parked behind run.commands/3/7" in (await refused.json())["detail"]
        many = await client.post("/v1/quarantine/redrive", json={"records": [name(7), name(8)]})
        assert [item["done"] for item in (await many.json())["items"]] == [True, False]
        assert (await client.post(f"/v1/quarantine/{name(8)}/drop", json={"reason": "x"})).status == 200
    assert [deed[0] for deed in quarantine.deeds] == ["redrive", "drop"]


async def test_an_edit_says_what_the_command_shall_be() -> None:
    """The new body goes to Kafka's side, with who edited it."""
    quarantine = MemoryQuarantine([record(7)])
    async with serving(quarantine=quarantine) as (client, _platform):
        answer = await client.post(
            f"/v1/quarantine/{name(7)}/edit", json={"data": {"reason": "x"}}, headers=WHO
        )
        assert answer.status == 202
    assert quarantine.deeds == [("redrive", ("run.commands", 3, 7), "ada@home", Edit(None, {"reason": "x"}))]


async def test_nothing_is_dropped_without_a_reason() -> None:
    """Who dropped it and why is kept."""
    quarantine = MemoryQuarantine([record(7)])
    path = f"/v1/quarantine/{name(7)}/drop"
    async with serving(quarantine=quarantine) as (client, _platform):
        refused = await client.post(path, json={"reason": " "})
        assert (refused.status, (await refused.json())["errors"][0]["pointer"]) == (422, "/reason")
        assert (await client.post(path, json={"reason": "a test"}, headers=WHO)).status == 200
    assert quarantine.deeds == [("drop", ("run.commands", 3, 7), "ada@home", "a test")]


async def test_many_go_in_the_order_they_are_named() -> None:
    """Each is answered for: those that went with their new id, the others with what held them back."""
    rows = [
        record(1),
        record(2, failed_alike=4),
        record(3, status="dropped"),
        record(4, original_key="keyless"),
        record(5, tenant="acme"),
        record(6),
    ]
    quarantine = MemoryQuarantine(rows)
    asked = [name(offset) for offset in (6, 1, 2, 3, 4, 5, 6)]
    async with serving(quarantine=quarantine) as (client, _platform):
        answer = await client.post("/v1/quarantine/redrive", json={"records": asked})
        body = await answer.json()
        document = await (await client.get("/v1/openapi.json")).json()
    assert_described(document, "POST", "/v1/quarantine/redrive", 200, body)
    assert [deed[1][2] for deed in quarantine.deeds] == [6, 1]
    told = {item["id"]: (item["done"], item["command_id"], item["why_not"]) for item in body["items"]}
    assert told[name(6)] == (True, "c6-1", None)
    assert told[name(2)] == (False, None, "it failed 4 times alike; mend the cause, then use force")
    assert told[name(3)] == (False, None, "it was dropped already")
    assert told[name(4)][2].startswith("its key is not")
    assert told[name(5)] == (False, None, "there is no such record")


async def test_by_force_goes_what_keeps_failing() -> None:
    """But not what was done with already."""
    quarantine = MemoryQuarantine([record(2, failed_alike=40), record(3, status="redriven", failed_alike=40)])
    body = {"records": [name(2), name(3)], "force": True}
    async with serving(quarantine=quarantine) as (client, _platform):
        await client.post("/v1/quarantine/redrive", json=body)
    assert [deed[1][2] for deed in quarantine.deeds] == [2]


@pytest.mark.parametrize("deed", ["redrive", "drop"])
async def test_a_dry_run_does_nothing(deed: str) -> None:
    """What would go has no reason against it."""
    quarantine = MemoryQuarantine([record(1), record(2, status="redriven")])
    body = {"records": [name(1), name(2)], "dry_run": True} | ({"reason": "x"} if deed == "drop" else {})
    async with serving(quarantine=quarantine) as (client, _platform):
        answer = await (await client.post(f"/v1/quarantine/{deed}", json=body)).json()
    assert quarantine.deeds == []
    assert [(item["done"], item["why_not"]) for item in answer["items"]] == [
        (False, None),
        (False, "it was redriven already"),
    ]


def test_the_id_of_a_redrive_follows_from_the_record() -> None:
    """uuid5 of the old id and the number: sending it twice unnoted sends one command."""
    old = "7d0c0d3e-8f0e-4f3c-9d7c-2b1c2f6a1a11"
    assert redrive_id(record(1, command_id=old)) == redrive_id(record(1, command_id=old))
    assert redrive_id(record(1, command_id=old)) != redrive_id(record(1, command_id=old, redrives=1))
    assert redrive_id(record(1, command_id="")) != redrive_id(record(2, command_id=""))


def test_large_records_go_a_few_at_a_time() -> None:
    """In their order; one that is too large for others to go along goes alone."""
    rows = [record(number, size=size << 20) for number, size in enumerate((5, 5, 5, 5, 40, 1))]
    assert [[row["source_offset"] for row in some] for some in bounded(rows)] == [[0, 1, 2], [3], [4], [5]]
    assert [*bounded([])] == []


def test_pages_keep_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a second's worth goes at once, and no faster on the whole."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    pages = [*paced([str(number) for number in range(45)], 100)]
    assert [len(page) for page in pages] == [45]
    pages = [*paced([str(number) for number in range(5)], 20 / 1.0)]
    assert [len(page) for page in paced(["a"] * 1200, None)] == [500, 500, 200]
    assert not any(slept)
    assert [len(page) for page in paced(["a", "b", "c"], per_second("1200/m"))] == [3]
    assert [len(page) for page in paced(["a"] * 3, 10 / 4)] == [2, 1]
    assert 0.5 < sum(slept) <= 0.8


@pytest.mark.parametrize("rate", ["", "0/s", "fast", "10/h"])
def test_a_wrong_rate_is_told(rate: str) -> None:
    """With an example."""
    with pytest.raises(Failed, match="is no rate"):
        per_second(rate)


def test_since_may_be_an_age() -> None:
    """Or a time, which the API reads."""
    age = int(moment("2h") or 0)
    assert abs(age - (time.time() - 7200) * 1000) < 5000
    assert moment("2026-01-01T00:00:00Z") == "2026-01-01T00:00:00Z"
