"""The Python example of streams/domain/README.md on a real node, by the command line, beside the YAML it stands for."""

import json
import re
from pathlib import Path

from tests.support.node_process import NodeProcess

README = Path(__file__).parents[2] / "streams" / "domain" / "README.md"


def test_pipelines_written_in_python_are_those_that_yaml_would_be_and_run(
    node: NodeProcess, project: Path
) -> None:
    """One file makes two; YAML changes nothing about the first, not even its hash; the second one runs."""
    section = README.read_text(encoding="utf-8").partition("\n## The same in Python\n")[2]
    folder = project / "pipelines"
    folder.mkdir(exist_ok=True)
    python, text = folder / "sales.py", folder / "sales-north.yaml"
    for file, language in ((python, "python"), (text, "yaml")):
        (block,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
        file.write_text(block)
    (project / "south.jsonl").write_text('{"id": 1}\n{"id": 2}\n')

    made = json.loads(node.cli("pipeline", "apply", "-f", str(python), "-o", "json"))
    assert [(row["name"], row["change"]) for row in made] == [
        ("sales-north", "created"),
        ("sales-south", "created"),
    ]
    assert node.cli("pipeline", "diff", "sales-north", "-f", str(text), "-o", "json").strip() == "[]"
    (again,) = json.loads(node.cli("pipeline", "apply", "-f", str(text), "-o", "json"))
    assert (again["definition_hash"], again["number"]) == (made[0]["definition_hash"], 1)

    run = node.ended(node.run("sales-south"))
    assert (run["status"], run["steps"][0]["records_out"]) == ("succeeded", 2), run["error"]
    assert "sales-south succeeded" in node.cli("run", "logs", run["id"], "tell")
    python.write_text(python.read_text().replace('timeout="20m"', 'timeout="30m"'))
    changed = json.loads(node.cli("pipeline", "diff", "sales-south", "-f", str(python), "-o", "json"))
    assert changed == [{"path": "spec.steps[marts].command.timeout", "before": "20m", "after": "30m"}]
