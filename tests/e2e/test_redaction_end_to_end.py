"""Personal data is taken out of a run by the README's own commands; nobody shows it any more, and the log proves itself."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.support.node_process import NodeProcess

README = Path(__file__).parents[2] / "app" / "README.md"
SECRET = "ada@example.org"


def said_by_readme(node: NodeProcess, run: str, sequence: str) -> list[str]:
    """Run the commands of the README, and return what each says."""
    (block,) = re.findall(
        r"```sh\n(flexcore event search.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    lines = block.replace("RUN", run, 2).replace("SEQUENCE", sequence).splitlines()
    return [node.cli(*shlex.split(line)[1:]) for line in lines]


@pytest.mark.timeout(180)
def test_personal_data_leaves_an_event_and_the_log_is_whole(own: NodeProcess) -> None:
    """Before and after a restart, in views, memory, history and stream; what may not go is refused and named."""
    own.start()
    try:
        steps = [{"name": "greet", "command": {"argv": ["true"]}}]
        own.apply("greet", steps)
        run = own.ended(own.run("greet", input={"mail": SECRET}))["id"]
        created = own.ok("GET", f"/v1/events?aggregate=run&type=RunCreated&id={run}")["items"][0]
        sequence = created["position"].rpartition(":")[2]
        refused = own.cli(
            "event",
            "redact",
            "run",
            run,
            "--sequence",
            sequence,
            "--field",
            "definition",
            "--reason",
            "r",
            code=4,
        )
        assert "Field definition cannot be redacted; of RunCreated these may: input, reused" in refused

        found, dry, done, _ = said_by_readme(own, run, sequence)
        assert created["event_id"] in found
        assert ("redacted_by_version" in dry, "redacted_by_version" in done) == (False, True)

        asked = own.ok("GET", "/v1/events?aggregate=pipeline&type=RunRequested")["items"][0]
        body = {
            "aggregate": "pipeline", "id": "greet", "sequence": int(asked["position"].rpartition(":")[2]),
            "fields": ["input"], "reason": "request 4711",
        }  # fmt: skip
        assert own.ok("POST", "/v1/events/redact", body)["fields"] == {"input": "{}"}
        nobody_shows_it(own, run)
        assert own.stop() == 0
        own.start()
        nobody_shows_it(own, run)
        own.ok("POST", "/v1/views/run/rebuild")
        nobody_shows_it(own, run)
        assert own.ended(own.ok("POST", f"/v1/runs/{run}/rerun", {})["id"])["input"] == {}
        proved = json.loads(own.cli("event", "verify", "-o", "json"))
        assert (proved["whole"], len(proved["redacted"])) == (True, 2)
        judged = json.loads(own.cli("event", "verify", "--runs", "-o", "json"))
        assert (judged["whole"], judged["findings"]) == (True, [])
    finally:
        own.stop()


def nobody_shows_it(node: NodeProcess, run: str) -> None:
    """Ask for the run in every way; it is what it was but for its input."""
    shown = node.ok("GET", f"/v1/runs/{run}")
    assert (shown["status"], shown["input"]) == ("succeeded", {})
    events = node.ok("GET", f"/v1/runs/{run}/events")["items"]
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    first, last = events[0], events[-1]
    assert (first["redacted"].partition(": ")[2], last["type"]) == ("request 4711", "EventRedacted")
    ways = (
        f"/v1/aggregates/run/{run}", f"/v1/aggregates/run/{run}?version=1", "/v1/aggregates/pipeline/greet",
        "/v1/events", f"/v1/events/{first['event_id']}", "/v1/runs", "/v1/pipelines/greet",
    )  # fmt: skip
    for way in ways:
        assert SECRET not in json.dumps(node.ok("GET", way)), way
