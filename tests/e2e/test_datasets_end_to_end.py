"""Datasets over the command line against a real node, as the READMEs of connectors and of the domain show it."""

import json
from pathlib import Path
from typing import Any

import psycopg

from tests.support.node_process import NodeProcess, eventually
from tests.support.readme import blocks, commands, readme

STRICT = """
def clean(record):
    if not record["mail"]:
        raise ValueError("no mail")
    return record
"""
MENDED = """
def clean(record):
    if record["id"] == "4":
        raise ValueError("not a member")
    return {**record, "mail": record["mail"] or "unknown"}
"""


def example(folder: Path, name: str) -> Path:
    """Write the READMEs' pipeline of this name into the folder, and return the file."""
    text = readme("connectors") + readme("streams/domain")
    (text,) = [block for block in blocks(text, "yaml") if f"name: {name}}}" in block]
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


def test_what_a_run_rejected_is_taken_up_once_into_the_same_generation(
    node: NodeProcess, project: Path
) -> None:
    """The function is mended: what it accepts now is loaded, once; what is overtaken or rejected still stays."""
    function, members = project / "transforms" / "members.py", project / "members.csv"
    database = node.settings["MEMBERS_URL"]
    function.write_text(STRICT)
    members.write_text("id,mail\n1,ada@x\n2,\n3,\n4,\n")

    def stored() -> dict[str, str]:
        with psycopg.connect(database) as connection:
            return dict(connection.execute("SELECT id, mail FROM members ORDER BY id").fetchall())

    def counted(records: int, rejected: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}

        def there() -> bool:
            shown.update(node.ok("GET", "/v1/datasets/members/clean"))
            return (shown["records"], shown["rejected"]) == (records, rejected)

        eventually(there, 20, lambda: str(shown))  # bookmarks and runs are not on the same partitions
        return shown

    dry_run, for_good = [
        line for line in commands(readme("connectors")) if line[:2] == ["dataset", "redrive"]
    ]

    def redrive(line: list[str], *options: str) -> dict[str, Any]:
        return dict(json.loads(node.cli(*line, *options, "-o", "json")))

    def redriven(run: str) -> dict[str, int]:
        ended = node.ended(run)
        assert ended["status"] == "succeeded"
        return dict(ended["steps"][1]["output"]["redriven"])

    node.cli("pipeline", "apply", "-f", str(example(project, "members")))
    first = node.ended(node.run("members"))["id"]
    members.write_text("id,mail\n3,new@x\n5,\n")
    second = node.ended(node.run("members"))["id"]
    assert stored() == {"1": "ada@x", "3": "new@x"}
    before = counted(2, 4)

    function.write_text(MENDED)
    would = redrive(dry_run)
    assert would["runs"] == [{"id": first, "records": 3}, {"id": second, "records": 1}]
    assert would["run"] is None
    # Of the first run: 2 is accepted, 3 has come again since, 4 is no member.
    of_first = redrive(for_good, "--run", first)
    assert redriven(of_first["run"]) == {"taken": 1, "rejected": 1, "overtaken": 1}
    assert stored() == {"1": "ada@x", "2": "unknown", "3": "new@x"}
    assert redriven(redrive(for_good)["run"]) == {"taken": 1, "rejected": 1, "overtaken": 1}
    assert stored() == {"1": "ada@x", "2": "unknown", "3": "new@x", "5": "unknown"}

    assert counted(4, 4)["generation"] == before["generation"]
    shown = node.ok("GET", "/v1/datasets/members/clean/rejects")["items"]
    assert sorted(item["key"] for item in shown) == [f"members/{number}" for number in (2, 3, 4, 5)]
    for laws in ((), ("--runs",)):
        assert json.loads(node.cli("event", "verify", *laws, "-o", "json"))["whole"]


def test_the_partitions_of_a_dataset_are_loaded_side_by_side(node: NodeProcess, project: Path) -> None:
    """Each from its own position: a second run loads what is new, and nothing twice; programs are given the ranges."""
    database = node.settings["ORDERS_URL"]
    orders, file = project / "orders.csv", example(project, "by-partition")
    text = file.read_text()
    file.write_text(text.replace("table: orders", "table: orders, mode: overwrite"))
    assert "'overwrite' is for the whole dataset at once" in node.cli(
        "pipeline", "validate", "-f", str(file), code=4
    )
    file.write_text(text.replace("table: orders", "table: orders, mode: append"))
    node.cli("pipeline", "apply", "-f", str(file))

    loaded = 0
    for rows in (range(40), range(40, 100)):
        orders.write_text("id\n" + "".join(f"{row}\n" for row in rows))
        run = node.ended(node.run("by-partition"))
        assert run["status"] == "succeeded", run
        read, store, check = run["steps"]
        loaded += len(rows)
        assert (store["records_in"], store["records_out"], store["items"]["total"]) == (
            len(rows),
            len(rows),
            4,
        )
        ends = {int(part): end for part, end in read["output"]["ends"].items()}
        ranges = [one["range"] for one in check["output"]["outputs"]]
        assert ranges == [
            f"{part}: {read['output']['starts'][str(part)]} to {ends[part]}" for part in sorted(ends)
        ]
        with psycopg.connect(database) as connection:
            found = connection.execute("SELECT count(*), count(DISTINCT id) FROM orders").fetchone()
            assert found == (loaded, loaded)
            kept = connection.execute("SELECT step, partition, next_offset FROM flexcore_positions WHERE pipeline = 'by-partition'")  # fmt: skip
            assert sorted(kept.fetchall()) == [("store", part, ends[part]) for part in sorted(ends)]
        report = node.ok("GET", f"/v1/runs/{run['id']}/report")
        assert (report["read"], report["written"]) == (len(rows), len(rows))
