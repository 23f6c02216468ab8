"""The builtin sinks pass the conformance suite, and keep their own promises, on real targets."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from connectors.builtin.http_sink import HttpSink
from connectors.builtin.postgres_sink import PostgresSink
from connectors.sdk import conformance
from connectors.sdk.conformance import batch, load
from connectors.sdk.errors import InvalidSpec, Refused, Unavailable
from connectors.sdk.record import Batch, StreamSchema
from tests.support.services import PostgresService


def _rows(url: str, table: str = "target") -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()


@pytest.fixture
def database(postgres: PostgresService) -> str:
    """An empty database."""
    return postgres.new_database()


@pytest.mark.parametrize("check", conformance.POSITION_KEEPING, ids=lambda check: check.__name__)
@pytest.mark.parametrize("mode", ["append", "upsert", "overwrite"])
def test_postgres_conforms(database: str, mode: str, check: Callable[..., None]) -> None:
    """The PostgreSQL sink does what every sink that keeps its position must do, in each mode."""
    check(lambda: PostgresSink({"url": database, "table": "target", "mode": mode}), lambda: _rows(database))


def test_the_newest_record_of_a_key_wins(database: str) -> None:
    """Within one batch and across batches upsert leaves the last record of each key."""
    sink = PostgresSink({"url": database, "table": "target"})
    sink.open(load({0: 10}))
    sink.write(batch(0, 0, {"id": 1, "name": "a"}, {"id": 1, "name": "b"}, {"id": 2, "name": "c"}))
    sink.write(batch(0, 4, {"id": 2, "name": "d"}))
    sink.close()
    assert [(row["id"], row["name"]) for row in _rows(database)] == [(1, "b"), (2, "d")]


def test_new_fields_become_columns_and_old_columns_keep_their_types(database: str) -> None:
    """A table that is there is used as it is, widened by what the stream has more."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "CREATE TABLE target (id int PRIMARY KEY, name varchar(9), other text DEFAULT 'kept')"
        )
    sink = PostgresSink({"url": database, "table": "public.target"})
    sink.open(load({0: 2}))
    sink.write(batch(0, 0, {"id": 1, "name": "a", "tags": [1]}))
    sink.close()
    assert _rows(database) == [{"id": 1, "name": "a", "other": "kept", "tags": [1]}]


def test_overwrite_shows_old_rows_until_the_new_ones_are_complete(database: str) -> None:
    """Readers, grants and views of the table live through the exchange, and no shadow is left."""
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE target (id bigint PRIMARY KEY, name text, tags jsonb)")
        connection.execute("INSERT INTO target VALUES (99, 'old')")
        connection.execute("CREATE VIEW seen AS SELECT id, name FROM target")
    broken = PostgresSink({"url": database, "table": "target", "mode": "overwrite"})
    broken.open(load({0: 2}))
    broken.write(batch(0, 0, {"id": 1, "name": "a"}))
    broken.close()
    assert [row["id"] for row in _rows(database)] == [99]
    sink = PostgresSink({"url": database, "table": "target", "mode": "overwrite"})
    sink.open(load({0: 2}, attempt=2))
    sink.write(batch(0, 0, {"id": 1, "name": "a"}))
    sink.finish()
    sink.close()
    assert _rows(database, "seen") == [{"id": 1, "name": "a"}]
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'target%'"
        )
        assert tables.fetchall() == [("target",)]


def test_several_streams_need_several_tables(database: str) -> None:
    """One table for two streams is refused with the fix; {stream} names one table each."""
    streams = {
        name: StreamSchema(name, {"properties": {"id": {"type": "integer"}}}, ("id",)) for name in "ab"
    }
    about = replace(load({0: 4}), streams=streams)
    with pytest.raises(InvalidSpec, match=r"write table: t_\{stream\}"):
        PostgresSink({"url": database, "table": "t"}).open(about)
    sink = PostgresSink({"url": database, "table": "t_{stream}"})
    sink.open(about)
    records = [
        record._replace(stream=name)
        for name, record in zip("ab", batch(0, 0, {"id": 1}, {"id": 2}).records, strict=True)
    ]
    sink.write(Batch(0, 0, 3, records))
    sink.close()
    assert (_rows(database, "t_a"), _rows(database, "t_b")) == ([{"id": 1}], [{"id": 2}])


