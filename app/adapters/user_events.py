"""Users' CloudEvents on Kafka: binary mode of the Kafka binding, topics made when they are first needed."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from app.errors import Problem, problem
from app.ports import Row, UserEvent
from connectors.sdk.errors import Unavailable
from connectors.sdk.producer import IDEMPOTENT
from schemas.clients import watched
from schemas.topics import Topics
from streams.topics import TOPIC_BYTES_MAX, user_events

_TIMEOUT_S = 15.0
# Names come from outside: a loop over types must not fill the cluster with topics.
_TOPICS_MAX = 500


class KafkaUserEvents:
    """A :class:`app.ports.EventSink`. Connects when first used; call :meth:`close` at the end."""

    def __init__(self, kafka: Mapping[str, str], topics: Topics, shards: int, replication: int) -> None:
        self._kafka = dict(kafka)
        self._topics = topics
        self._shards = shards
        self._replication = replication
        self._known: set[str] = set()
        self._making = asyncio.Lock()
        self._producer: Producer | None = None
        self._ending = threading.Event()

    async def publish(self, tenant: str, events: Sequence[UserEvent]) -> list[Row]:
        """Write all, and return each event's place. Raises as the port says."""
        topics = {event.name: self._topics.user_events(event.name) for event in events}
        async with self._making:
            if missing := sorted(set(topics.values()) - self._known):
                await asyncio.to_thread(self._make, missing)
                self._known.update(missing)
        loop = asyncio.get_running_loop()
        waiting = [self._send(loop, tenant, event, topics[event.name]) for event in events]
        found: list[tuple[int, int]] = []
        for placed in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(placed, BaseException):
                raise placed
            found.append(placed)
        return [
            {
                "id": event.attributes["id"],
                "name": event.name,
                "topic": topics[event.name],
                "partition": place[0],
                "offset": place[1],
            }
            for event, place in zip(events, found, strict=True)
        ]

    def make(self, names: Sequence[str]) -> None:
        """Make the topics of these names of events, where they are not there. Blocking; raises Unavailable."""
        try:
            self._make([self._topics.user_events(name) for name in names])
        except Problem as error:
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        """Wait for what is on its way, at most a second."""
        self._ending.set()
        if self._producer is not None:
            await asyncio.to_thread(self._producer.flush, 1.0)

    def _send(
        self, loop: asyncio.AbstractEventLoop, tenant: str, event: UserEvent, topic: str
    ) -> "asyncio.Future[tuple[int, int]]":
        attributes = event.attributes
        placed: asyncio.Future[tuple[int, int]] = loop.create_future()

        def delivered(error: KafkaError | None, record: Message) -> None:
            place = (record.partition() or 0, record.offset() or 0)
            loop.call_soon_threadsafe(_settle, placed, error, place)

        subject = attributes.get("partitionkey") or attributes.get("subject") or attributes["id"]
        headers: list[tuple[str, str | bytes | None]] = [
            ("content-type" if name == "datacontenttype" else f"ce_{name}", value)
            for name, value in attributes.items()
        ]
        try:
            self._started().produce(
                topic,
                event.data,
                f"{tenant}/{subject}",
                on_delivery=delivered,
                headers=[*headers, ("tenant", tenant)],
            )
        except BufferError:
            placed.set_exception(_busy())
        except KafkaException as error:
            placed.set_exception(_refused(error.args[0]))
        return placed

    def _started(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                watched(
                    {
                        **self._kafka,
                        **IDEMPOTENT,
                        "linger.ms": 1,
                        "delivery.timeout.ms": int(_TIMEOUT_S * 1000),
                        "message.max.bytes": TOPIC_BYTES_MAX,
                        "partitioner": "murmur2",  # as Java's clients do, and as every topic of ours
                        "queue.buffering.max.kbytes": 65_536,
                    }
                )
            )
            threading.Thread(
                target=self._poll, args=(self._producer,), name="user-events", daemon=True
            ).start()
        return self._producer

    def _poll(self, producer: Producer) -> None:
        while not self._ending.is_set():
            producer.poll(0.2)

    def _make(self, names: Sequence[str]) -> None:
        """Make the topics that are not there. Blocking."""
        admin = AdminClient({**self._kafka, "log_level": 2})
        try:
            there = admin.list_topics(timeout=_TIMEOUT_S).topics
        except KafkaException as error:
            raise _refused(error.args[0]) from error
        missing = [name for name in names if name not in there]
        ours = sum(name.startswith(self._topics.user_events("")) for name in there)
        if missing and ours + len(missing) > _TOPICS_MAX:
            detail = f"There are {ours} topics of user events, and at most {_TOPICS_MAX} may be: use ?name="
            raise problem("invalid", f"{detail}.", [{"pointer": "name", "detail": "too many names"}])
        spec = user_events(self._topics, "", self._shards)
        new = [NewTopic(name, spec.partitions, self._replication, config=spec.config) for name in missing]
        for future in (admin.create_topics(new, operation_timeout=_TIMEOUT_S) if new else {}).values():
            try:
                future.result(_TIMEOUT_S)
            except TimeoutError:
                raise _refused(KafkaError(KafkaError._TIMED_OUT, "no answer in time")) from None
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise _refused(error.args[0]) from error


def _settle(
    placed: "asyncio.Future[tuple[int, int]]", error: KafkaError | None, place: tuple[int, int]
) -> None:
    if placed.done():
        return
    if error is None:
        placed.set_result(place)
    else:
        placed.set_exception(_refused(error))


def _busy() -> Problem:
    return problem("overloaded", "Too many events wait for Kafka.", headers={"Retry-After": "1"})


def _refused(error: Any) -> Problem:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return problem("too_large", "An event is larger than Kafka accepts.")
    detail = f"Kafka did not take all events: {error.str()}; send them again."
    return problem("unavailable", detail, headers={"Retry-After": "1"})
