"""A node's life as a supervisor sees it: starting, ending, dying, and what it says when it cannot."""

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.request
import uuid
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from app.documents import read_yaml
from tests.e2e.test_surface_end_to_end import produce
from tests.support.node_process import FLEXCORE, NodeProcess, eventually, steps_of
from tests.support.readme import commands, pipeline, section
from tests.support.topic_settings import set_config

HOUR_MS = 3_600_000
HOURLY = pipeline("streams/domain", "hourly-report")


def refused(node: NodeProcess, **settings: str) -> str:
    """Start a node that must refuse, and return what it says."""
    done = subprocess.run(
        [*FLEXCORE, "node", "run"],
        env={**node.environ, **settings}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.stderr


def spread(node: NodeProcess) -> list[int]:
    """Return how many shards each owner has, as far as this node knows."""
    return sorted(Counter(entry["owner"] for entry in node.ok("GET", "/v1/cluster")["shards"]).values())


def scheduled(node: NodeProcess, ago_ms: int) -> None:
    """Give the README's pipeline its schedule, so long ago, while no node is up: the record's time is the command's."""
    topic = f"{node.settings['FLEXCORE_TOPIC_PREFIX']}.schedule.commands"
    bootstrap, timed_by = node.settings["FLEXCORE_KAFKA_BOOTSTRAP"], "message.timestamp.type"
    set_config(bootstrap, topic, {timed_by: "CreateTime"})
    spec = json.dumps(read_yaml(HOURLY)["spec"]["schedule"])
    headers = {"command-id": str(uuid.uuid4()), "command-type": "SetSchedule"}
    at, value = int(time.time() * 1_000) - ago_ms, json.dumps({"spec": spec}).encode()
    produce({**node.settings}, "schedule.commands", "default/hourly-report", value, headers, at=at)
    set_config(bootstrap, topic, {timed_by: "LogAppendTime"})


def caught_up(node: NodeProcess) -> None:
    """Wait for the slots of the last three hours: they alone fire, one after the other."""

    def told(kind: str) -> list[dict[str, Any]]:
        path = f"/v1/events?aggregate=schedule&id=hourly-report&type={kind}"
        return [event["body"] for event in node.ok("GET", path)["items"]]

    def runs() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = node.ok("GET", "/v1/runs?pipeline=hourly-report")["items"]
        return sorted(items, key=lambda run: run["slot"])[:3]

    eventually(lambda: [run["status"] for run in runs()] == ["succeeded"] * 3, 30, node.log)
    (missed,), (begun,) = told("SlotSkipped"), told("ScheduleSet")
    latest = missed["at"] - missed["at"] % HOUR_MS
    due = [latest - 2 * HOUR_MS, latest - HOUR_MS, latest]
    assert [run["slot"] for run in runs()] == due
    assert all(one["ended_at"] <= other["created_at"] for one, other in pairwise(runs()))
    kept = [event["slot"] for event in told("SlotKept") if event["at"] == missed["at"]]
    assert sorted(kept) == due[1:], "they wait for the first one's run"
    assert (missed["reason"], missed["slot"]) == ("missed", due[0] - HOUR_MS)
    assert missed["count"] == (due[0] - begun["next_slot"]) // HOUR_MS > 0


def test_a_node_ends_in_time_hands_back_what_it_is_at_and_goes_on_after_with_the_slots_it_has_missed(
    own: NodeProcess, tmp_path: Path
) -> None:
    """SIGTERM with a step at work: five seconds; the same node goes on from its checkpoint, and no retry is used up."""
    flag = tmp_path / "flag"
    saves = 'echo \'{"checkpoint": {"page": 4}}\' >> $RUN_PROGRESS'
    script = f'test -n "$RUN_CHECKPOINT" && exit 0; {saves}; touch {flag}; sleep 60'
    own.start()
    own.apply("long", [{"name": "one", "command": {"argv": ["sh", "-c", script]}}])
    own.apply("hourly-report", read_yaml(HOURLY)["spec"]["steps"])
    run_id = own.run("long")
    eventually(flag.exists, 20, own.log)
    first = own.ok("GET", "/health")["node"]
    # Somebody who follows events must not keep the node from ending.
    with urllib.request.urlopen(f"{own.url}/v1/events/stream", timeout=30) as stream:
        assert stream.readline()
        begun = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - begun < 5.5
    assert not (own.folder / "data" / "node.json").exists()
    scheduled(own, 5 * HOUR_MS)
    own.start()
    assert own.ok("GET", "/health")["node"] == first
    run = own.ended(run_id)
    assert (run["status"], run["steps"][0]["attempt"]) == ("succeeded", 2)
    _, trace = commands(section("app", "A node"), {"5e0f…": run_id})
    assert f"StepLost one, {first}, handed back" in own.cli(*trace)
    caught_up(own)
    assert '"findings": []' in own.cli("event", "verify", "--runs", "-o", "json")
    assert own.stop() == 0


def test_a_killed_node_continues_what_it_held(own: NodeProcess) -> None:
    """SIGKILL in the middle of a step: after a restart its lease runs out and the step is done again."""
    own.start()
    own.apply(
        "held",
        [{"name": "one", "command": {"argv": ["sleep", "2"]}, "retry": {"attempts": 3, "initial": "100ms"}}],
    )
    run_id = own.run("held")
    own.until(run_id, lambda run: steps_of(run)["one"] == "running")
    own.kill()
    (own.folder / "data" / "node.json").unlink()
    own.start()
    assert own.ended(run_id, 60)["status"] == "succeeded"
    assert '"whole": true' in own.cli("event", "verify", "-o", "json")
    assert '"findings": []' in own.cli("event", "verify", "--runs", "-o", "json")
    assert own.stop() == 0


def test_a_read_does_not_notice_that_a_shard_moves(own: NodeProcess) -> None:
    """Two nodes; one is told to end under reads and writes. Every read by token is answered, and none is stale."""
    own.settings = {**own.settings, "FLEXCORE_STANDBYS": "1"}
    other = NodeProcess(own.folder / "other", own.settings)
    own.start()
    other.start()
    eventually(lambda: spread(own) == [2, 2], 40, own.log)
    names = [f"p{number}" for number in range(12)]
    for name in names:
        own.apply(name, [{"name": "one", "command": {"argv": ["true"]}}])
    me = own.ok("GET", "/health")["node"]
    theirs = next(n for n in names if own.ok("GET", f"/v1/aggregates/pipeline/{n}")["owner"] != me)
    path = f"/v1/aggregates/pipeline/{theirs}?stale-ok=true"
    eventually(
        lambda: "last_event" not in own.ok("GET", path), 30, own.log
    )  # the standby's memory, not the view
    near = own.call("GET", path)
    assert (near.headers["Flexcore-Stale"], near.body["version"]) == ("true", 1)
    done, wrong, answered = threading.Event(), list[Any](), [0]

    def follow(name: str) -> None:
        paused = False
        while not done.is_set():
            paused = not paused
            verb, wanted = ("pause", "paused") if paused else ("resume", "active")
            write = own.call("POST", f"/v1/pipelines/{name}/{verb}", {}, Prefer="wait=25")
            position = write.headers.get("Flexcore-Position", "")
            path = f"/v1/aggregates/pipeline/{name}?min-position={position}&wait=25"
            read = own.call("GET", path)
            if write.status != 200 or read.status != 200 or read.body["state"]["status"] != wanted:
                wrong.append((name, verb, write.status, write.body, read.status, read.body))
                return
            answered[0] += 1

    threads = [threading.Thread(target=follow, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    eventually(lambda: bool(answered[0] > 20 or wrong), 30, own.log)
    assert other.stop() == 0
    eventually(lambda: spread(own) == [4], 30, own.log)
    after = answered[0]
    eventually(lambda: bool(answered[0] > after + 20 or wrong), 30, own.log)
    done.set()
    for thread in threads:
        thread.join(60)
    assert not wrong, wrong[:2]
    assert own.stop() == 0


def test_one_data_directory_is_one_node(node: NodeProcess) -> None:
    """A second process there is told who holds it."""
    said = refused(node)
    assert "is in use by process" in said
    assert "FLEXCORE_DATA_DIR" in said


def test_the_read_store_away_is_named_and_writes_are_kept(own: NodeProcess) -> None:
    """Dropping the schema under a running node: health says so, and the log fills it again with the same answers."""
    own.start()
    own.apply("kept", [{"name": "one", "command": {"argv": ["true"]}}])
    own.ended(own.run("kept"))
    before = own.ok("GET", "/v1/runs?pipeline=kept"), own.ok("GET", "/v1/pipelines/kept")
    with psycopg.connect(own.settings["FLEXCORE_POSTGRES_URL"], autocommit=True) as connection:
        connection.execute("DROP SCHEMA flexcore CASCADE")
    eventually(lambda: own.call("GET", "/v1/runs?pipeline=kept").status == 200, 60, own.log)
    eventually(lambda: own.call("GET", "/v1/pipelines/kept").status == 200, 60, own.log)
    assert (own.ok("GET", "/v1/runs?pipeline=kept"), own.ok("GET", "/v1/pipelines/kept")) == before
    assert own.stop() == 0


def test_what_is_missing_is_said_in_one_sentence(own: NodeProcess) -> None:
    """Kafka, database, port, roles: each names its setting."""
    assert "FLEXCORE_KAFKA_BOOTSTRAP" in refused(own, FLEXCORE_KAFKA_BOOTSTRAP="")
    assert "FLEXCORE_POSTGRES_URL" in refused(own, FLEXCORE_POSTGRES_URL="")
    assert "FLEXCORE_ROLES" in refused(own, FLEXCORE_ROLES="dancer")
    assert "FLEXCORE_SHARDS" in refused(own, FLEXCORE_SHARDS="many")
    assert "no.such.thing" in refused(own, FLEXCORE_KAFKA_NO_SUCH_THING="1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused(own, FLEXCORE_HTTP_PORT=str(taken.getsockname()[1]))
    assert "FLEXCORE_HTTP_PORT" in said


def test_a_signal_while_starting_ends_it_too(own: NodeProcess) -> None:
    """Waiting for a Kafka that is not there can be interrupted."""
    process = subprocess.Popen(
        [*FLEXCORE, "node", "run"],
        env={**own.environ, "FLEXCORE_KAFKA_BOOTSTRAP": "127.0.0.1:9"}, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    process.wait(10)
    assert time.monotonic() - begun < 5.5
