"""Steps that ask for a runner near their data, as connectors/README.md shows it: two runners, one of them dies."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node_process import NodeProcess, eventually, steps_of
from tests.support.readme import commands, pipeline, readme

LABEL = "warehouse-eu"


def example(folder: Path, name: str) -> Path:
    """Write the README's pipeline of this name into the folder, and return the file."""
    file = folder / "pipeline.yaml"
    file.write_text(pipeline("connectors", name))
    return file


@pytest.fixture
def europe(node: NodeProcess, tmp_path: Path) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Two runners of the node's cluster with the README's label and one more, and no other; not started."""

    def runner(name: str) -> NodeProcess:
        told = {
            "FLEXCORE_NODE": name,
            "FLEXCORE_ROLES": "runner",
            "FLEXCORE_RUNNER_LABELS": f"{LABEL},gpu",
            "FLEXCORE_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS": "1000",
            "RUNNER_SITE": name,
            "COVERAGE_PROCESS_CONFIG": "",
        }
        (tmp_path / name).mkdir()
        return NodeProcess(tmp_path / name, {**node.settings, **told})

    pair = (runner("eu-1"), runner("eu-2"))
    yield pair
    for one in pair:
        if one.process is not None and one.process.poll() is None:
            one.stop()


def test_a_step_is_done_by_a_runner_with_its_labels_and_by_another_when_that_one_is_lost_whose_late_result_is_stale(
    node: NodeProcess, europe: tuple[NodeProcess, NodeProcess], tmp_path: Path
) -> None:
    """While nobody has the label it says so, and holds nobody up; the log proves who did it; who was frozen is told so."""
    node.cli("pipeline", "apply", "-f", str(example(tmp_path, "near-the-data")))
    waiting = [node.run("near-the-data") for _ in range(3)]
    nobody = f"a runner labelled {LABEL}: none is alive"
    node.until(waiting[-1], lambda run: run["steps"][0]["waits_for"] == nobody)
    assert nobody in node.cli("run", "get", waiting[-1])
    node.apply("anywhere", [{"name": "work", "command": {"argv": ["true"]}}])
    assert node.ended(node.run("anywhere"))["status"] == "succeeded"

    first, second = europe
    first.start()
    for run_id in waiting:
        run = node.ended(run_id)
        assert run["status"] == "succeeded"
        assert [step["runner"] for step in run["steps"]] == ["eu-1", "one"]
        assert run["steps"][0]["output"]["tail"] == "unloaded by eu-1"
    assert LABEL in node.cli("cluster", "members")

    flag, go = tmp_path / "flag", tmp_path / "go"
    script = f"test -e {flag} || {{ touch {flag}; until test -e {go}; do sleep 0.1; done; }}"
    step = {"name": "load", "runs_on": [LABEL, "gpu"], "command": {"argv": ["sh", "-c", script]}}
    node.apply("frozen", [step])
    frozen = node.run("frozen")
    eventually(flag.exists, 20, first.log)
    second.start()
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    go.touch()
    run = node.ended(frozen)
    first.process.send_signal(signal.SIGCONT)
    assert (steps_of(run), run["steps"][0]["runner"], run["steps"][0]["attempt"]) == (
        {"load": "succeeded"},
        "eu-2",
        2,
    )
    offers = node.ok("GET", f"/v1/runs/{frozen}/events")["items"]
    queues = {offer["body"]["queue"] for offer in offers if offer["type"].endswith("StepOffered")}
    assert queues == {"gpu.warehouse-eu"}
    stale = "attempt 1 is stale, its result is not taken: "
    (line,) = re.findall(r"`flexcore (run logs \S+ --grep stale)`", readme("connectors"))
    shown = line.replace("5e0f…", frozen).split()
    eventually(lambda: stale in node.cli(*shown), 20, first.log)
    judged = json.loads(node.cli("event", "verify", "--runs", "-o", "json"))
    assert (judged["whole"], judged["findings"]) == (True, [])


def test_a_step_that_no_runner_takes_fails_in_time(node: NodeProcess, tmp_path: Path) -> None:
    """As the README shows it: nobody has the label; not early, and the log proves it."""
    node.cli("pipeline", "apply", "-f", str(example(tmp_path, "near-the-data-or-not-at-all")))
    run = node.ended(node.run("near-the-data-or-not-at-all"))
    step = run["steps"][0]
    assert (run["status"], step["status"], step["attempt"]) == ("failed", "timed_out", 1)
    assert step["error"] == "no runner took it within 2s"
    assert 2_000 <= step["ended_at"] - run["created_at"] < 20_000
    judged = json.loads(node.cli("event", "verify", "--runs", "-o", "json"))
    assert (judged["whole"], judged["findings"]) == (True, [])


def test_urgent_steps_are_taken_first_and_the_others_have_their_turn(
    node: NodeProcess, tmp_path: Path
) -> None:
    """As the README shows it: the file says low, the start says otherwise; one runner comes when all wait already."""
    node.cli("pipeline", "apply", "-f", str(example(tmp_path, "fill-history")))
    runs = {node.run("fill-history"): "low" for _ in range(3)}
    runs |= {node.run("fill-history", priority="normal"): "normal" for _ in range(4)}
    runs |= {node.run("fill-history", priority="high"): "high" for _ in range(18)}
    (start,) = [
        words for words in commands(readme("connectors")) if words[:3] == ["run", "start", "fill-history"]
    ]
    run = json.loads(node.cli(*start, "-o", "json"))
    assert run["priority"] == "high"
    runs[run["id"]] = "high"
    assert "priority" in node.cli("run", "start", "fill-history", "--priority", "urgent", code=2)
    wrong = node.call("POST", "/v1/pipelines/fill-history/runs", {"priority": "urgent"})
    assert (wrong.status, wrong.body["code"]) == (422, "invalid")

    told = {
        "FLEXCORE_NODE": "history",
        "FLEXCORE_ROLES": "runner",
        "FLEXCORE_RUNNER_LABELS": "history",
        "FLEXCORE_CONCURRENCY": "1",
        "COVERAGE_PROCESS_CONFIG": "",
    }
    runner = NodeProcess(tmp_path, {**node.settings, **told})
    runner.start()
    begun = {run_id: node.ended(run_id)["steps"][0]["started_at"] for run_id in runs}
    assert runner.stop() == 0
    turns = [runs[run_id] for run_id in sorted(runs, key=lambda run_id: begun[run_id])]
    # What it reads first is whatever comes first; from then on it knows what is there.
    assert turns[2:8].count("high") >= 4, turns
    assert {"normal", "low"} <= set(turns[:24]), turns
    assert turns.index("low", 2) > turns.index("normal", 2), turns
    judged = json.loads(node.cli("event", "verify", "--runs", "-o", "json"))
    assert (judged["whole"], judged["findings"]) == (True, [])
