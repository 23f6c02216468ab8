"""A tap is a program: started early, told its config by a file, and given a place for its bytecode."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.builtin.singer import installation
from connectors.builtin.singer.tap import SingerSource, TapSpec
from connectors.sdk.errors import InvalidSpec
from connectors.sdk.record import SourceRecord, StreamSchema

_TAP = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "starts").open("a") as starts:
    starts.write(json.dumps(["--discover" in sys.argv, "PYTHONDONTWRITEBYTECODE" in os.environ]) + "\\n")
if "--discover" in sys.argv:
    print(json.dumps({{"streams": [{{"stream": "s", "schema": {{}}}}]}}))
else:
    print(json.dumps({{"type": "SCHEMA", "stream": "s", "schema": {{}}, "key_properties": ["id"]}}))
    print(json.dumps({{"type": "RECORD", "stream": "s", "record": {{"id": 1}}}}))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A tap that notes down how it is started."""
    path = tmp_path / "tap-x"
    path.write_text(_TAP.format(python=sys.executable))
    path.chmod(0o755)
    return path


@pytest.fixture
def source(program: Path, tmp_path: Path) -> Iterator[SingerSource]:
    """A source that runs the tap, in an environment that forbids bytecode."""
    made = SingerSource(
        TapSpec("tap-x", program, {"token": "t"}, None, ()), {"PYTHONDONTWRITEBYTECODE": "1"}, tmp_path
    )
    yield made
    made.close()


def starts(program: Path) -> list[list[bool]]:
    """How the tap was started: (to discover, forbidden to write bytecode) of each start."""
    noted = program.parent / "starts"
    return [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []


def test_a_tap_discovers_while_its_caller_prepares(program: Path, source: SingerSource) -> None:
    """Given nobody reads yet, then the tap is asked for its catalog all the same, and only once."""
    deadline = time.monotonic() + 60
    while not starts(program) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [discovers for discovers, _ in starts(program)] == [True]
    assert list(source.read(None)) == [StreamSchema("s", {}, ("id",)), SourceRecord("s", {"id": 1})]
    assert [discovers for discovers, _ in starts(program)] == [True, False]


def test_a_tap_keeps_its_bytecode(program: Path, source: SingerSource) -> None:
    """Given an environment that forbids it, as many containers do, then a tap still does not compile at every start."""
    list(source.read(None))
    assert [forbidden for _, forbidden in starts(program)] == [False, False]


def test_a_tap_that_cannot_start_leaves_no_config_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a program that is gone, when the source is made, then its config, with its secrets, is deleted."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InvalidSpec, match="cannot be started"):
        SingerSource(TapSpec("tap-x", tmp_path / "gone", {"token": "t"}, None, ()), {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_installation_without_its_python_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a Python that was removed from the machine, when the tap is wanted, then it is installed again."""
    built: list[Path] = []

    def build(requirement: str, name: str, folder: Path) -> str:
        built.append(folder)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(sys.executable)
        return name

    monkeypatch.setattr(installation, "_build", build)
    first = installation.install("tap-x==1.0", tmp_path)
    assert installation.install("tap-x==1.0", tmp_path) == first
    assert len(built) == 1
    (first.parent / "python").unlink()
    (first.parent / "python").symlink_to(tmp_path / "gone")
    assert installation.install("tap-x==1.0", tmp_path) == first
    assert len(built) == 2
