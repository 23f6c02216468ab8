"""The local stack's PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import psutil
import psycopg
import pytest

from deploy.local.postgres import PostgresServer


def test_a_server_serves_databases_with_logical_decoding(own_postgres: PostgresServer) -> None:
    """Change data capture works: a replication slot can be made."""
    url = own_postgres.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        slot = connection.execute(
            "SELECT slot_name FROM pg_create_logical_replication_slot('s', 'pgoutput', true)"
        )
        assert slot.fetchone() == ("s",)
    assert own_postgres.version.startswith("18")


def test_a_killed_server_comes_back_at_its_address_with_its_data(own_postgres: PostgresServer) -> None:
    """Committed rows survive kill -9 of the server."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    url = own_postgres.url
    own_postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    own_postgres.restart()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)


def test_a_stopped_server_leaves_no_process_and_starts_again_on_its_port(tmp_path: Path) -> None:
    """Sessions that are open do not hold the stop up."""
    server = PostgresServer(tmp_path / "pg", tmp_path / "logs")
    server.start()
    held = psycopg.connect(server.url)
    pid = server.process.pid
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    server.stop()
    held.close()
    assert not [member for member in family if psutil.pid_exists(member)]
    again = PostgresServer(tmp_path / "pg", tmp_path / "logs")
    again.start()
    assert again.url == server.url
    again.stop()
