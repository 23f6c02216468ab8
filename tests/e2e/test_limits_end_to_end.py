"""Limits keep runs of any pipeline from working at the same time."""

import json
from pathlib import Path

from tests.support.node_process import NodeProcess, eventually


def test_runs_under_one_limit_never_overlap_and_the_limit_is_free_at_the_end(
    node: NodeProcess, tmp_path: Path
) -> None:
    """Three pipelines, one place, which a called run shares: who waits says for what, who is urgent goes before; nothing is left."""
    diary, go = tmp_path / "diary", tmp_path / "go"
    script = f"echo in >> {diary}; until test -e {go}; do sleep 0.1; done; sleep 0.2; echo out >> {diary}"
    for name in ("left", "right"):
        limits = [{"name": "crm-database", "max": 1}]
        node.apply(name, [{"name": "work", "command": {"argv": ["sh", "-c", script]}}], limits=limits)
    called = [{"name": "call", "pipeline": {"name": "left"}}]
    node.apply("family", called, limits=[{"name": "crm-database", "max": 1}])
    runs = [node.run(name) for name in ("left", "family", "left", "right")]
    assert node.ok("GET", f"/v1/runs/{runs[-1]}")["waiting_for"] == "crm-database"
    runs.append(node.run("right", priority="high"))
    assert "crm-database" in node.cli("limit", "list")
    go.touch()
    ended = [node.ended(run) for run in runs]
    assert [run["status"] for run in ended] == ["succeeded"] * 5
    assert diary.read_text().split() == ["in", "out"] * 5
    assert ended[-1]["ended_at"] <= ended[-2]["started_at"], "the urgent one came last, and went before"

    def free() -> bool:
        limit = node.ok("GET", "/v1/limits/crm-database")
        return (limit["holders"], limit["waiting"]) == ([], [])

    eventually(free, 10, node.log)
    # The node has seen runs of other tests too: whatever they did to it, no invariant is broken.
    judged = json.loads(node.cli("event", "verify", "--runs", "-o", "json"))
    assert (judged["whole"], judged["findings"]) == (True, [])
    assert judged["runs"] >= len(runs)
