"""A tenant's quota of runs, as app/README.md shows it: on a node of its own, killed on the way, told another number."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.node_process import NodeProcess, eventually

README = (Path(__file__).parents[2] / "app" / "README.md").read_text(encoding="utf-8")
JOB = {
    "apiVersion": "flexcore/v1",
    "kind": "Pipeline",
    "metadata": {"name": "job"},
    "spec": {"steps": [{"name": "go", "signal": {}}]},
}


def test_a_tenants_runs_wait_for_their_turn_and_the_quota_is_free_at_the_end(own: NodeProcess) -> None:
    """Other tenants and called runs are not held up; kill, cancel and rerun lose no place; the newest number counts."""
    ((setting, most, shown),) = re.findall(
        r"```sh\n(FLEXCORE_TENANT\w+)=(\d) flexcore node run\n(flexcore limit get .*)\n```", README
    )
    own.settings = {**own.settings, "FLEXCORE_NODE": "quota", setting: most}
    own.start()
    own.ok("PUT", "/v1/pipelines/job", JOB)
    own.apply("parent", [{"name": "call", "pipeline": {"name": "job"}}])
    runs = [own.run(name) for name in ("parent", "job", "job", "job")]
    for held in runs[2:]:
        own.until(held, lambda run: run["waiting_for"] == "tenant:runs")
    assert "tenant:runs" in own.cli("run", "get", runs[2])
    child = own.until(runs[0], lambda run: run["steps"][0]["child"] is not None)["steps"][0]["child"]
    own.until(child, lambda run: run["steps"][0]["status"] == "waiting")

    own.ok("PUT", "/v1/pipelines/job", JOB, Flexcore_Tenant="other")
    started = own.ok("POST", "/v1/pipelines/job/runs", {}, Flexcore_Tenant="other")

    def at_work() -> bool:
        run = own.ok("GET", f"/v1/runs/{started['id']}", Flexcore_Tenant="other")
        return bool(run["steps"][0]["status"] == "waiting")

    eventually(at_work, 20, own.log)

    def quota() -> tuple[Any, ...]:
        limit = json.loads(own.cli(*shlex.split(shown)[1:], "-o", "json"))
        return limit["max"], limit["holders"], limit["waiting"]

    eventually(lambda: quota() == (2, runs[:2], runs[2:]), 20, lambda: f"{quota()}")
    own.ok("POST", f"/v1/runs/{runs[2]}/cancel", {})
    own.kill()
    (own.folder / "data" / "node.json").unlink()
    own = replace(own, settings={**own.settings, setting: "3"}, document={})
    own.start()
    last = own.run("job")
    own.until(runs[3], lambda run: run["waiting_for"] is None)
    own.until(last, lambda run: run["waiting_for"] == "tenant:runs")
    own.ended(runs[2])
    again = own.ok("POST", f"/v1/runs/{runs[2]}/rerun", {})["id"]
    for run_id in (child, runs[1], runs[3], last, again):
        own.until(run_id, lambda run: run["steps"][0]["status"] == "waiting")
        own.ok("POST", f"/v1/runs/{run_id}/signals/go", {})
    ended = [own.ended(run_id)["status"] for run_id in (runs[0], runs[1], runs[3], last, again)]
    assert ended == ["succeeded"] * 5

    def free() -> bool:
        limit = own.ok("GET", "/v1/limits/tenant:runs")
        return (limit["max"], limit["holders"], limit["waiting"]) == (3, [], [])

    eventually(free, 10, own.log)
    assert "tenant:runs" in own.cli("limit", "list")
    judged = json.loads(own.cli("event", "verify", "--runs", "-o", "json"))
    assert (judged["whole"], judged["findings"]) == (True, [])
    assert own.stop() == 0
