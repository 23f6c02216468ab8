"""The runner of somebody's own in connectors/README.md does a step on a real node; who holds no lease is refused."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node_process import NodeProcess, eventually
from tests.support.readme import blocks, commands, pipeline, section

TITLE = "A runner of your own"


@pytest.fixture
def runner(node: NodeProcess, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """What is started of it; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(node: NodeProcess, file: Path) -> subprocess.Popen[bytes]:
    """Start the README's program as it stands there, on this node's cluster; what it prints goes beside the file."""
    (program,) = blocks(section("connectors", TITLE), "python")
    here = {
        "http://127.0.0.1:8080": node.url,
        "127.0.0.1:9092": node.settings["FLEXCORE_KAFKA_BOOTSTRAP"],
        "tasks.mainframe": f"{node.settings['FLEXCORE_TOPIC_PREFIX']}.tasks.mainframe",
    }
    for shown, meant in here.items():
        assert shown in program
        program = program.replace(shown, meant)
    file.write_text(program)
    with file.with_suffix(".log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-u", str(file)], stdout=log, stderr=log)


def test_a_runner_of_somebodys_own_does_a_step_and_a_wrong_or_old_token_changes_nothing(
    node: NodeProcess, runner: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Its first attempt fails, its second is at work while others say that it is done; the run goes on untouched."""
    tried, go, said = (tmp_path / name for name in ("tried", "go", "runner.log"))
    work = tmp_path / "read-tapes"
    work.write_text(
        f"#!/bin/sh\ntest -e {tried} || {{ touch {tried}; exit 3; }}\nuntil test -e {go}; do sleep 0.1; done\n"
    )
    work.chmod(0o755)
    file = tmp_path / "read-tapes.yaml"
    file.write_text(pipeline("connectors", "read-tapes").replace("[read-tapes]", f"[{work}]"))
    node.cli("pipeline", "apply", "-f", str(file))
    run_id = node.run("read-tapes")
    runner.append(start(node, tmp_path / "runner.py"))

    def events(kind: str = "") -> list[dict[str, Any]]:
        found = node.ok("GET", f"/v1/runs/{run_id}/events")["items"]
        return [event for event in found if event["type"].endswith(kind)]

    eventually(lambda: len(events("StepClaimed")) == 2, 30, lambda: f"{node.log()}\n{said.read_text()}")
    claims = [event["body"] for event in events("StepClaimed")]
    assert [claim["runner"] for claim in claims] == ["mainframe-1", "mainframe-1"]
    before, old = events(), claims[0]["token"]
    (line,) = commands(section("connectors", TITLE), {"5e0f…": run_id, "0b0a…": old})
    _, refusal = blocks(section("connectors", TITLE), "")
    assert node.cli(*line, code=4) == refusal
    for kind, more in {"Heartbeat": {}, "CompleteStep": {}, "FailStep": {"error": "no"}}.items():
        for token in (old, str(uuid.uuid4())):
            data = {"step": "read", "attempt": 2, "token": token, **more}
            command = {"aggregate": "run", "id": run_id, "type": kind, "data": data}
            reply = node.call("POST", "/v1/commands", command)
            assert (reply.status, reply.body["code"]) == (409, "stale_lease")
            assert "is not held by this token: attempt 2 is running" in reply.body["detail"]
    assert events() == before
    go.touch()
    run = node.ended(run_id)
    (step,) = run["steps"]
    assert (run["status"], step["attempt"], step["output"]) == ("succeeded", 2, {"exit_code": 0})
    assert said.read_text() == "", "it was never refused"
