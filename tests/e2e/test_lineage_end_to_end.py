"""The lineage of a run, as connectors/README.md shows it: over HTTP, by the command line, and to an endpoint."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.desk import Desk
from tests.support.node_process import NodeProcess, eventually

README = (Path(__file__).parents[2] / "connectors" / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## Lineage\n")[2].partition("\n## ")[0]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """An OpenLineage server that is away."""
    with Desk(away=True) as server:
        yield server
        server.shutdown()


def test_what_a_run_moved_is_told_though_the_endpoint_was_away(
    own: NodeProcess, desk: Desk, tmp_path: Path
) -> None:
    """Nobody waits for it; when it is there again it gets one START and one end of the run and of each step."""
    pipeline, shown = re.findall(r"```(?:yaml)?\n(.*?)```", SECTION, re.DOTALL)
    (tmp_path / "people.yaml").write_text(pipeline)
    people = tmp_path / "people.csv"
    people.write_text("id,name\n1,Ada\n2,Grace\n")
    (tmp_path / "flexcore.toml").write_text("")
    crm = own.settings["FLEXCORE_POSTGRES_URL"]
    with psycopg.connect(crm, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA crm")
    own.settings = {
        **own.settings,
        "FLEXCORE_LINEAGE_URL": desk.url,
        "FLEXCORE_LINEAGE_TOKEN": "open-sesame",
        "FLEXCORE_PROJECT": str(tmp_path),
        "CRM_URL": crm,
    }
    own.start()
    try:
        own.cli("pipeline", "apply", "-f", str(tmp_path / "people.yaml"))
        run = own.ended(own.run("people"))
        assert (run["status"], desk.got) == ("succeeded", [])
        desk.serve()
        eventually(lambda: len(desk.got) >= 6, 30, own.log)
        told = [event for _, event in desk.got]
        assert [(one["job"]["name"], one["eventType"]) for one in told] == [
            ("people", "START"), ("people.read", "START"), ("people.read", "COMPLETE"),
            ("people.store", "START"), ("people.store", "COMPLETE"), ("people", "COMPLETE"),
        ]  # fmt: skip
        assert len({key for key, _ in desk.got}) == 6
        assert own.ok("GET", f"/v1/runs/{run['id']}/lineage")["events"] == told
        (table,) = told[4]["outputs"]
        assert [*table["facets"]["columnLineage"]["fields"]] == ["id", "name"]

        place = urlsplit(crm)
        readme = shown.replace("127.0.0.1:9092/", f"{own.settings['FLEXCORE_KAFKA_BOOTSTRAP']}/{own.settings['FLEXCORE_TOPIC_PREFIX']}.")  # fmt: skip
        readme = readme.replace("127.0.0.1:5432/crm.", f"{place.hostname}:{place.port}{place.path}.")
        printed = own.cli("run", "lineage", run["id"], "-o", "wide").splitlines()
        assert [line.split() for line in printed] == [line.split() for line in readme.splitlines()[1:]]
    finally:
        own.stop()
