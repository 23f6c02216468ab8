"""The stack's data directory: one owner, an explained disk, a careful wipe; settings that reach the parent."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from deploy.local import stack, supervisor
from deploy.local.failures import DataDirLocked, LocalStackError
from deploy.local.node import LocalNode


def test_a_data_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    """The second is told who holds it; after the first has gone it is free."""
    with stack._held(tmp_path):
        assert stack.owner(tmp_path) is not None
        with pytest.raises(DataDirLocked) as caught, stack._held(tmp_path):
            pass
        assert "already running" in caught.value.cause
    assert stack.owner(tmp_path) is None
    assert stack.read(tmp_path) is None


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    """ENOSPC becomes a sentence with a fix, whatever was being written."""
    with pytest.raises(LocalStackError) as caught, stack._explained(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.cause == f"The disk of {tmp_path} is full."
    assert "Free some space" in caught.value.fix


def test_too_little_space_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack is not begun where it would fail half way."""
    monkeypatch.setattr(stack, "_FREE_BYTES_MIN", 1 << 60)
    with pytest.raises(LocalStackError) as caught:
        stack._check_disk(tmp_path)
    assert "are free on the disk" in caught.value.cause


def test_wiping_deletes_only_what_a_stack_makes(tmp_path: Path) -> None:
    """A file of somebody else's in the folder stays, and so does the folder."""
    (tmp_path / "kafka").mkdir()
    (tmp_path / "lock").write_text("")
    (tmp_path / "mine.txt").write_text("precious")
    assert stack.wipe(tmp_path) == ["kafka", "lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_logs_of_the_last_start_are_kept(tmp_path: Path) -> None:
    """A new start begins new logs and keeps one older of each."""
    (tmp_path / "node-1.log").write_text("old")
    (tmp_path / stack.PARENT_LOG).write_text("being written")
    stack._keep_one_older(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node-1.log.1", "stack.log"]


def test_settings_reach_a_detached_parent_unchanged(tmp_path: Path) -> None:
    """What the command line asked for is what the parent starts."""
    for project in (None, tmp_path / "p"):
        settings = stack.StackSettings(tmp_path, project, brokers=3, nodes=2, restart=True)
        assert supervisor._settings(supervisor._encoded(settings)) == settings


def test_down_without_a_stack_has_nothing_to_do(tmp_path: Path) -> None:
    """It is no failure."""
    assert supervisor.down(tmp_path, lambda line: None) is False


def test_a_node_knows_its_stack_and_not_the_shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack's addresses win over inherited ones; other settings of the shell reach the node."""
    monkeypatch.setenv("FLEXCORE_KAFKA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("FLEXCORE_LOG_LEVEL", "debug")
    settings = {"FLEXCORE_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    node = LocalNode("node-1", tmp_path / "n", tmp_path, settings, tmp_path)
    assert "FLEXCORE_KAFKA_SECURITY_PROTOCOL" not in node._env
    assert node._env["FLEXCORE_KAFKA_BOOTSTRAP"] == "127.0.0.1:1"
    assert node._env["FLEXCORE_LOG_LEVEL"] == "debug"


def test_a_node_that_says_nothing_waits_for_its_listeners(tmp_path: Path) -> None:
    """No node.json, half a one, or one of an earlier process: not listening yet."""
    node = LocalNode("node-1", tmp_path, tmp_path, {}, tmp_path)
    assert node.missing() == "its listeners"
    node.file.write_text("{")
    assert node.missing() == "its listeners"
    node.file.write_text(json.dumps({"pid": 1, "url": "http://127.0.0.1:1"}))
    assert node.missing() == "its listeners"
