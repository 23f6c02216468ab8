"""Commands of one aggregate wait in order behind one in quarantine, as app/README.md shows it, on a real node."""

import json
import re
import shlex
import urllib.request
import uuid
from pathlib import Path

from schemas.partitioning import partition_of
from tests.e2e.test_surface_end_to_end import produce, quarantined
from tests.support.node_process import NodeProcess, eventually

README = Path(__file__).parents[2] / "app" / "README.md"
KEY = "default/warehouse"


def acquire(settings: dict[str, str], body: object) -> str:
    """Ask for a place in the limit as any Kafka client may, and return the command's id."""
    command_id = str(uuid.uuid4())
    headers = {"command-id": command_id, "command-type": "AcquireLimit"}
    produce(settings, "limit.commands", KEY, json.dumps(body).encode(), headers)
    return command_id


def parked(node: NodeProcess) -> list[str]:
    """Return what the metrics say of parked aggregates."""
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=10) as answer:
        return re.findall(r"^flexcore_aggregates_parked\{.*limit.*$", answer.read().decode(), re.MULTILINE)


def test_commands_wait_in_order_behind_one_in_quarantine(node: NodeProcess, settings: dict[str, str]) -> None:
    """The second of four is unreadable: the others wait behind it, say so, and follow it once it is mended, or dropped."""
    block = r"```sh\n(flexcore quarantine list.*)\n(flexcore quarantine edit.*)\n```"
    ((listing, mending),) = re.findall(block, README.read_text(encoding="utf-8"))
    bodies: list[object] = [
        {"run_id": "a", "max": 1},
        {"run": "b"},
        *({"run_id": run, "max": 1} for run in "cd"),
    ]
    sent = [acquire(settings, body) for body in bodies]
    quarantined(node, "aggregate=limit/warehouse", 3)
    listed = json.loads(node.cli(*shlex.split(listing)[1:], "-o", "json"))
    third, second, first = listed
    assert [row["behind"] for row in listed] == [first["id"], first["id"], None]
    assert (first["cause"], second["cause"], second["command_id"]) == ("undecodable", "parked", sent[2])
    eventually(lambda: node.ok("GET", f"/v1/commands/{sent[3]}").get("reason") == "parked", 20, node.log)
    assert len(parked(node)) == 1
    assert "waits (parked behind" in node.cli("quarantine", "redrive", second["id"], code=4)

    place = f"limit.commands/{partition_of(KEY.encode(), 8)}/"
    assert place in first["id"]
    node.cli(*shlex.split(re.sub(r"limit\.commands/\S+", first["id"], mending))[1:])
    eventually(lambda: node.ok("GET", f"/v1/quarantine/{third['id']}")["status"] == "redriven", 20, node.log)
    state = node.ok("GET", "/v1/aggregates/limit/warehouse")["state"]
    assert (state["holders"], state["waiting"]) == (["a"], ["b", "c", "d"])
    again = node.ok("GET", f"/v1/quarantine/{third['id']}")["redrive_command_id"]
    eventually(lambda: node.ok("GET", f"/v1/commands/{again}")["status"] == "accepted", 20, node.log)
    assert parked(node) == []

    for body in ({"run": "e"}, {"run_id": "f", "max": 1}):
        acquire(settings, body)
    mine = ("--aggregate", "limit/warehouse")
    quarantined(node, "aggregate=limit/warehouse&status=open", 2)
    would_go = json.loads(node.cli("quarantine", "redrive", *mine, "--dry-run", "-o", "json"))
    assert [row["parked"] for row in would_go] == ["first"]
    node.cli("quarantine", "drop", would_go[0]["id"], "--reason", "a test")
    eventually(
        lambda: node.ok("GET", "/v1/aggregates/limit/warehouse")["state"]["waiting"] == ["b", "c", "d", "f"],
        20,
        node.log,
    )
    node.cli("event", "verify")
