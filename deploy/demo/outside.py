"""Clients from outside: Kafka, PostgreSQL and HTTP as anybody has them. Nothing here asks the product's counters."""

import io
import json
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

T = TypeVar("T")


class CheckFailed(Exception):
    """The demo found something that is not as it must be."""


def check(true: bool, what: str) -> None:
    """Fail the demo with one sentence unless ``true``."""
    if not true:
        raise CheckFailed(what)


def eventually(
    question: Callable[[], T | None], what: str, timeout_s: float = 60.0, every_s: float = 0.1
) -> T:
    """Return the first answer that is not None or False; fail the demo after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = question()
        if answer is not None and answer is not False:
            return answer
        time.sleep(every_s)
    raise CheckFailed(f"{what}: not within {timeout_s:.0f} s")


class Http:
    """A plain HTTP client of the platform's API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Any:
        """Return the JSON at ``path``; None for 404 and for a node that is just going away."""
        body = self.body(path)
        return None if body is None else json.loads(body)

    def body(self, path: str) -> bytes | None:
        """Return the bytes at ``path``, or None."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as answer:
                found: bytes = answer.read()
                return found
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Post JSON; return status and answer."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")


class Kafka:
    """A plain Kafka client that reads committed records and decodes Avro by the registry's schemas."""

    def __init__(self, bootstrap: str, registry: Callable[[], Http]) -> None:
        self._settings: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 3}
        self._registry = registry
        self._schemas: dict[int, Any] = {}

    def topics(self, suffix: str) -> list[str]:
        """Return the names of all topics that end so."""
        known = AdminClient(self._settings).list_topics(timeout=10).topics
        return sorted(name for name in known if name.endswith(suffix))

    def records(self, topic: str) -> list[tuple[bytes, bytes, dict[str, bytes]]]:
        """Return key, value and headers of all committed records of a topic, up to its end of now."""
        consumer = Consumer(
            {
                **self._settings,
                "group.id": "demo",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,  # its end is what is waited for
            }
        )
        try:
            found = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            ends = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in found}
            left = {number for number, end in ends.items() if end}
            consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in left])
            records = []
            while left:
                for record in consumer.consume(10_000, 0.05):
                    error = record.error()
                    if error is None:
                        records.append(
                            (
                                record.key() or b"",
                                record.value() or b"",
                                dict(cast(Any, record.headers() or ())),
                            )
                        )
                    elif (
                        error.code() == KafkaError._PARTITION_EOF
                        and (record.offset() or 0) >= ends[record.partition() or 0]
                    ):
                        left.discard(record.partition())
            return records
        finally:
            consumer.close()

    def decoded(self, topic: str) -> list[dict[str, Any]]:
        """Return the records of an Avro topic, each with its record name under ``type``."""
        return [self.decode(value) for _, value, _ in self.records(topic)]

    def decode(self, value: bytes) -> dict[str, Any]:
        """Decode one value in Confluent framing by the schema the registry has for its id."""
        magic, schema_id = struct.unpack(">bI", value[:5])
        check(magic == 0, "a value on an Avro topic is not in Confluent framing")
        if schema_id not in self._schemas:
            found = self._registry().get(f"/schemas/ids/{schema_id}")
            check(found is not None, f"the registry does not know schema {schema_id}")
            self._schemas[schema_id] = fastavro.parse_schema(json.loads(found["schema"]))
        schema = self._schemas[schema_id]
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
        return {"type": schema["name"].rpartition(".")[2], **record}

    def produce(self, topic: str, key: str, value: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Produce one JSON record with Kafka's own default partitioner, as a Java program would."""
        producer = Producer({**self._settings, "partitioner": "murmur2_random"})
        producer.produce(topic, json.dumps(value), key, headers=list(headers.items()))
        check(producer.flush(15) == 0, f"Kafka did not take a record on {topic}")
