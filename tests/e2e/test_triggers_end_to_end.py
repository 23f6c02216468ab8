"""Runs that users' events start, on a real node: the example of streams/domain/README.md."""

import json
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from app.documents import read_yaml
from streams.domain.definition import Definition, canonical
from streams.domain.identity import event_key, run_id
from streams.rehearsal.rehearsal import rehearse
from streams.rehearsal.scenario_file import scenarios_of
from tests.e2e.test_control_flow_end_to_end import apply_example
from tests.support.node_process import NodeProcess, eventually
from tests.support.readme import blocks, readme, request
from tests.support.services import KafkaService

STRUCTURED = "application/cloudevents+json"


def order(number: int, data: dict[str, Any]) -> dict[str, Any]:
    """Return an event."""
    return {"specversion": "1.0", "id": f"o-{number}", "source": "/shop", "type": "placed", "data": data}


def rehearsed(file: Path, event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return id and input of the run that an event starts in memory."""
    text = canonical(read_yaml(file.read_text()))
    scenario = {"name": "one", "trigger": {"event": event}}
    (read,), _ = scenarios_of({"scenarios": [scenario]}, Definition.parse(text))
    run = rehearse(text, read).run
    return run["id"], run["input"]


def test_an_event_that_passes_the_filter_starts_a_run(
    node: NodeProcess, kafka: KafkaService, settings: dict[str, str], tmp_path: Path
) -> None:
    """One each, sent twice or by another Kafka client; one for which the filter fails is counted, and holds up nothing."""
    node.ok("POST", "/v1/user-events?name=orders", order(9, {"total": 900}), Content_Type=STRUCTURED)
    apply_example(node, tmp_path, "big-orders")
    (curl,) = (block for block in blocks(readme("streams/domain"), "") if "/v1/user-events" in block)
    method, path, headers, body = request(curl)
    told = {name.replace("-", "_"): text for name, text in headers.items()}
    node.ok(method, path, json.loads(body), **told)
    for number, data in enumerate([{"sum": 1}, {"total": 20}, {"total": 120}, {"total": 120}]):
        for _ in range(2 if number == 2 else 1):
            node.ok("POST", "/v1/user-events?name=orders", order(number, data), Content_Type=STRUCTURED)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    topic = f"{settings['FLEXCORE_TOPIC_PREFIX']}.user-events.orders"
    producer.produce(topic, b"no event")
    producer.produce(
        topic, json.dumps(order(4, {"total": 300})).encode(), headers=[("content-type", STRUCTURED)]
    )
    assert producer.flush(10) == 0
    totals = {7: 120, 2: 120, 3: 120, 4: 300}
    started = "/v1/runs?pipeline=big-orders"
    eventually(lambda: len(node.ok("GET", started)["items"]) >= len(totals), 30, node.log)
    for number, total in totals.items():
        key = event_key("/shop", f"o-{number}")
        run = node.ended(run_id("default", "big-orders", key))
        assert (run["trigger"], run["start_key"], run["status"]) == ("event", key, "succeeded")
        assert run["input"] == {**order(number, {"total": total}), "datacontenttype": "application/json"} or (
            number == 4 and run["input"] == order(number, {"total": total})
        )
        node.printed(run["id"], "greet", f"order o-{number} of {total}")
    assert len(node.ok("GET", started)["items"]) == len(totals)
    assert rehearsed(tmp_path / "pipeline.yaml", order(4, {"total": 300})) == (run["id"], run["input"])
    # They may be on other partitions than what has started runs.
    counts = {f"flexcore_triggers_{what}_total 1.0" for what in ("failed_filters", "unreadable")}
    eventually(lambda: counts <= {*node.call("GET", "/metrics").body.splitlines()}, 20, node.log)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((tmp_path / "pipeline.yaml").read_text().replace("event.data", "evnt.data"))
    assert "did you mean event?" in node.cli("pipeline", "validate", "-f", str(wrong), code=4)
