"""The user's function: where it may live, what it may return, what happens when it fails."""

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.runners.reader import Upstream
from connectors.runners.transform import Transformation, load_function
from connectors.runners.writer import Counts
from connectors.sdk.errors import InvalidSpec, TooManyRejects
from connectors.sdk.record import DatasetRecord, StreamSchema


class Written:
    """Remembers what a dataset writer is given."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.records: list[tuple[bytes, Any]] = []
        self.rejects: list[tuple[bytes, str, str, Any]] = []
        self.schemas: dict[str, StreamSchema] = {}

    def declare(self, schema: StreamSchema) -> None:
        self.schemas[schema.stream] = schema

    def write(self, stream: str, key: bytes, value: bytes) -> None:
        self.counts.written += 1
        self.records.append((key, orjson.loads(value)))

    def reject(self, stream: str, key: bytes, value: bytes, cause: str, detail: str, source: Any) -> None:
        self.counts.rejected += 1
        self.rejects.append((key, cause, detail, source))


def _stage(function: Any, tolerate: Any = None, bookmark: Any = None) -> tuple[Transformation, Written]:
    written: Any = Written()
    streams = {"s": StreamSchema("s", {"properties": {"id": {"type": "integer"}}}, ("id",))}
    upstream = Upstream("topic", "tid", "g", {0: 0, 1: 5}, {0: 9, 1: 9}, streams)
    return Transformation(function, upstream, written, bookmark, tolerate), written


def _take(stage: Transformation, *rows: dict[str, Any]) -> None:
    for offset, row in enumerate(rows):
        stage.take(DatasetRecord(offset, "s", b"s/%d" % row["id"], orjson.dumps(row)), 1)


def test_one_record_becomes_one_none_or_many() -> None:
    """A dict is a record, None drops it, an iterable of dicts fans out; keys follow from the primary key."""
    results: dict[int, Any] = {1: {"id": 1, "a": "x"}, 2: None, 3: ({"id": number} for number in (30, 31))}
    stage, written = _stage(lambda record: results[record["id"]])
    _take(stage, {"id": 1}, {"id": 2}, {"id": 3})
    assert written.records == [(b"s/1", {"id": 1, "a": "x"}), (b"s/30", {"id": 30}), (b"s/31", {"id": 31})]
    stage.declare()
    assert list(written.schemas["s"].schema["properties"]) == ["id", "a"]


def test_a_failure_rejects_the_record_and_the_others_go_on() -> None:
    """The rejects say what was raised and where the record lay; wrong results are failures too."""

    def function(record: dict[str, Any]) -> Any:
        if record["id"] == 1:
            raise ValueError("no e-mail")
        return {2: "text", 3: {"name": "no key"}, 4: {"id": 4}}[record["id"]]

    stage, written = _stage(function)
    _take(stage, *({"id": number} for number in (1, 2, 3, 4)))
    assert [key for key, _value in written.records] == [b"s/4"]
    assert [(cause, detail) for _key, cause, detail, _source in written.rejects] == [
        ("ValueError", "no e-mail"),
        ("TypeError", "the function returned str; it may return a dict, None, or dicts"),
        ("KeyError", "'id'"),
    ]
    assert written.rejects[0][3] == ("topic", 1, 0)


def test_too_many_rejects_stop_the_step() -> None:
    """Beyond the tolerated share the step fails for good."""
    stage, _written = _stage(lambda record: {"id": 1 // (record["id"] % 2)}, tolerate=0.4)
    _take(stage, *({"id": number} for number in range(10)))
    stage.judge(at_end=False)
    with pytest.raises(TooManyRejects, match="5 of 10 records were rejected"):
        stage.judge(at_end=True)
    with pytest.raises(InvalidSpec, match="between 0 and 1"):
        _stage(lambda record: record, tolerate=3)


def test_the_bookmark_says_where_to_go_on() -> None:
    """Positions and learned schemas come back from the bookmark; a generation's start is the least position."""
    stage, _written = _stage(lambda record: record)
    _take(stage, {"id": 1, "new": True})
    stage.positions[0] = 7
    bookmark = stage.bookmark()
    again, _written = _stage(lambda record: record, bookmark=bookmark)
    assert again.positions == {0: 7, 1: 5}
    assert again.bookmark()["streams"] == bookmark["streams"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one transform, and a file outside of the folder."""
    (tmp_path / "transforms").mkdir()
    (tmp_path / "transforms" / "doubling.py").write_text(
        "def row(record):\n    return {'id': record['id'] * 2}\n"
    )
    (tmp_path / "transforms" / "broken_one.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "outside.py").write_text("def row(record):\n    return record\n")
    (tmp_path / "transforms" / "linked.py").symlink_to(tmp_path / "outside.py")
    return tmp_path


def test_a_function_comes_from_the_transforms_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported from the project, and its module's sha256 is told."""
    monkeypatch.setattr("sys.path", [*sys.path])
    function, digest = load_function(project, "transforms.doubling:row", None)
    assert function({"id": 4}) == {"id": 8}
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("outside:row", "not in the project's transforms folder"),
        ("transforms:row", "not in the project's transforms folder"),
        ("transforms.linked:row", "not in the project's transforms folder"),
        ("transforms.missing:row", "needs the file transforms/missing.py"),
        ("transforms.doubling:column", "has no function 'column'"),
        ("transforms.broken_one:row", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_other_functions_are_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """Nothing outside of the folder is loaded, also not by a link, and mistakes are one sentence."""
    monkeypatch.setattr("sys.path", [*sys.path])
    for module in [known for known in sys.modules if known.startswith("transforms")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(InvalidSpec, match=said):
        load_function(project, name, None)