def test_what_postgres_refuses_is_told(database: str) -> None:
    """A value that does not fit is for good; no key, no database and a broken URL are one sentence each."""
    sink = PostgresSink({"url": database, "table": "target"})
    sink.open(load({0: 2}))
    with pytest.raises(Refused, match="cannot take the records 0 to 1 of partition 0: invalid input syntax"):
        sink.write(batch(0, 0, {"id": "seven", "name": "a"}))
    assert sink.write(batch(0, 0, {"id": 7, "name": "a"})) == 1
    sink.close()
    keyless = replace(load({0: 2}), streams={"s": StreamSchema("s", {"properties": {"id": {}}})})
    with pytest.raises(InvalidSpec, match="no primary key"):
        PostgresSink({"url": database, "table": "target"}).open(keyless)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE plain (id bigint, name text)")
    plain = PostgresSink({"url": database, "table": "plain"})
    plain.open(replace(load({0: 2}), step="plain"))
    with pytest.raises(Refused, match="no primary key or unique index"):
        plain.write(batch(0, 0, {"id": 7, "name": "a"}))
    plain.close()
    with pytest.raises(Unavailable, match=r"PostgreSQL at 127\.0\.0\.1:1/x cannot prepare the tables"):
        PostgresSink({"url": "postgresql://u:p@127.0.0.1:1/x", "table": "t"}).open(load({0: 2}))
    with pytest.raises(InvalidSpec, match="does not know mode 'merge'"):
        PostgresSink({"url": database, "table": "t", "mode": "merge"})


class Service:
    """A web service that answers as it is told, then 200, and remembers what it took."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.taken: list[tuple[dict[str, str], Any]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers = service.answers.pop(0) if service.answers else (200, {})
                if status == 200:
                    service.taken.append((dict(self.headers), body))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "2"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/take?from=flexcore"


@pytest.fixture
def service() -> Iterator[Service]:
    """A running web service."""
    running = Service()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.mark.parametrize("check", conformance.ANY_SINK, ids=lambda check: check.__name__)
def test_http_conforms(service: Service, check: Callable[..., None]) -> None:
    """The HTTP sink does what every sink must do."""
    check(
        lambda: HttpSink({"url": service.url}),
        lambda: [record for _headers, body in service.taken for record in body],
    )


def test_a_batch_that_comes_twice_carries_the_same_key(service: Service) -> None:
    """The key follows from generation, partition and offsets, so the service can tell a repetition."""
    for attempt in (1, 2):
        sink = HttpSink({"url": service.url, "headers": {"Authorization": "Bearer x"}})
        sink.open(load({0: 4}, attempt=attempt))
        sink.write(batch(0, 0, {"id": 1}))
        sink.write(batch(0, 2, {"id": 1}))
        sink.write(batch(0, 4))
        sink.close()
    keys = [headers["Idempotency-Key"] for headers, _body in service.taken]
    assert keys[:2] == keys[2:]
    assert keys[0] != keys[1]
    assert {headers["Authorization"] for headers, _body in service.taken} == {"Bearer x"}


def test_http_tries_again_within_its_budget(service: Service) -> None:
    """5xx and 429 are tried again, Retry-After is honoured, and in the end the sentence says what was answered."""
    sink = HttpSink({"url": service.url, "retry_for_s": 20})
    sink.open(load({0: 2}))
    service.answers = [(503, {}), (429, {"Retry-After": "1"}), (500, {"Connection": "close"})]
    assert sink.write(batch(0, 0, {"id": 1})) == 1
    sink.close()
    short = HttpSink({"url": service.url, "retry_for_s": 1})
    short.open(load({0: 2}))
    service.answers = [(503, {"Retry-After": "60"})]
    with pytest.raises(
        Unavailable, match=r"did not take a batch in 1 tries; at last: 503 Service Unavailable"
    ):
        short.write(batch(0, 0, {"id": 1}))
    service.answers = [(422, {})]
    with pytest.raises(Refused, match=r"/take refuses the records: 422"):
        short.write(batch(0, 0, {"id": 1}))
    short.close()
    nobody = HttpSink({"url": "http://127.0.0.1:1/", "retry_for_s": 0.5})
    nobody.open(load({0: 2}))
    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        nobody.write(batch(0, 0, {"id": 1}))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "needs url"),
        ({"url": "ftp://x"}, "needs url"),
        ({"url": "http://x", "method": "GET"}, "cannot send records by GET"),
        ({"url": "http://x", "timeout_s": "soon"}, "numbers of seconds"),
        ({"url": "http://x", "colour": 1}, "does not know 'colour'"),
    ],
)
def test_wrong_http_settings_are_told(config: dict[str, Any], said: str) -> None:
    """A mistake in the config is one sentence."""
    with pytest.raises(InvalidSpec, match=said):
        HttpSink(config)
