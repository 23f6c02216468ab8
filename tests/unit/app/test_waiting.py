"""What a run says of steps that wait for a runner."""

from typing import Any

from app.cli.dag import step_lines
from app.views.waiting import with_waiting


def member(*labels: str, status: str = "alive") -> dict[str, Any]:
    """Return what a node says of itself."""
    return {"node": "n", "status": status, "labels": list(labels)}


def run(status: str, *labels: str) -> dict[str, Any]:
    """Return a run of one step."""
    step = {
        "name": "a",
        "status": status,
        "attempt": 1,
        "runs_on": list(labels),
        "waits_for": None,
        "error": None,
    }
    return {"id": "r", "ended_at": None, "steps": [{**step, "started_at": None, "items": None}]}


def said(row: dict[str, Any]) -> str | None:
    """Return what the step waits for."""
    waits_for: str | None = row["steps"][0]["waits_for"]
    return waits_for


def test_a_step_that_no_living_runner_may_take_says_so() -> None:
    """A runner has all labels, or it does not count; one that was not heard of does not, either."""
    nodes = [member("default", "eu"), member("gpu"), member("eu", "gpu", status="silent")]
    shown = with_waiting(run("queued", "eu", "gpu"), nodes)
    assert said(shown) == "a runner labelled eu, gpu: none is alive"
    assert step_lines(shown, 0)[0][4] == "for a runner labelled eu, gpu: none is alive"
    assert said(with_waiting(run("mapping", "ssd"), nodes)) == "a runner labelled ssd: none is alive"
    assert said(with_waiting(run("queued", "default"), [member("gpu")])) == "a runner: none is alive"


def test_a_step_that_waits_for_its_turn_says_what_it_asks_for() -> None:
    """Nothing, if it asks for nothing: it is on offer as any step is."""
    nodes = [member("default", "eu")]
    assert said(with_waiting(run("queued", "eu"), nodes)) == "a runner labelled eu"
    for plain in (run("queued", "default"), run("running", "eu"), run("waiting")):
        assert with_waiting(plain, nodes) is plain


def test_nothing_is_said_of_runs_that_have_ended_or_while_no_node_was_heard_of() -> None:
    """A node that has just begun knows of nobody."""
    row = run("queued", "eu")
    assert with_waiting(row, []) is row
    ended = {**row, "ended_at": 5}
    assert with_waiting(ended, [member()]) is ended


def test_a_map_says_that_nobody_can_take_its_items() -> None:
    """Beside how many are done."""
    row = run("mapping", "eu")
    row["steps"][0] |= {"items": {"total": 3, "ended": 1, "failed": 0}}
    shown = with_waiting(row, [member("default")])
    assert step_lines(shown, 0)[0][4] == "1 of 3 items, waits for a runner labelled eu: none is alive"
