"""Writes over HTTP against the in-memory twin: given what was posted, when this is posted, then this is answered."""

import asyncio
from typing import Any

import pytest

from app.ports import Limits
from tests.unit.app.api_client import Client, pipeline_file, serving

RUNS = "/v1/pipelines/copy/runs"


async def given_pipeline(client: Client, **spec: Any) -> None:
    answer = await client.put("/v1/pipelines/copy", json=pipeline_file(**spec))
    assert answer.status == 201, await answer.text()


async def test_a_pipeline_is_created_and_answered_with_its_version() -> None:
    """A first PUT answers 201 with the resource, its version as ETag, and a position."""
    async with serving() as (client, _platform):
        answer = await client.put("/v1/pipelines/copy", json=pipeline_file())
        body = await answer.json()
        assert (answer.status, body["name"], body["status"]) == (201, "copy", "active")
        assert answer.headers["ETag"] == '"1"'
        aggregate, shard, sequence = answer.headers["Flexcore-Position"].split(":")
        assert (aggregate, int(shard) in range(8), int(sequence) > 0) == ("pipeline", True, True)


async def test_a_pipeline_in_use_is_not_deleted_unless_by_force() -> None:
    """While a run of it is at work, or another one that is there names it; what uses it is told."""
    caller = pipeline_file("caller")
    caller["spec"]["steps"] = [{"name": each, "pipeline": {"name": each}} for each in ("copy", "caller")]
    follower = pipeline_file("follower", triggers=[{"after": {"pipeline": "copy"}}])
    async with serving() as (client, _platform):
        await given_pipeline(client)
        for other in (caller, follower):
            assert (await client.put(f"/v1/pipelines/{other['metadata']['name']}", json=other)).status == 201
        run = (await (await client.post(RUNS, json={})).json())["id"]
        refused = await client.delete("/v1/pipelines/copy")
        told = await refused.json()
        assert (refused.status, told["code"]) == (409, "in_use")
        users = f"run {run} is queued; pipeline caller names it; pipeline follower names it"
        assert told["detail"] == f"Pipeline copy is in use: {users}."
        for other in (caller, follower):
            assert (await client.delete(f"/v1/pipelines/{other['metadata']['name']}")).status == 200
        assert (await client.post(f"/v1/runs/{run}/cancel", json={})).status == 200
        assert (await client.delete("/v1/pipelines/copy")).status == 200
        assert (await client.put("/v1/pipelines/copy", json=pipeline_file())).status == 200
        await client.post(RUNS, json={})
        assert (await client.delete("/v1/pipelines/copy?force=true")).status == 200


async def test_a_second_version_answers_200() -> None:
    """Applying another definition to an existing pipeline is a change, not a creation."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        answer = await client.put("/v1/pipelines/copy", json=pipeline_file(timeout="1h"))
        assert (answer.status, answer.headers["ETag"]) == (200, '"2"')


async def test_a_pipeline_may_be_sent_as_yaml() -> None:
    """The file as people write it is understood as it is, `on` included."""
    text = """
apiVersion: flexcore/v1
kind: Pipeline
metadata: {name: copy}
spec:
  steps:
    - {name: one, command: {argv: [echo, on]}}
"""
    async with serving() as (client, _platform):
        answer = await client.post("/v1/pipelines", data=text, headers={"Content-Type": "application/yaml"})
        assert answer.status == 201
        steps = (await answer.json())["definition"]["spec"]["steps"]
        assert steps[0]["command"]["argv"] == ["echo", "on"]


async def test_the_same_key_and_body_give_the_same_answer() -> None:
    """An Idempotency-Key makes a repeated request harmless: one run, one answer."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        headers = {"Idempotency-Key": "monday"}
        answers = [await client.post(RUNS, json={"input": {"a": 1}}, headers=headers) for _ in range(3)]
        assert [answer.status for answer in answers] == [201, 201, 201]
        assert len({(await answer.json())["id"] for answer in answers}) == 1


