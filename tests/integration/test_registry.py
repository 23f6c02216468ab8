"""The embedded registry on real Kafka: one truth for several hosts, through restarts, races and dead writers."""

import asyncio
import json
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from aiohttp import web
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from app.registry.server import create_registry_app
from app.registry.store import RegistryStore
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.errors import Incompatible, InvalidSchema, RegistryUnavailable, UnknownSchema
from schemas.parsing import canonical
from schemas.registry import HttpRegistry
from tests.support.services import KafkaService


def record(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": f"a.{name}", "fields": list(fields)}


X = {"name": "x", "type": "long"}
V1 = record("R", X)
V2 = record("R", X, {"name": "y", "type": ["null", "string"], "default": None})
BREAKING = record("R", X, {"name": "z", "type": "long"})


class Hosts:
    """Registries over one topic."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.kafka = {"bootstrap.servers": bootstrap}
        self.topic = f"{prefix}._schemas"
        self.cluster = prefix
        self.running: list[RegistryStore] = []

    def start(self) -> RegistryStore:
        store = RegistryStore(self.kafka, self.topic, self.cluster)
        store.start()
        self.running.append(store)
        return store

    def stop(self, store: RegistryStore) -> None:
        self.running.remove(store)
        store.stop()

    def ids(self) -> list[int]:
        """The ids that lie in the topic, committed, in order: read by a client of our own."""
        consumer = Consumer(
            {
                **self.kafka,
                "group.id": self.cluster,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        consumer.assign([TopicPartition(self.topic, 0, 0)])
        found: list[int] = []
        while (message := consumer.poll(20)) is not None and message.error() is None:
            value = message.value()
            assert isinstance(value, bytes)
            found.append(json.loads(value)["id"])
        consumer.close()
        return found


@pytest.fixture
def hosts(kafka: KafkaService, topic_prefix: str) -> Iterator[Hosts]:
    """No registry yet, and a topic that does not exist."""
    made = Hosts(kafka.bootstrap, topic_prefix)
    yield made
    for store in list(made.running):
        made.stop(store)


@contextmanager
def served(store: RegistryStore) -> Iterator[str]:
    """The store behind HTTP, on a thread of its own; gives the URL."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(create_registry_app(store))

    async def listen() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ask(url: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    """Status and JSON of one request."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, method=method), timeout=20) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_all_schemas_are_registered_at_once_and_only_once(hosts: Hosts) -> None:
    """First boot: one transaction, ids without a gap. Second boot: nothing is written."""
    catalogue = Catalogue.load()
    pairs = [(name, catalogue.schema(name)) for name in catalogue.names()]
    first = hosts.start()
    assert first.register_all(pairs) == list(range(1, len(pairs) + 1))
    hosts.stop(first)
    second = hosts.start()
    assert second.register_all(pairs) == list(range(1, len(pairs) + 1))
    assert hosts.ids() == list(range(1, len(pairs) + 1))
    assert all(
        canonical(second.schema(at)) == canonical(schema) for at, (_name, schema) in enumerate(pairs, 1)
    )


def test_a_refusal_in_a_bulk_registers_nothing(hosts: Hosts) -> None:
    """All of them or none."""
    store = hosts.start()
    store.register("s", V1)
    with pytest.raises(Incompatible, match=r"a\.R\.z"):
        store.register_all([("t", V1), ("u", V2), ("s", BREAKING)])
    assert store.subjects() == ["s"]
    assert hosts.ids() == [1]


def test_what_one_host_writes_the_others_answer(hosts: Hosts) -> None:
    """No delay to wait for: a question that memory cannot answer reads on first."""
    one, other = hosts.start(), hosts.start()
    for at in range(1, 6):
        assert one.register(f"s{at}", record(f"R{at}", X)) == at
        assert other.latest(f"s{at}") == (at, one.schema(at))
        assert other.schema(at)["name"] == f"a.R{at}"
    assert other.register("s1", V1 | {"name": "a.R1"}) == 1
    one.set_level("s1", "NONE")
    assert other.level("s1") == "NONE"


def test_racing_hosts_never_give_an_id_twice(hosts: Hosts) -> None:
    """Three hosts register at once, each fencing the others: every schema has one id, no gap, no duplicate."""
    stores = [hosts.start() for _ in range(3)]

    def run(at: int) -> list[tuple[str, int]]:
        made = []
        for turn in range(6):
            for name in (f"Own{at}x{turn}", f"Shared{turn}"):
                made.append((name, stores[at].register(name, record(name, X))))
        return made

    with ThreadPoolExecutor(3) as threads:
        answers = [pair for made in threads.map(run, range(3)) for pair in made]
    ids = dict(answers)
    assert len(set(answers)) == len(ids) == 24
    assert sorted(ids.values()) == hosts.ids() == list(range(1, 25))
    for store in stores:
        assert {name: (store.latest(name) or (0,))[0] for name in ids} == ids


def test_a_writer_that_died_in_a_transaction_is_fenced(hosts: Hosts) -> None:
    """What it had not committed never happened, and nobody waits for its time-out."""
    store = hosts.start()
    store.register("s", V1)
    dead = Producer({**hosts.kafka, "transactional.id": f"{hosts.cluster}/registry"})
    dead.init_transactions(10)
    dead.begin_transaction()
    key = b'{"keytype":"SCHEMA","subject":"ghost","version":1,"magic":1}'
    dead.produce(
        hosts.topic, b'{"subject":"ghost","version":1,"id":2,"schema":"\\"string\\"","deleted":false}', key
    )
    dead.flush(10)
    assert store.subjects() == ["s"]
    assert store.register("s", V2) == 2
    assert (store.subjects(), hosts.ids()) == (["s"], [1, 2])
    dead.purge()


def test_foreign_records_are_skipped(hosts: Hosts) -> None:
    """Garbage in the topic hides nothing that comes after it."""
    store = hosts.start()
    store.register("s", V1)
    stranger = Producer(hosts.kafka)
    for key, value in ((b"garbage", b"\xff"), (None, b"{}"), (b'{"keytype":"SCHEMA"}', b"{}")):
        stranger.produce(hosts.topic, value, key)
    stranger.flush(10)
    assert store.register("s", V2) == 2
    assert hosts.start().versions("s") == [1, 2]


def test_a_topic_that_is_not_compacted_is_refused(hosts: Hosts) -> None:
    """Schemas would vanish after a week: refuse to begin, and say what to do."""
    admin = AdminClient(dict(hosts.kafka))
    admin.create_topics([NewTopic(hosts.topic, 2, 1)])[hosts.topic].result(20)
    with pytest.raises(RegistryUnavailable, match=r"2 partitions .* one partition and compact"):
        hosts.start()


def test_no_broker_is_told_with_the_fix() -> None:
    """One sentence, within the time given."""
    store = RegistryStore({"bootstrap.servers": "127.0.0.1:1", "log_level": "0"}, "t._schemas", "t")
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:1.*FLEXCORE_KAFKA_BOOTSTRAP"):
        store.start(1)


def test_the_products_own_client_and_codec_work_over_http(hosts: Hosts) -> None:
    """What one process encodes, another decodes, each with its own host of the registry."""
    catalogue = Catalogue.load()
    schema = catalogue.schema("flexcore.run.ClaimStep")
    claim = {"step": "load", "attempt": 1, "token": "t", "runner": "n1", "labels": "default"}
    with served(hosts.start()) as one, served(hosts.start()) as other:
        data = Codec(HttpRegistry(one)).encoder("run.commands-flexcore.run.ClaimStep", schema)(claim)
        reader = Codec(HttpRegistry(other), catalogue)
        assert reader.decode(data) == ("flexcore.run.ClaimStep", claim)
        registry = HttpRegistry(other)
        assert registry.latest("nothing") is None
        with pytest.raises(UnknownSchema, match="99"):
            registry.schema(99)
        registry.register("a/b c", V1)
        with pytest.raises(Incompatible, match=r"a\.R\.z: .*give it a default"):
            registry.register("a/b c", BREAKING)
        with pytest.raises(InvalidSchema, match="`nonsense` is not defined"):
            registry.register("s", "nonsense")
        latest = registry.latest("a/b c")
        assert latest is not None
        assert canonical(latest[1]) == canonical(V1)


def test_the_rest_api_answers_as_confluents_does(hosts: Hosts) -> None:
    """Every route once, and the refusals clients look for."""
    text, part = json.dumps(V1), json.dumps(V2)
    with served(hosts.start()) as url:
        assert ask(url + "/") == (200, {})
        assert ask(url + "/schemas/types") == (200, ["AVRO", "JSON", "PROTOBUF"])
        assert ask(url + "/contexts") == (200, ["."])
        assert ask(url + "/config") == (200, {"compatibilityLevel": "BACKWARD_TRANSITIVE"})
        assert ask(url + "/mode") == (200, {"mode": "READWRITE"})
        versions = url + "/subjects/s/versions"
        assert ask(versions, "POST", {"schema": text}) == (200, {"id": 1, "version": 1, "schema": text})
        assert ask(versions, "POST", {"schema": part})[1]["id"] == 2
        assert ask(versions) == (200, [1, 2])
        assert ask(versions + "/latest")[1] == {"subject": "s", "version": 2, "id": 2, "schema": part}
        assert ask(versions + "/1/schema") == (200, V1)
        assert ask(url + "/subjects/s", "POST", {"schema": text})[1]["version"] == 1
        assert ask(url + "/schemas/ids/1") == (200, {"schema": text})
        assert ask(url + "/schemas/ids/1/schema") == (200, V1)
        assert ask(url + "/schemas/ids/1/subjects") == (200, ["s"])
        assert ask(url + "/schemas/ids/2/versions") == (200, [{"subject": "s", "version": 2}])
        assert [one["version"] for one in ask(url + "/schemas?latestOnly=true")[1]] == [2]
        check = url + "/compatibility/subjects/s/versions"
        assert ask(check, "POST", {"schema": json.dumps(BREAKING)}) == (200, {"is_compatible": False})
        verbose = ask(check + "/latest?verbose=true", "POST", {"schema": json.dumps(BREAKING)})[1]
        assert verbose["is_compatible"] is False
        assert "give it a default" in verbose["messages"][0]
        assert ask(check + "/1", "POST", {"schema": part}) == (200, {"is_compatible": True})
        status, refusal = ask(versions, "POST", {"schema": json.dumps(BREAKING)})
        assert (status, refusal["error_code"]) == (409, 409)
        assert ask(url + "/config/s", "PUT", {"compatibility": "none"}) == (200, {"compatibility": "NONE"})
        assert ask(url + "/config/s") == (200, {"compatibilityLevel": "NONE"})
        assert ask(url + "/config/s", "DELETE") == (200, {"compatibilityLevel": "NONE"})
        assert ask(url + "/config/s?defaultToGlobal=true")[1] == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
        assert ask(url + "/mode/s", "PUT", {"mode": "READONLY"}) == (200, {"mode": "READONLY"})
        assert ask(url + "/mode/s") == (200, {"mode": "READONLY"})
        assert ask(versions, "POST", {"schema": '"string"'})[1]["error_code"] == 42205
        assert ask(url + "/mode/s", "DELETE") == (200, {"mode": "READONLY"})
        whole = {"schema": '{"type":"record","name":"W","fields":[{"name":"r","type":"a.R"}]}',
                 "references": [{"name": "a.R", "subject": "s", "version": 1}]}  # fmt: skip
        assert ask(url + "/subjects/w/versions", "POST", whole)[1]["id"] == 3
        assert ask(url + "/schemas/ids/3") == (200, whole)
        assert canonical(HttpRegistry(url).schema(3)["fields"]) == '[{"name":"r","type":"a.R"}]'
        assert ask(versions + "/1/referencedby") == (200, [3])
        assert ask(url + "/subjects/w", "DELETE") == (200, [1])
        assert ask(url + "/subjects/w?permanent=true", "DELETE") == (200, [1])
        assert ask(versions + "/1", "DELETE") == (200, 1)
        assert ask(versions + "/1?permanent=true", "DELETE") == (200, 1)
        assert ask(url + "/subjects/s", "DELETE") == (200, [2])
        assert ask(url + "/subjects") == (200, [])
        assert ask(url + "/subjects?deleted=true&subjectPrefix=s") == (200, ["s"])


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/subjects/none/versions", None, 404, 40401),
        ("GET", "/subjects/none/versions/1", None, 404, 40401),
        ("GET", "/subjects/none/versions/0", None, 422, 42202),
        ("GET", "/schemas/ids/99", None, 404, 40403),
        ("GET", "/schemas/ids/x", None, 404, 404),
        ("GET", "/config/none", None, 404, 40408),
        ("GET", "/mode/none", None, 404, 40409),
        ("DELETE", "/subjects/none", None, 404, 40401),
        ("PUT", "/config", {"compatibility": "SIDEWAYS"}, 422, 42203),
        ("PUT", "/mode", {"mode": "SIDEWAYS"}, 422, 42204),
        ("POST", "/subjects/s/versions", b"{", 400, 400),
        ("POST", "/subjects/s/versions", b"[]", 400, 400),
        ("POST", "/subjects/s/versions", {"schema": 5}, 422, 42201),
        ("POST", "/subjects/s/versions", {"schema": '"string"', "references": [5]}, 422, 42201),
        ("POST", "/subjects/s/versions", {"schema": '"string"' + " " * 950_000}, 422, 42201),
        ("GET", "/nowhere", None, 404, 404),
        ("PATCH", "/subjects", None, 405, 405),
    ],
)
def test_refusals_have_confluents_numbers(
    hosts: Hosts, method: str, path: str, body: Any, status: int, code: int
) -> None:
    """Status, error code and a message, always as JSON."""
    with served(hosts.start()) as url:
        answered, document = ask(url + path, method, body)
        assert (answered, document["error_code"]) == (status, code)
        assert document["message"]


def test_a_foreign_web_page_cannot_write(hosts: Hosts) -> None:
    """A browser on this machine would send such a request unasked: nothing is registered."""
    with served(hosts.start()) as url:
        request = Request(
            url + "/subjects/s/versions", b'{"schema": "\\"string\\""}', {"Origin": "http://evil.example"}
        )
        with pytest.raises(HTTPError, match="403"):
            urlopen(request, timeout=20)
        assert ask(url + "/subjects") == (200, [])


def test_confluents_own_client_finds_itself_at_home(hosts: Hosts) -> None:
    """The outside world: SchemaRegistryClient and the Avro serializers of confluent-kafka, unmodified."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's own dependencies deprecate each other
        from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
        from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
        from confluent_kafka.schema_registry.error import SchemaRegistryError
        from confluent_kafka.serialization import MessageField, SerializationContext

    store = hosts.start()
    with served(store) as url:
        client = SchemaRegistryClient({"url": url})
        context = SerializationContext("things", MessageField.VALUE)
        data = AvroSerializer(client, json.dumps(V2))({"x": 7, "y": None}, context)
        assert data is not None
        assert Codec(store).decode(data) == ("a.R", {"x": 7, "y": None})
        ours = Codec(store).encoder("things-value", V2)({"x": 8, "y": "é"})
        assert AvroDeserializer(SchemaRegistryClient({"url": url}))(ours, context) == {"x": 8, "y": "é"}
        assert client.test_compatibility("things-value", Schema(json.dumps(BREAKING), "AVRO")) is False
        with pytest.raises(SchemaRegistryError) as refusal:
            client.register_schema("things-value", Schema(json.dumps(BREAKING), "AVRO"))
        assert refusal.value.http_status_code == 409
