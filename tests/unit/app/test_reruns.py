"""Running many runs again: each once, and what is held back is told why."""

from typing import Any

import pytest

from app.commands.reruns import failed_step, held_back
from tests.support.described import assert_described
from tests.unit.app.api_client import pipeline_file, serving

STEPS = [
    {"name": "one", "status": "succeeded"},
    {"name": "two", "status": "failed"},
    {"name": "three", "status": "skipped"},
]


async def test_many_runs_go_again_once_however_often_it_is_asked() -> None:
    """The second time says what became of the first; a run that goes on, and a strange one, are held back."""
    async with serving() as (client, platform):
        await client.put("/v1/pipelines/copy", json=pipeline_file())
        runs = [(await (await client.post("/v1/pipelines/copy/runs")).json())["id"] for _ in range(3)]
        for run in runs[:2]:
            await client.post(f"/v1/runs/{run}/cancel", json={"now": True})
        body: dict[str, Any] = {"runs": [*runs, "strange"], "from_failed": True}

        async def ask(**more: Any) -> list[dict[str, Any]]:
            answer = await client.post("/v1/runs/rerun", json={**body, **more})
            assert answer.status == 200, await answer.text()
            found = await answer.json()
            assert_described(document, "POST", "/v1/runs/rerun", 200, found)
            items: list[dict[str, Any]] = found["items"]
            return items

        document = await (await client.get("/v1/openapi.json")).json()
        sent = len(platform.received)
        dry = await ask(dry_run=True)
        assert len(platform.received) == sent
        assert [(item["done"], item["why_not"]) for item in dry] == [
            (False, None), (False, None), (False, "it is still queued"), (False, "there is no such run"),
        ]  # fmt: skip
        first = await ask()
        assert [item["done"] for item in first] == [True, True, False, False]
        new = await platform.run("default", first[0]["run"])
        assert new is not None
        assert (new["rerun_of"], first[0]["from"]) == (runs[0], "first")
        again = await ask()
        assert again[0]["why_not"] == f"it was run again already, as {first[0]['run']}"
        assert len(platform.received) == sent + 2


async def test_more_than_a_page_and_two_beginnings_are_refused() -> None:
    """Before anything is sent."""
    async with serving() as (client, platform):
        for body in ({"runs": ["r"] * 501}, {"runs": ["r"], "from": "one", "from_failed": True}):
            assert (await client.post("/v1/runs/rerun", json=body)).status == 422
        assert platform.received == []


@pytest.mark.parametrize(("statuses", "begin"), [(3, "two"), (1, None)])
def test_it_begins_at_the_first_step_that_failed(statuses: int, begin: str | None) -> None:
    """A run without one is run again whole."""
    assert failed_step({"steps": STEPS[:statuses]}) == begin
    assert held_back({"status": "failed", "steps": STEPS}, begin, None) == ""


def test_a_step_that_a_run_has_not_is_told() -> None:
    """Filters may choose runs of older versions."""
    assert held_back({"status": "failed", "steps": STEPS}, "four", None) == "it has no step 'four'"
