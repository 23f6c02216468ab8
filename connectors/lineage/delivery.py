"""Where lineage goes: an HTTP endpoint, as OpenLineage servers have one, or a Kafka topic."""

import http.client
import json
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from connectors.lineage.story import RunEvent, identity
from connectors.sdk.errors import Refused, Unavailable
from connectors.sdk.producer import IDEMPOTENT

_TIMEOUT_S = 10.0
_TOPIC = "topic:"
_THIS_EVENT = (400, 409, 413, 422)
"""Answers that mean this one event. Any other one means the address, the token or the server: it may be mended."""


class Endpoint(Protocol):
    """Takes events, one at a time."""

    def send(self, event: RunEvent) -> None:
        """Return when it is taken. Blocks for 10 s at most; raises :class:`Unavailable`, or :class:`Refused` when this
        event will never be taken.
        """

    def close(self) -> None:
        """Let go of everything."""


class HttpEndpoint:
    """Posts each event by itself over one connection that is kept."""

    def __init__(self, url: str, token: str = "") -> None:
        self._place = urlsplit(url)
        self._token = token
        self._connection: http.client.HTTPConnection | None = None

    def send(self, event: RunEvent) -> None:
        """Post the event; ``Idempotency-Key`` is the same when it comes twice."""
        run, kind = identity(event)
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid5(UUID(run), kind))}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        place = self._place
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        try:
            connection = self._connected()
            connection.request("POST", target, json.dumps(event), headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise Unavailable(f"{place.hostname} does not answer: {type(error).__name__}: {error}") from error
        if answer.will_close:
            self.close()
        if answer.status in _THIS_EVENT:
            raise Refused(f"{place.hostname} answered {answer.status} {answer.reason}")
        if not 200 <= answer.status < 300:
            raise Unavailable(f"{place.hostname} answered {answer.status} {answer.reason}")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            secure = self._place.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = kind(self._place.hostname or "", self._place.port, timeout=_TIMEOUT_S)
        return self._connection


class TopicEndpoint:
    """Writes each event as JSON into a topic, which is made if there is none; key: the run above all."""

    def __init__(
        self, kafka: Mapping[str, str], client_id: str, topic: str, partitions: int, replication: int
    ) -> None:
        common: dict[str, str | int | float | bool] = {**kafka, "client.id": client_id, "log_level": 3}
        self._topic = NewTopic(topic, partitions, replication)
        self._admin = AdminClient(common)
        self._producer = Producer({**common, **IDEMPOTENT, "linger.ms": 0})
        self._made = False

    def send(self, event: RunEvent) -> None:
        """Write the event and wait until it is kept."""
        run = event["run"]
        parent = run["facets"].get("parent")
        key = parent["root"]["run"]["runId"] if parent else run["runId"]
        failures: list[KafkaError] = []
        try:
            self._make()
            self._producer.produce(
                self._topic.topic,
                json.dumps(event).encode(),
                key.encode(),
                on_delivery=lambda error, _message: failures.append(error) if error else None,
            )
            left = self._producer.flush(_TIMEOUT_S)
        except (KafkaException, BufferError) as error:
            raise Unavailable(f"Kafka does not take it into {self._topic.topic}: {error}") from error
        if left or failures:
            if failures and failures[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise Refused(f"it is too large for {self._topic.topic}")
            raise Unavailable(f"Kafka does not take it into {self._topic.topic}: {failures or 'no answer'}")

    def close(self) -> None:
        """Forget what was not taken: it is sent again by whoever is next."""
        self._producer.purge()

    def _make(self) -> None:
        if self._made:
            return
        try:
            self._admin.create_topics([self._topic])[self._topic.topic].result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        except TimeoutError:
            raise Unavailable(f"Kafka does not make the topic {self._topic.topic}") from None
        self._made = True


def topic_of(address: str) -> str | None:
    """Return the topic that an address names, or None when it is a URL."""
    return address.removeprefix(_TOPIC).strip() if address.startswith(_TOPIC) else None
