"""Registries as their clients see them: in memory, and over HTTP against a server that misbehaves on purpose."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from schemas.catalogue import Catalogue
from schemas.compatibility import Mode
from schemas.errors import Incompatible, InvalidSchema, OrphanSchema, RegistryUnavailable, UnknownSchema
from schemas.parsing import canonical, parse
from schemas.registry import HttpRegistry, MemoryRegistry

V1 = {"type": "record", "name": "a.R", "fields": [{"name": "x", "type": "int"}]}
V2 = {"type": "record", "name": "a.R", "fields": [{"name": "x", "type": "long"}]}


def test_ids_count_from_one_in_the_order_of_registration() -> None:
    """Deterministic, so that golden bytes can hold them; the same schema keeps its id under another subject."""
    registry = MemoryRegistry()
    assert [registry.register("a", V1), registry.register("b", V2), registry.register("b2", V1)] == [1, 2, 1]
    assert registry.register("a", json.loads(json.dumps(V1))) == 1
    assert registry.latest("b2") == (1, parse(V1))
    assert registry.latest("nothing") is None
    with pytest.raises(UnknownSchema, match="3"):
        registry.schema(3)


def test_spelling_does_not_make_another_schema() -> None:
    """Order of keys, namespace beside the name, a type in braces: one schema, one id."""
    registry = MemoryRegistry()
    other = {
        "fields": [{"type": {"type": "int"}, "name": "x"}],
        "namespace": "a",
        "name": "R",
        "type": "record",
    }
    assert registry.register("a", V1) == registry.register("a", other)


def test_a_breaking_version_is_refused_and_leaves_no_trace() -> None:
    """The memory twin checks as the real one does."""
    registry = MemoryRegistry()
    registry.register("a", V2)
    with pytest.raises(Incompatible, match="keep long"):
        registry.register("a", V1)
    assert registry.latest("a") == (1, parse(V2))
    assert registry.register("a", {**V2, "doc": "R"}) == 2
    free = MemoryRegistry(Mode.NONE)
    assert [free.register("a", V2), free.register("a", V1)] == [1, 2]


class Scripted(ThreadingHTTPServer):
    """Answers each path as told; ``seen`` are the requests; ``drop`` closes that many without an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.seen: list[tuple[str, str, str | None]] = []
        self.drop = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        server = self.server
        assert isinstance(server, Scripted)
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        if server.drop:
            server.drop -= 1
            self.close_connection = True
            return
        status, body = server.answers.get(
            self.path, (404, {"error_code": 40401, "message": "Subject not found."})
        )
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = answer  # noqa: N815  # the names http.server looks for

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Scripted]:
    """A registry that answers what the test says."""
    with Scripted() as scripted:
        thread = threading.Thread(target=scripted.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield scripted
        scripted.shutdown()
        thread.join()


def test_subjects_are_quoted_and_credentials_sent(server: Scripted) -> None:
    """A subject may hold a slash; user and password of the URL go out as HTTP Basic and nowhere else."""
    server.answers["/base/subjects/a%2Fb/versions"] = (200, {"id": 7})
    registry = HttpRegistry(server.url.replace("//", "//me:s%20cret@") + "/base/")
    assert registry.register("a/b", V1) == 7
    assert server.seen == [("POST", "/base/subjects/a%2Fb/versions", "Basic bWU6cyBjcmV0")]
    server.answers["/base/schemas/ids/1"] = (500, {"error_code": 50001, "message": "down"})
    with pytest.raises(RegistryUnavailable) as failure:
        registry.schema(1)
    assert "cret" not in str(failure.value)


def test_a_schema_is_read_with_what_it_refers_to(server: Scripted) -> None:
    """References of other people's schemas are followed, each once."""
    part = {"subject": "p", "version": 1, "id": 1, "schema": json.dumps(V1)}
    whole = '{"type":"record","name":"a.W","fields":[{"name":"r","type":"a.R"},{"name":"s","type":"a.R"}]}'
    reference = {"name": "a.R", "subject": "p", "version": 1}
    server.answers["/subjects/p/versions/1"] = (200, part)
    server.answers["/schemas/ids/2"] = (200, {"schema": whole, "references": [reference, reference]})
    registry = HttpRegistry(server.url)
    assert [field["name"] for field in registry.schema(2)["fields"]] == ["r", "s"]
    assert len(server.seen) == 2
    server.answers["/schemas/ids/3"] = (
        200,
        {"schema": whole, "references": [{**reference, "subject": "gone"}]},
    )
    with pytest.raises(UnknownSchema, match="gone version 1"):
        registry.schema(3)
    server.answers["/schemas/ids/4"] = (200, {"schema": whole})
    with pytest.raises(OrphanSchema, match=r"a\.R"):
        registry.schema(4)


def test_answers_become_the_errors_they_mean(server: Scripted) -> None:
    """Not found is an answer, a refusal is final, everything else may pass."""
    registry = HttpRegistry(server.url)
    assert registry.latest("a") is None
    with pytest.raises(UnknownSchema, match="no schema 9"):
        registry.schema(9)
    for status, kind in (
        (409, Incompatible),
        (422, InvalidSchema),
        (401, RegistryUnavailable),
        (503, RegistryUnavailable),
    ):
        server.answers["/subjects/a/versions"] = (status, {"error_code": status, "message": "because"})
        with pytest.raises(kind, match="because"):
            registry.register("a", V1)
    server.answers["/schemas/ids/5"] = (200, {"schema": "syntax = 'proto3'", "schemaType": "PROTOBUF"})
    with pytest.raises(UnknownSchema, match="PROTOBUF"):
        registry.schema(5)


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, ["x"]), (200, {}), (404, b"nginx"), (404, {"error_code": 404})]
)
def test_something_else_at_the_address_is_told(server: Scripted, answer: tuple[int, Any]) -> None:
    """A wrong URL must not look like a missing schema."""
    server.answers["/subjects/a/versions"] = answer
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1"):
        HttpRegistry(server.url).register("a", V1)


def test_a_connection_the_server_has_closed_is_opened_again(server: Scripted) -> None:
    """Keep-alive ends without notice: one retry on a new connection, not more."""
    server.answers["/subjects/a/versions"] = (200, {"id": 1})
    registry = HttpRegistry(server.url)
    assert registry.register("a", V1) == 1
    server.drop = 1
    assert registry.register("a", V1) == 1
    server.drop = 2
    with pytest.raises(RegistryUnavailable):
        registry.register("a", V1)
    registry.close()
    assert registry.register("a", V1) == 1


def test_nobody_at_the_address_is_told_with_the_fix() -> None:
    """The message names the URL and the setting."""
    with pytest.raises(RegistryUnavailable, match=r"http://127\.0\.0\.1:1 .*FLEXCORE_REGISTRY_URL"):
        HttpRegistry("http://127.0.0.1:1", timeout_s=1).register("a", V1)
    for url in ("127.0.0.1:8081", "ftp://host", "http://"):
        with pytest.raises(ValueError, match="not the URL"):
            HttpRegistry(url)


def test_a_registered_schema_comes_back_as_it_was() -> None:
    """Through the text and back, every committed schema is the same."""
    catalogue, registry = Catalogue.load(), MemoryRegistry()
    for name in catalogue.names():
        schema = catalogue.schema(name)
        assert canonical(registry.schema(registry.register(name, schema))) == canonical(schema)
