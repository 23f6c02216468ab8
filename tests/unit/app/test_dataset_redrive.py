"""Asking for what a step rejected: what waits is told, and a rerun is begun only when something does."""

from typing import Any

from app.adapters.memory import MemoryRejects
from tests.support.described import assert_described
from tests.support.pipeline_files import extract, transform
from tests.support.pipeline_files import pipeline as transforming
from tests.unit.app.api_client import pipeline_file, serving

PATH = "/v1/datasets/copy/first/redrive"
BEGIN = {"run": "r", "attempt": 1, "token": "t", "generation": "g", "topic_id": "i", "ends": {"0": 0}}


async def test_what_waits_is_told_and_nothing_is_begun_for_nothing() -> None:
    """No dataset, nothing waiting, a dry run: no rerun. A step that rejects nothing is refused by the run."""
    rejects = MemoryRejects()
    async with serving(rejects=rejects) as (client, _platform):
        document = await (await client.get("/v1/openapi.json")).json()

        async def ask(status: int, **body: Any) -> dict[str, Any]:
            answer = await client.post(PATH, json=body)
            found: dict[str, Any] = await answer.json()
            assert answer.status == status, found
            assert_described(document, "POST", "/v1/datasets/{pipeline}/{step}/redrive", status, found)
            return found

        assert (await ask(404))["code"] == "not_found"
        await client.put("/v1/pipelines/copy", json=pipeline_file())
        run = (await (await client.post("/v1/pipelines/copy/runs")).json())["id"]
        order = {"aggregate": "bookmark", "type": "Begin", "id": "copy/first", "data": BEGIN}
        await client.post("/v1/commands", json=order)
        assert (await ask(200))["records"] == 0
        rejects.counts = {"older": 3, run: 2}
        told = await ask(200, dry_run=True)
        assert (told["records"], told["generation"], told["run"]) == (5, "g", None)
        assert told["runs"] == [{"id": "older", "records": 3}, {"id": run, "records": 2}]
        assert (await ask(200, run=run, dry_run=True))["records"] == 2
        assert (await ask(200, run="another"))["records"] == 0
        # The newest is run again, and it goes on still.
        assert (await ask(409))["code"] == "not_ended"
        await client.post(f"/v1/runs/{run}/cancel", json={"now": True})
        assert "no transform" in (await ask(422))["detail"]


async def test_a_redrive_asked_for_again_under_its_key_is_the_same_run() -> None:
    """Also when everything has been taken up meanwhile, or another run has rejected something; another key is another run."""
    rejects = MemoryRejects()
    document = transforming(extract("read"), transform("clean", "read"), name="copy")
    async with serving(rejects=rejects) as (client, _platform):
        await client.put("/v1/pipelines/copy", json=document)
        run = (await (await client.post("/v1/pipelines/copy/runs")).json())["id"]
        await client.post(f"/v1/runs/{run}/cancel", json={"now": True})
        order = {"aggregate": "bookmark", "type": "Begin", "id": "copy/clean", "data": BEGIN}
        await client.post("/v1/commands", json=order)

        async def ask(key: str, status: int, **body: Any) -> Any:
            path, headers = "/v1/datasets/copy/clean/redrive", {"Idempotency-Key": key}
            answer = await client.post(path, json=body, headers=headers)
            assert answer.status == status, await answer.text()
            return (await answer.json())["run"]

        rejects.counts = {run: 2}
        begun = await ask("once", 201)
        for counts in ({}, {run: 1, begun: 3}):
            rejects.counts = counts
            assert await ask("once", 201) == begun
        assert await ask("once", 200, dry_run=True) is None
        rejects.counts = {}
        assert await ask("another", 200) is None
        rejects.counts = {run: 1}
        assert await ask("another", 201) != begun
