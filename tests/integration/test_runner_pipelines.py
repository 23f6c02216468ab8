"""Pipelines carried out by a real runner under a real worker, on real Kafka and PostgreSQL."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg

from tests.support.fake_tap import fake_tap
from tests.support.platform import platform
from tests.support.services import KafkaService, PostgresService


def _customers(path: Path, numbers: range, **more: object) -> None:
    with path.open("a") as file:
        for number in numbers:
            row = {
                "id": number,
                "name": f"customer {number}",
                "email": f"c{number}@example.org",
                "score": number / 4,
            }
            file.write(json.dumps({**row, **more}) + "\n")


async def test_customers_go_from_a_file_to_postgres(
    kafka: KafkaService, postgres: PostgresService, topic_prefix: str, tmp_path: Path
) -> None:
    """Extract, transform and load move every record once, and a second run moves only what changed."""
    url = postgres.new_database()
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        source = held.project / "customers.jsonl"
        _customers(source, range(5_000))
        (held.project / "transforms").mkdir()
        (held.project / "transforms" / "clean.py").write_text(
            "def customer(record):\n"
            "    if record['id'] % 1000 == 7:\n"
            "        raise ValueError('unlucky')\n"
            "    return {**record, 'name': record['name'].title()}\n"
        )
        held.environ["CRM_URL"] = url
        await held.runner()
        await held.apply(
            "customers",
            {
                "name": "extract",
                "extract": {"source": "file", "config": {"path": "customers.jsonl", "primary_key": ["id"]}},
            },
            {"name": "clean", "after": ["extract"], "transform": {"python": "transforms.clean:customer"}},
            {
                "name": "load",
                "after": ["clean"],
                "load": {"sink": "postgres", "config": {"url": "${env:CRM_URL}", "table": "customers"}},
            },
        )
        await held.start("customers", "run-1")
        seen = await held.done("run-1")
        assert seen["extract"]["records_out"] == 5_000
        assert (seen["clean"]["records_out"], seen["clean"]["records_rejected"]) == (4_995, 5)
        assert seen["load"]["records_out"] == 4_995
        with psycopg.connect(url) as connection:
            rows = connection.execute(
                "SELECT count(*), count(DISTINCT id), sum(score) FROM customers"
            ).fetchone()
        expected = [number for number in range(5_000) if number % 1000 != 7]
        assert rows == (4_995, 4_995, sum(expected) / 4)


class Directory:
    """A web service that takes customers: 503 for its first requests, then it remembers what it was sent."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.requests: list[tuple[str, list[dict[str, Any]]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.left -= 1
                if outer.left < 0:
                    outer.requests.append((self.headers["Idempotency-Key"], body))
                self.send_response(503 if outer.left >= 0 else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/customers"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


async def test_a_web_service_gets_every_record_in_batches(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """503s are tried again; every record arrives once, in batches with their own keys; a second run sends nothing."""
    directory = Directory(failures=2)
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        _customers(held.project / "customers.jsonl", range(1_200))
        await held.runner()
        source = {"source": "file", "config": {"path": "customers.jsonl", "primary_key": ["id"]}}
        sink = {"sink": "http", "config": {"url": directory.url, "batch_records": 200}}
        await held.apply(
            "customers",
            {"name": "read", "extract": source},
            {"name": "send", "after": ["read"], "load": sink},
        )
        for run in ("run-1", "run-2"):
            await held.start("customers", run)
            await held.done(run)
        ids = sorted(record["id"] for _key, records in directory.requests for record in records)
        assert ids == list(range(1_200))
        assert len({key for key, _records in directory.requests}) == len(directory.requests)
        assert max(len(records) for _key, records in directory.requests) <= 200
    directory.stop()


async def test_a_tap_goes_on_from_its_state_and_only_changes_move(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """The tap gets its newest STATE back; with changed_only a tap that reads everything moves only what changed."""
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        tap = fake_tap(
            held.folder / "data",
            "tap-rows",
            "say('SCHEMA', stream='rows', schema={'properties': {'id': {'type': 'integer'}}}, key_properties=['id'])\n"
            "say('ACTIVATE_VERSION', stream='rows', version=1)\n"
            "first = (state or {'runs': 0})['runs']\n"
            "for number in range(3000):\n"
            "    word = 'new' if first and number < 500 else 'old'\n"
            "    say('RECORD', stream='rows', record={'id': number, 'word': word, '_sdc_run': first})\n"
            "say('STATE', value={'runs': first + 1, 'secret': config['password'] == 'hunter22'})",
        )
        held.environ["PASSWORD"] = "hunter22"
        await held.runner()
        spec = {"tap": tap, "changed_only": True, "config": {"password": "${env:PASSWORD}"}}
        await held.apply("rows", {"name": "read", "extract": spec})
        outputs = []
        for run in ("run-1", "run-2", "run-3"):
            await held.start("rows", run)
            outputs.append((await held.done(run))["read"])
        assert [output["records_out"] for output in outputs] == [3_000, 500, 0]
        assert [output["records_in"] for output in outputs] == [3_000] * 3
        assert outputs[-1]["output"]["bookmark"] == {"runs": 3, "secret": True}
        records = held.records(outputs[0]["output"]["topic"])
        assert len(records) == 3_500
        assert len({record.key for record in records}) == 3_000


async def test_a_full_refresh_begins_a_generation_all_the_way(
    kafka: KafkaService, postgres: PostgresService, topic_prefix: str, tmp_path: Path
) -> None:
    """With full_refresh everything is read, transformed and loaded again; overwrite leaves exactly what is there."""
    url = postgres.new_database()
    async with platform(kafka.bootstrap, topic_prefix, tmp_path) as held:
        source = held.project / "rows.csv"
        source.write_text("id,name\n1,a\n2,b\n3,c\n")
        (held.project / "transforms").mkdir()
        (held.project / "transforms" / "shout.py").write_text(
            "def row(record, config):\n    return {**record, 'name': record['name'] + config['mark']}\n"
        )
        held.environ["DB"] = url
        await held.runner()
        await held.apply(
            "rows",
            {
                "name": "read",
                "extract": {"source": "file", "config": {"path": "rows.csv", "primary_key": ["id"]}},
            },
            {
                "name": "shout",
                "after": ["read"],
                "transform": {"python": "transforms.shout:row", "config": {"mark": "!"}},
            },
            {
                "name": "write",
                "after": ["shout"],
                "load": {
                    "sink": "postgres",
                    "config": {"url": "${env:DB}", "table": "rows", "mode": "overwrite"},
                },
            },
        )

        async def run(name: str, **more: Any) -> list[tuple[Any, ...]]:
            await held.start("rows", name, **more)
            await held.done(name)
            with psycopg.connect(url) as connection:
                return connection.execute("SELECT id, name FROM rows ORDER BY id").fetchall()

        assert await run("run-1") == [("1", "a!"), ("2", "b!"), ("3", "c!")]
        source.write_text("id,name\n1,a\n2,z\n")
        assert await run("run-2") == [("1", "a!"), ("2", "z!"), ("3", "c!")]
        assert await run("run-3", full_refresh=True) == [("1", "a!"), ("2", "z!")]
        assert await run("run-4") == [("1", "a!"), ("2", "z!")]
