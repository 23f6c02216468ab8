"""Somebody is told when a pipeline fails, goes quiet or is not as usual, and when that is over."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.documents import read_yaml
from tests.support.desk import Desk, running
from tests.support.mailbox import Mailbox, taking
from tests.support.node_process import NodeProcess, eventually
from tests.support.readme import blocks, commands, pipeline, section


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A running one; it is away for the first notice."""
    with running(503) as server:
        yield server


@pytest.fixture
def slack() -> Iterator[Desk]:
    """What takes messages as Slack does."""
    with running() as server:
        yield server


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server that does not take the first mail at once."""
    with taking(failures=1) as server:
        yield server


def test_a_failure_and_silence_are_told_by_web_hook_slack_and_mail_and_so_is_their_end(
    own: NodeProcess, desk: Desk, slack: Desk, mailbox: Mailbox, tmp_path: Path
) -> None:
    """Set up as the README shows it. Who is away at first is told all the same, and nobody twice; a success resolves all."""
    text = section("app", "Where notices go")
    (channels,), (file,) = blocks(text, "sh"), blocks(text, "yaml")
    places = {
        "https://desk.example.com/hook": desk.url,
        "https://hooks.slack.com/services/T0/B0/x": slack.url,
        "user:password@mail.example.com:587": mailbox.address,
    }
    for shown, here in places.items():
        channels = channels.replace(shown, here)
    own.settings = {**own.settings, **dict(word.split("=", 1) for word in shlex.split(channels))}
    switch = tmp_path / "works"
    script = f"test -e {switch} || {{ echo no disk >&2; exit 3; }}"
    assert "for: 26h" in file
    alerts = read_yaml(file.replace("for: 26h", "for: 2s"))["alerts"]
    incidents: dict[str, dict[str, Any]] = {}

    def told() -> bool:
        rows = own.ok("GET", "/v1/alerts/copy")["incidents"]
        incidents.update({one["id"]: one for one in rows})
        return len(incidents) == 4 and all(one["notified"] for one in incidents.values())

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
        assert sorted(one["notified"][0]["attempts"] for one in incidents.values()) == [1, 1, 2, 2]
        assert [[*message] for _, message in slack.got] == [["text"]]
        assert failed["id"] in slack.got[0][1]["text"]
        (mail,) = mailbox.got
        assert (mail["To"], mail["Subject"]) == ("oncall@example.com", "copy: failed")
        assert failed["id"] in str(mail.get_payload())

        shown = own.cli("alert", "acknowledge", "copy", notice["incident"], "--note", "on it")
        assert "acknowledged" in shown
        switch.touch()
        assert own.ended(own.run("copy"))["status"] == "succeeded"
        eventually(
            lambda: len(desk.about("failed", "resolved") + desk.about("quiet", "resolved")) == 2, 30, own.log
        )
        eventually(lambda: (len(slack.got), len(mailbox.got)) == (2, 2), 60, own.log)
        assert "copy: failed, resolved" in slack.got[1][1]["text"]

        def statuses() -> set[str]:
            """Of those: two seconds after the success it is quiet again."""
            now = {one["id"]: one["status"] for one in own.ok("GET", "/v1/alerts/copy")["incidents"]}
            return {now[incident] for incident in incidents}

        # The view may be behind the notices.
        eventually(lambda: statuses() == {"resolved"}, 30, own.log)
    finally:
        own.stop()


def test_a_run_is_told_of_that_is_late_moves_too_little_and_rejects_too_much(
    node: NodeProcess, tmp_path: Path
) -> None:
    """The README's pipeline, with less patience; late while its source is; resolved by hand, or by the next usual run."""
    text = pipeline("streams/domain", "nightly-orders")
    file = tmp_path / "nightly-orders.yaml"
    file.write_text(text.replace("above:", "abve:"))
    assert (
        "line 15, column 24: spec.alerts[4].abve: 'abve' is not known here (did you mean above?)"
        in node.cli("pipeline", "validate", "-f", str(file), code=4)
    )
    file.write_text(text.replace("after: 10m", "after: 1s"))
    node.cli("pipeline", "apply", "-f", str(file))

    def shown() -> dict[str, Any]:
        return dict(node.ok("GET", "/v1/alerts/nightly-orders"))

    def unresolved() -> dict[str, dict[str, Any]]:
        return {one["on"]: one for one in shown()["incidents"] if one["status"] != "resolved"}

    def start(rows: int, bad: int) -> str:
        return node.run("nightly-orders", input={"rows": rows, "bad": bad})

    def finish(*runs: str) -> None:
        for run in runs:
            node.ok("POST", f"/v1/runs/{run}/signals/source-ready", {})
        assert {node.ended(run)["status"] for run in runs} == {"succeeded"}

    finish(*(start(100, 0) for _ in range(5)))
    eventually(lambda: shown()["usual"]["records"] == 100, 30, lambda: str(shown()))
    late = start(40, 11)
    eventually(lambda: set(unresolved()) == {"late"}, 30, lambda: f"{shown()}\n{node.log()}")
    assert unresolved()["late"]["detail"].startswith(f"run {late} has been running for ")
    finish(late)
    eventually(lambda: set(unresolved()) == {"records", "quarantine"}, 30, lambda: str(shown()))
    lines = commands(section("streams/domain", "What somebody is told"))
    told = node.cli(*lines[0])
    assert f"run {late} moved 40 records; 100 are usual" in told
    assert f"run {late} rejected 11 records into quarantine, more than 10" in told
    for line, on in zip(lines[1:], ("records", "quarantine"), strict=True):
        incident = unresolved()[on]["id"]
        node.cli(*(incident if word == "INCIDENT" else word for word in line))
    assert {on: one["status"] for on, one in unresolved().items()} == {"records": "acknowledged"}
    finish(start(90, 0))
    eventually(lambda: not unresolved(), 30, lambda: str(shown()))