async def test_the_same_key_with_another_body_is_refused() -> None:
    """A key stands for one request; another body under it is 422."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        headers = {"Idempotency-Key": "monday"}
        await client.post(RUNS, json={"input": {"a": 1}}, headers=headers)
        answer = await client.post(RUNS, json={"input": {"a": 2}}, headers=headers)
        assert (answer.status, (await answer.json())["code"]) == (422, "body_mismatch")


async def test_twenty_starts_under_one_key_make_one_run() -> None:
    """The start key makes the run's id."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        answers = await asyncio.gather(*(client.post(RUNS, json={"key": "2026-11-24"}) for _ in range(20)))
        assert {answer.status for answer in answers} == {201}
        assert len({(await answer.json())["id"] for answer in answers}) == 1


async def test_if_match_guards_a_change() -> None:
    """A stale ETag is answered with 412 and the version there is."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        answer = await client.post("/v1/pipelines/copy/pause", headers={"If-Match": '"7"'})
        body = await answer.json()
        assert (answer.status, body["code"]) == (412, "version_conflict")
        assert "1" in body["detail"]
        assert (await client.post("/v1/pipelines/copy/pause", headers={"If-Match": '"1"'})).status == 200


async def test_if_none_match_creates_only() -> None:
    """`If-None-Match: *` on an existing pipeline is 412."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        answer = await client.put(
            "/v1/pipelines/copy", json=pipeline_file(timeout="1h"), headers={"If-None-Match": "*"}
        )
        assert answer.status == 412


async def test_respond_async_answers_202_with_a_place_to_ask() -> None:
    """Who does not want to wait is told where the outcome will be."""
    async with serving() as (client, _platform):
        answer = await client.put(
            "/v1/pipelines/copy", json=pipeline_file(), headers={"Prefer": "respond-async"}
        )
        assert answer.status == 202
        assert answer.headers["Preference-Applied"] == "respond-async"
        assert answer.headers["Location"] == f"/v1/commands/{(await answer.json())['command_id']}"


async def test_a_wait_that_runs_out_answers_202() -> None:
    """Without a worker the command is kept, and the answer says so."""
    async with serving() as (client, platform):
        platform.answering = False
        answer = await client.put("/v1/pipelines/copy", json=pipeline_file(), headers={"Prefer": "wait=0.1"})
        assert (answer.status, (await answer.json())["status"]) == (202, "pending")
        assert len(platform.received) == 1


async def test_too_many_waiting_writes_are_refused_at_once() -> None:
    """Beyond the bound nothing is queued: 429 and when to come back."""
    async with serving(Limits(in_flight_max=0)) as (client, platform):
        answer = await client.put("/v1/pipelines/copy", json=pipeline_file())
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert platform.received == []


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        ([{"name": "a", "after": ["b"], "command": {"argv": ["x"]}},
          {"name": "b", "after": ["a"], "command": {"argv": ["x"]}}], "spec.steps"),
        ([{"name": "a", "teleport": {}}], "spec.steps[0]"),
        ([{"name": "a", "after": ["nobody"], "command": {"argv": ["x"]}}], "spec.steps[0].after[0]"),
        ([], "spec.steps"),
    ],
    ids=["cycle", "unknown kind", "unknown step", "no steps"],
)  # fmt: skip
async def test_a_wrong_pipeline_is_refused_with_every_mistake(steps: list[Any], place: str) -> None:
    """422 with the place of each mistake; nothing is sent to the log."""
    async with serving() as (client, platform):
        answer = await client.put("/v1/pipelines/copy", json=pipeline_file(steps=steps))
        body = await answer.json()
        assert (answer.status, body["code"], answer.content_type) == (
            422,
            "invalid",
            "application/problem+json",
        )
        assert any(error["pointer"].startswith(place) for error in body["errors"]), body
        assert platform.received == []


