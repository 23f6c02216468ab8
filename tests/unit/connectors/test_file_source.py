"""Files as a source: what is read the first time, and what after a change."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.builtin.file_source import FileSource
from connectors.sdk.errors import BadOutput, InvalidSpec
from connectors.sdk.record import SourceRecord, State, StreamSchema


def _read(folder: Path, bookmark: Any, **config: Any) -> tuple[list[Any], Any]:
    items = list(FileSource(config, folder).read(bookmark))
    records = [item.data for item in items if isinstance(item, SourceRecord)]
    assert isinstance(items[0], StreamSchema)
    assert isinstance(items[-1], State)
    return records, items[-1].value


def _write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_csv_file_is_read_by_its_header(tmp_path: Path) -> None:
    """Fields are named by the first line, quoting is understood, everything is text."""
    (tmp_path / "a.csv").write_text('id;name\n1;"Müller; Anna"\n\n2;\n')
    records, _state = _read(tmp_path, None, path="a.csv", delimiter=";")
    assert records == [{"id": "1", "name": "Müller; Anna"}, {"id": "2", "name": ""}]


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    """Byte for byte the same: nothing. One byte more: everything, because nothing says what is new."""
    path = tmp_path / "a.jsonl"
    _write(path, {"id": 1}, {"id": 2})
    records, state = _read(tmp_path, None, path="a.jsonl")
    assert len(records) == 2
    assert _read(tmp_path, state, path="a.jsonl") == ([], state)
    _write(path, {"id": 1}, {"id": 2}, {"id": 3})
    assert len(_read(tmp_path, state, path="a.jsonl")[0]) == 3


def test_a_replication_key_moves_only_what_is_newer(tmp_path: Path) -> None:
    """Rows at the newest value seen are looked at again, but those already read are left out."""
    path = tmp_path / "a.jsonl"
    config = {"path": "a.jsonl", "replication_key": "at"}
    old, seen = {"id": 1, "at": "2026-01-01"}, {"id": 2, "at": "2026-01-02"}
    _write(path, seen, old)
    records, state = _read(tmp_path, None, **config)
    assert records == [seen, old]
    late, newer = {"id": 3, "at": "2026-01-02"}, {"id": 4, "at": "2026-01-03"}
    _write(path, old, seen, late, newer)
    records, state = _read(tmp_path, state, **config)
    assert records == [late, newer]
    _write(path, newer, late, seen, old)
    assert _read(tmp_path, state, **config)[0] == []


def test_the_schema_is_learned_from_json_lines(tmp_path: Path) -> None:
    """After the rows the schema says what they were, and it remembers fields of earlier runs."""
    _write(tmp_path / "a.jsonl", {"id": 1, "x": 1.5}, {"id": 2, "tags": ["a"]})
    items = list(FileSource({"path": "*.jsonl", "stream": "s", "primary_key": "id"}, tmp_path).read(None))
    schema = next(item for item in reversed(items) if isinstance(item, StreamSchema))
    assert schema.key_properties == ("id",)
    assert {name: spec["type"] for name, spec in schema.schema["properties"].items()} == {
        "id": ["integer", "null"],
        "x": ["number", "null"],
        "tags": ["array", "null"],
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"id":1}\n{oops\n', "line 2 of .* is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 of .* is no JSON object"),
        ("a.csv", "a,b\n1\n", "line 2 of .* has 1 fields; its header has 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    """What cannot be read is told with file and line."""
    (tmp_path / name).write_text(content)
    with pytest.raises(BadOutput, match=said):
        _read(tmp_path, None, path=name)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "needs path"),
        ({"path": "a.txt"}, "add format"),
        ({"path": "a.csv", "colour": 1}, "does not know 'colour'"),
        ({"path": "none.csv"}, "finds no file none.csv"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    """A mistake in the config is one sentence."""
    with pytest.raises(InvalidSpec, match=said):
        list(FileSource(config, tmp_path).read(None))
