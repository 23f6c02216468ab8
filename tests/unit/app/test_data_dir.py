"""A node's directory: one process, one name."""

import json
from pathlib import Path

import pytest

from app.adapters.data_dir import DataDir, NodeTaken


def test_a_name_is_made_once_and_kept(tmp_path: Path) -> None:
    """The transactional id must be the same after a restart."""
    first = DataDir(tmp_path)
    name = first.claim("")
    first.release()
    assert DataDir(tmp_path).claim("") == name


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Two writers under one name would fence each other for ever."""
    first = DataDir(tmp_path)
    first.claim("one")
    with pytest.raises(NodeTaken, match=r"in use by process \d+ \(node one\)"):
        DataDir(tmp_path).claim("one")
    first.release()


def test_another_name_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    """A directory belongs to one node."""
    first = DataDir(tmp_path)
    first.claim("one")
    first.release()
    with pytest.raises(NodeTaken, match="belongs to node 'one'"):
        DataDir(tmp_path).claim("two")


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """One sentence with the setting to change."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeTaken, match="FLEXCORE_DATA_DIR"):
        DataDir(tmp_path / "file" / "below").claim("one")


def test_node_json_is_there_while_the_node_is(tmp_path: Path) -> None:
    """Whoever starts nodes learns their addresses from it."""
    place = DataDir(tmp_path)
    place.claim("one")
    place.publish({"url": "http://127.0.0.1:1"})
    assert json.loads((tmp_path / "node.json").read_text()) == {"url": "http://127.0.0.1:1"}
    place.release()
    assert not (tmp_path / "node.json").exists()
