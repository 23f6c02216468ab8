"""The Python example of streams/domain/README.md on a real node, by the command line, beside the YAML it stands for."""

import json
from pathlib import Path

from tests.support.node_process import NodeProcess
from tests.support.readme import blocks, commands, section


def test_pipelines_written_in_python_are_those_that_yaml_would_be_and_run(
    node: NodeProcess, project: Path
) -> None:
    """One file makes two; YAML changes nothing about the first, not even its hash; the second one runs."""
    told = section("streams/domain", "The same in Python")
    folder = project / "pipelines"
    folder.mkdir(exist_ok=True)
    python, text = folder / "sales.py", folder / "sales-north.yaml"
    for file, language in ((python, "python"), (text, "yaml")):
        (block,) = blocks(told, language)
        file.write_text(block)
    (project / "south.jsonl").write_text('{"id": 1}\n{"id": 2}\n')

    validate, graph, rehearse, apply, diff = commands(told, {"pipelines/sales.py": str(python)})
    assert "sales-south" in node.cli(*validate)
    assert "└ marts (command)  ← read" in node.cli(*graph)
    assert "sales-north\tno scenario\tok\tsucceeded" in node.cli(*rehearse)
    made = json.loads(node.cli(*apply, "-o", "json"))
    assert [(row["name"], row["change"]) for row in made] == [
        ("sales-north", "created"),
        ("sales-south", "created"),
    ]
    for file in (python, text):
        shown = node.cli(*(str(file) if word == str(python) else word for word in diff), "-o", "json")
        assert shown.strip() == "[]"
    (again,) = json.loads(node.cli("pipeline", "apply", "-f", str(text), "-o", "json"))
    assert (again["definition_hash"], again["number"]) == (made[0]["definition_hash"], 1)

    run = node.ended(node.run("sales-south"))
    assert (run["status"], run["steps"][0]["records_out"]) == ("succeeded", 2), run["error"]
    node.printed(run["id"], "tell", "sales-south succeeded")
    python.write_text(python.read_text().replace('timeout="20m"', 'timeout="30m"'))
    changed = json.loads(node.cli("pipeline", "diff", "sales-south", "-f", str(python), "-o", "json"))
    assert changed == [{"path": "spec.steps[marts].command.timeout", "before": "20m", "after": "30m"}]
