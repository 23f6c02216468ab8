"""A Singer target is fed and heard: real programs, small ones."""

import json
import sys
from pathlib import Path

import pytest

from connectors.builtin.singer.target import SingerTarget
from connectors.sdk.errors import BadOutput, ProgramFailed
from connectors.sdk.record import Batch, DatasetRecord, StreamSchema

SCHEMA = StreamSchema("customers", {"type": "object", "properties": {"id": {"type": "integer"}}}, ("id",))
KEEPING = """
import json, sys
config = json.load(open(sys.argv[2]))
with open(config["path"], "w") as kept:
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "STATE":
            print(json.dumps(message["value"]), flush=True)
        else:
            kept.write(line)
"""


def target(tmp_path: Path, script: str) -> SingerTarget:
    """Return a running target made of a Python script."""
    program = tmp_path / "target"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(0o700)
    return SingerTarget("target-test", program, {"path": str(tmp_path / "kept")}, {}, tmp_path)


def batch(*ids: int) -> Batch:
    """Return a batch of customers."""
    records = [DatasetRecord(n, "customers", b"", json.dumps({"id": n}).encode()) for n in ids]
    return Batch(0, ids[0], ids[-1] + 1, records)


def write_on(running: SingerTarget) -> None:
    """Give the target batches until it takes no more."""
    for number in range(1, 100_000):
        running.write(batch(number), {"0": number})


def test_a_target_gets_schema_and_records_and_confirms_states(tmp_path: Path) -> None:
    """In order; what it has confirmed is the position."""
    running = target(tmp_path, KEEPING)
    running.declare(SCHEMA)
    running.write(batch(1, 2), {"0": 3})
    running.write(batch(3), {"0": 4})
    running.finish()
    running.close()
    kept = [json.loads(line) for line in (tmp_path / "kept").read_text().splitlines()]
    assert [message["type"] for message in kept] == ["SCHEMA", "RECORD", "RECORD", "RECORD"]
    assert kept[0]["key_properties"] == ["id"]
    assert [message["record"]["id"] for message in kept[1:]] == [1, 2, 3]
    assert running.safe == {"0": 4}


def test_a_target_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    """Whether it fails at once or in the end."""
    running = target(tmp_path, "import sys; sys.exit('no such table')")
    with pytest.raises(ProgramFailed, match=r"exit code 1: no such table"):
        write_on(running)
    running.close()


def test_a_target_that_prints_anything_else_is_refused(tmp_path: Path) -> None:
    """The line is quoted."""
    running = target(tmp_path, "import sys; sys.stdin.read(); print('done!')")
    running.write(batch(1), {"0": 2})
    with pytest.raises(BadOutput, match="done!"):
        running.finish()
    running.close()


def test_a_target_that_stops_reading_is_refused(tmp_path: Path) -> None:
    """An exit code of 0 does not make unread records safe."""
    running = target(tmp_path, "import sys; sys.exit(0)")
    with pytest.raises(BadOutput, match="before it had read everything"):
        write_on(running)
    running.close()
