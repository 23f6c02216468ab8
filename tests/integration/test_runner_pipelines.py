"""Pipelines carried out by a real runner under a real worker, on real Kafka and PostgreSQL."""

import json
from pathlib import Path

import psycopg

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
