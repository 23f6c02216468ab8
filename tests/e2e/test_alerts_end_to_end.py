"""Somebody is told when a pipeline fails or goes quiet, and when that is over."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.desk import Desk, running
from tests.support.node_process import NodeProcess, eventually


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A running one; it is away for the first notice."""
    with running(503) as server:
        yield server


def test_a_failure_and_silence_are_told_and_so_is_their_end(
    own: NodeProcess, desk: Desk, tmp_path: Path
) -> None:
    """A desk that is away at first is told all the same; the incident names run and error; a success resolves both."""
    own.settings = {**own.settings, "FLEXCORE_NOTIFY_DESK": desk.url}
    switch = tmp_path / "works"
    script = f"test -e {switch} || {{ echo no disk >&2; exit 3; }}"
    alerts = [{"on": "failed", "notify": "desk"}, {"on": "quiet", "for": "2s", "notify": "desk"}]
    incidents: dict[str, dict[str, Any]] = {}

    def told() -> bool:
        rows = own.ok("GET", "/v1/alerts/copy")["incidents"]
        incidents.update({one["on"]: one for one in rows})
        return len(incidents) == 2 and all(one["notified"] for one in incidents.values())

    own.start()
    try:
        own.apply("copy", [{"name": "check", "command": {"argv": ["sh", "-c", script]}}], alerts=alerts)
        failed = own.ended(own.run("copy"))
        assert failed["status"] == "failed"
        eventually(told, 40, lambda: f"{incidents}\n{own.log()}")
        (notice,) = desk.about("failed", "opened")
        assert (notice["pipeline"], notice["run_id"]) == ("copy", failed["id"])
        assert "check" in notice["text"]
        assert [one["run_id"] for one in desk.about("quiet", "opened")] == [None]
        assert all(one["notified"][0]["error"] is None for one in incidents.values())
        assert sorted(one["notified"][0]["attempts"] for one in incidents.values()) == [1, 2]

        shown = own.cli("alert", "acknowledge", "copy", incidents["failed"]["id"], "--note", "on it")
        assert "acknowledged" in shown
        switch.touch()
        assert own.ended(own.run("copy"))["status"] == "succeeded"
        eventually(
            lambda: bool(desk.about("failed", "resolved") and desk.about("quiet", "resolved")), 30, own.log
        )
        assert own.ok("GET", "/v1/alerts?status=unresolved")["items"] == []
    finally:
        own.stop()
