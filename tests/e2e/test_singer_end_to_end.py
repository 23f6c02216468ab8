"""A Singer target from the package registry as the end of a pipeline."""

import json
import re
from pathlib import Path

from tests.support.node_process import NodeProcess

README = Path(__file__).parents[2] / "connectors" / "README.md"


def test_a_singer_target_gets_every_record_once_then_only_what_is_new_and_all_after_a_reset_of_the_bookmark(
    node: NodeProcess, tmp_path: Path
) -> None:
    """The second run brings two records more, and gives the target those two; the third begins a generation."""
    export, out = tmp_path / "customers.jsonl", tmp_path / "out"
    out.mkdir()
    export.write_text("".join(json.dumps({"id": n}) + "\n" for n in range(50)))
    files = {"path": str(export), "stream": "customers", "primary_key": ["id"]}
    node.apply(
        "to-target",
        [
            {"name": "read", "extract": {"source": "file", "changed_only": True, "config": files}},
            {
                "name": "keep",
                "after": ["read"],
                "load": {"target": "target-jsonl==0.1.4", "config": {"destination_path": str(out)}},
            },
        ],
    )

    def given() -> list[int]:
        lines = [line for file in sorted(out.glob("*.jsonl")) for line in file.read_text().splitlines()]
        return sorted(json.loads(line)["id"] for line in lines)

    first = node.ended(node.run("to-target"), 90)
    assert first["status"] == "succeeded", first
    assert given() == list(range(50))
    with export.open("a") as file:
        file.write('{"id": 50}\n{"id": 51}\n')
    second = node.ended(node.run("to-target"), 60)
    assert second["steps"][1]["records_out"] == 2
    assert given() == list(range(52))

    (line,) = re.findall(
        r"^flexcore (bookmark reset .*?) +#", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    reset = json.loads(node.cli(*line.split(), "-o", "json"))
    assert reset["bookmark"] is None
    third = node.ended(node.run("to-target"), 60)
    assert [step["records_out"] for step in third["steps"]] == [52, 52]
    assert given() == sorted([*range(52), *range(52)])
    generations = [run["steps"][0]["output"]["generation"] for run in (first, second, third)]
    assert generations[0] == generations[1] != generations[2]