async def test_the_name_in_the_path_must_be_the_files_own() -> None:
    """A file about another pipeline is not applied under this name."""
    async with serving() as (client, _platform):
        answer = await client.put("/v1/pipelines/other", json=pipeline_file())
        assert (answer.status, (await answer.json())["errors"][0]["pointer"]) == (422, "metadata.name")


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("POST", "/v1/pipelines", {"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, "bad_json"),
        ("POST", "/v1/pipelines", {"data": b"a: [", "headers": {"Content-Type": "text/yaml"}}, 400, "bad_json"),
        ("POST", "/v1/pipelines", {"data": b"x", "headers": {"Content-Type": "text/plain"}}, 415,
         "unsupported_media_type"),
        ("POST", "/v1/pipelines", {}, 400, "bad_json"),
        ("POST", RUNS, {"json": {"full_refresh": "yes"}}, 422, "invalid"),
        ("POST", RUNS, {"json": {"fool_refresh": True}}, 422, "invalid"),
        ("POST", RUNS, {"json": []}, 422, "invalid"),
        ("GET", "/v1/nothing", {}, 404, "no_such_route"),
        ("PATCH", "/v1/pipelines/copy", {}, 405, "method_not_allowed"),
        ("POST", "/v1/pipelines", {"data": b"x" * 3000, "headers": {"Content-Type": "text/yaml"}}, 413, "too_large"),
        ("POST", "/v1/pipelines/absent/pause", {}, 404, "not_found"),
        ("POST", "/v1/pipelines/absent/runs", {}, 404, "not_found"),
        ("POST", "/v1/runs/absent/cancel", {}, 404, "not_found"),
        ("POST", "/v1/runs/absent/rerun", {}, 404, "not_found"),
        ("POST", "/v1/schedules/absent/trigger", {}, 404, "not_found"),
        ("POST", "/v1/quarantine/run.commands/0/7/redrive", {}, 404, "not_found"),
        ("POST", "/v1/quarantine/run.commands/x/7/drop", {"json": {"reason": "old"}}, 404, "not_found"),
        ("POST", "/v1/quarantine/run.commands/0/7/edit", {}, 422, "invalid"),
        ("POST", "/v1/quarantine/redrive", {"json": {"records": ["run.commands"]}}, 422, "invalid"),
        ("POST", "/v1/quarantine/drop", {"json": {"records": []}}, 422, "invalid"),
        ("DELETE", "/v1/pipelines/absent", {}, 404, "not_found"),
        ("POST", "/v1/commands", {"json": {"aggregate": "runn", "type": "CancelRun", "id": "x"}}, 422, "invalid"),
        ("POST", "/v1/commands", {"json": {"aggregate": "run", "type": "StopRun", "id": "x"}}, 422, "invalid"),
        ("POST", "/v1/commands", {"json": {"aggregate": "run", "type": "CancelRun", "id": ""}}, 422, "invalid"),
        ("POST", "/v1/commands",
         {"json": {"aggregate": "run", "type": "CancelRun", "id": "x", "data": {"why": "so"}}}, 422, "invalid"),
        ("POST", "/v1/commands",
         {"json": {"aggregate": "run", "type": "CancelRun", "id": "x", "data": {"reason": 7}}}, 422, "invalid"),
        ("POST", RUNS, {"headers": {"Flexcore-Tenant": "No Name"}}, 400, "bad_request"),
        ("POST", RUNS, {"headers": {"If-Match": "new"}}, 400, "bad_request"),
        ("POST", RUNS, {"headers": {"Host": "evil.example"}}, 403, "forbidden"),
        ("POST", RUNS, {"headers": {"Origin": "https://evil.example"}}, 403, "forbidden"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_a_problem(
    method: str, path: str, sent: dict[str, Any], status: int, code: str
) -> None:
    """Every refusal has the same form, a closed code, and no traceback."""
    async with serving(Limits(body_bytes_max=2048)) as (client, _platform):
        answer = await client.request(method, path, **sent)
        body = await answer.json()
        assert (answer.status, body["code"], answer.content_type) == (
            status,
            code,
            "application/problem+json",
        )
        assert body["instance"] == path
        assert body["detail"]
        assert "Traceback" not in await answer.text()


async def test_the_wrong_field_is_named() -> None:
    """A body that does not fit says which field, as a JSON pointer."""
    async with serving() as (client, _platform):
        answer = await client.post(RUNS, json={"full_refresh": "yes"})
        assert (await answer.json())["errors"][0]["pointer"] == "/full_refresh"


async def test_a_mistake_of_ours_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception becomes 500 with a reference into the log, and nothing of the code."""
    async with serving() as (client, platform):

        async def broken(*_: object) -> None:
            raise RuntimeError("secret of the house")

        monkeypatch.setattr(platform, "ask", broken)
        answer = await client.put("/v1/pipelines/copy", json=pipeline_file())
        text = await answer.text()
        assert (answer.status, (await answer.json())["code"]) == (500, "internal")
        assert "secret" not in text


async def test_a_paused_pipeline_starts_nothing_until_it_is_resumed() -> None:
    """Pause and resume are answered with the pipeline; a start in between is 409."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        paused = await client.post("/v1/pipelines/copy/pause", json={"reason": "holidays"})
        assert (await paused.json())["status"] == "paused"
        refused = await client.post(RUNS)
        assert (refused.status, (await refused.json())["code"]) == (409, "paused")
        assert (await (await client.post("/v1/pipelines/copy/resume")).json())["status"] == "active"
        assert (await client.post(RUNS)).status == 201


async def test_a_run_is_cancelled_and_rerun_from_a_step() -> None:
    """A rerun is a new run that says of which it is one."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        run = (await (await client.post(RUNS)).json())["id"]
        early = await client.post(f"/v1/runs/{run}/rerun", json={})
        assert (early.status, (await early.json())["code"]) == (409, "not_ended")
        cancelled = await client.post(f"/v1/runs/{run}/cancel", json={"reason": "mistake"})
        assert (await cancelled.json())["status"] == "cancelled"
        unknown = await client.post(f"/v1/runs/{run}/rerun", json={"from": "third"})
        assert unknown.status == 422
        again = await client.post(f"/v1/runs/{run}/rerun", json={"from": "first"})
        body = await again.json()
        assert (again.status, body["rerun_of"], body["id"] != run) == (201, run, True)
        assert again.headers["Location"] == f"/v1/runs/{body['id']}"


async def test_a_schedule_is_paused_resumed_and_triggered() -> None:
    """A pipeline with a schedule has one that obeys."""
    async with serving() as (client, _platform):
        await given_pipeline(client, schedule={"every": "1h"})
        assert (await (await client.post("/v1/schedules/copy/pause")).json())["status"] == "paused"
        assert (await (await client.post("/v1/schedules/copy/resume")).json())["status"] == "active"
        assert (await (await client.post("/v1/schedules/copy/trigger")).json())["last_run"]


async def test_a_bookmark_is_set_and_reset_by_an_operator() -> None:
    """What was set is what the next extract gets; reset means from the start."""
    async with serving() as (client, _platform):
        path = "/v1/bookmarks/copy/first"
        assert (await client.put(path, json={"bookmark": {}})).status == 404
        begin = {"run": "r", "attempt": 1, "token": "t", "generation": "g", "topic_id": "i", "ends": {"0": 0}}
        order = {"aggregate": "bookmark", "type": "Begin", "id": "copy/first", "data": begin}
        assert (await client.post("/v1/commands", json=order)).status == 200
        release = {
            "aggregate": "bookmark",
            "type": "ReleaseBookmark",
            "id": "copy/first",
            "data": {"run": "r"},
        }
        assert (await client.post("/v1/commands", json=release)).status == 200
        answer = await client.put(path, json={"bookmark": {"bookmarks": {"a": 1}}})
        assert (await answer.json())["bookmark"] == {"bookmarks": {"a": 1}}
        assert (await (await client.post(f"{path}/reset")).json())["bookmark"] is None


async def test_any_command_is_answered_with_its_outcome() -> None:
    """The generic route answers what happened, not a resource."""
    async with serving() as (client, _platform):
        await given_pipeline(client)
        body = {"aggregate": "pipeline", "type": "PausePipeline", "id": "copy", "data": {"reason": "why not"}}
        answer = await client.post("/v1/commands", json=body)
        outcome = await answer.json()
        assert (answer.status, outcome["status"], outcome["last_version"]) == (200, "accepted", 2)


async def test_events_name_who_asked() -> None:
    """The actor and tenant of the request ride on the command."""
    async with serving() as (client, platform):
        headers = {"Flexcore-Actor": "ada@home", "Flexcore-Tenant": "acme"}
        await client.put("/v1/pipelines/copy", json=pipeline_file(), headers=headers)
        assert [(order.actor, order.tenant) for order in platform.received] == [("ada@home", "acme")]
