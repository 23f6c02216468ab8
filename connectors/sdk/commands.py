"""Sending commands to aggregates through Kafka, and waiting for their outcomes."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.sdk.errors import InvalidSpec, Unavailable
from connectors.sdk.outcomes import OutcomeFollower
from connectors.sdk.producer import IDEMPOTENT
from schemas import topics as names
from schemas.clients import watched
from schemas.codec import Codec
from schemas.errors import FlexcoreSchemaError, RegistryUnavailable
from schemas.partitioning import partition_of
from schemas.topics import Topics, key_of

_DELIVERY_TIMEOUT_MS = 15_000
_PREPARE_S = 5.0
_RECORD_BYTES_MAX = 5 << 20
_UNKNOWN_SUBJECT_S = 5.0

Headers = list[tuple[str, str | bytes | None]]


@dataclass(slots=True, eq=False)
class _Waiting:
    subject: str
    outcome: "asyncio.Future[dict[str, Any]]"


class UnknownAggregate(InvalidSpec):
    """A command was addressed to an aggregate that this client does not know."""


class InvalidCommand(InvalidSpec):
    """A command's body does not fit its schema."""


@dataclass(frozen=True, slots=True)
class EncodedCommand:
    """A command ready to be produced: its partition is set explicitly, as every record of an aggregate's is."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers


class CommandEncoder:
    """Turns commands into records: Avro when the registry knows the command's schema, JSON otherwise.

    The first command of a type asks the registry and may block for a network round trip; later ones do not.
    """

    def __init__(self, codec: Codec, topics: Topics, shards: int) -> None:
        self._codec = codec
        self._topics = topics
        self._shards = shards
        self._plain = Topics()
        self._encoders: dict[tuple[str, str], Callable[[dict[str, Any]], bytes]] = {}
        self._asked: dict[tuple[str, str], float] = {}

    def ready(self, aggregate: str, command_type: str) -> bool:
        """Tell whether encoding this type now needs no network."""
        kind = (aggregate, command_type)
        return kind in self._encoders or time.monotonic() - self._asked.get(kind, -1e9) < _UNKNOWN_SUBJECT_S

    def prepare(self, aggregate: str, command_type: str) -> None:
        """Ask the registry for the schema of this command type. Blocks."""
        kind = (aggregate, command_type)
        subject = f"{self._plain.commands(aggregate)}-flexcore.{aggregate}.{command_type}"
        try:
            known = self._codec.registry.latest(subject)
        except RegistryUnavailable as error:
            raise Unavailable(f"the schema registry does not answer about {subject}: {error}") from error
        self._asked[kind] = time.monotonic()
        if known is not None:
            self._encoders[kind] = self._codec.encoder(subject, known[1])

    def encode(
        self,
        aggregate: str,
        aggregate_id: str,
        command_type: str,
        body: dict[str, Any],
        tenant: str,
        headers: Headers,
    ) -> EncodedCommand:
        """Return the record. Raise InvalidCommand when the body does not fit the schema."""
        kind = (aggregate, command_type)
        if not self.ready(aggregate, command_type):
            self.prepare(aggregate, command_type)
        encoder = self._encoders.get(kind)
        try:
            value = encoder(body) if encoder is not None else orjson.dumps(body)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidCommand(
                f"the body of {aggregate} {command_type} does not fit its schema: {error}"
            ) from error
        key = key_of(tenant, aggregate_id)
        return EncodedCommand(
            self._topics.commands(aggregate), partition_of(key, self._shards), key, value, headers
        )


def command_headers(
    command_id: str,
    command_type: str,
    actor: str = "anonymous",
    correlation_id: str | None = None,
    causation_id: str | None = None,
    expected_version: int | None = None,
    traceparent: str | None = None,
) -> Headers:
    """Return the headers of a command; what is not given is left out."""
    headers: Headers = [
        (names.COMMAND_ID, command_id),
        (names.COMMAND_TYPE, command_type),
        (names.ACTOR, actor),
    ]
    given = (
        (names.CORRELATION_ID, correlation_id),
        (names.CAUSATION_ID, causation_id),
        (names.EXPECTED_VERSION, None if expected_version is None else str(expected_version)),
        (names.TRACEPARENT, traceparent),
    )
    headers.extend((name, value) for name, value in given if value is not None)
    return headers


class CommandClient:
    """Sends commands by an idempotent producer (``acks=all``) and resolves their outcomes.

    All outcome partitions of ``aggregates`` are followed from their end before the first command is produced, so the
    outcome of a command sent here is never missed. ``follow`` (aggregate -> partitions) limits what is followed; a
    short-lived process that needs one aggregate follows one partition. Not for use from several event loops.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        codec: Codec,
        topics: Topics,
        shards: int,
        aggregates: Sequence[str],
        client_id: str,
        follow: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._codec = codec
        self._encoder = CommandEncoder(codec, topics, shards)
        self._aggregates = frozenset(aggregates)
        self._settings = {
            **kafka,
            "client.id": client_id,
            **IDEMPOTENT,
            "linger.ms": 0,
            "delivery.timeout.ms": _DELIVERY_TIMEOUT_MS,
            "message.max.bytes": _RECORD_BYTES_MAX,
            "enable.sparse.connections": False,
            "retry.backoff.ms": 20,
        }
        asked = follow if follow is not None else {aggregate: range(shards) for aggregate in aggregates}
        followed = [
            (topics.outcomes(aggregate), p) for aggregate, partitions in asked.items() for p in partitions
        ]
        self._by_topic = {topics.outcomes(aggregate): aggregate for aggregate in asked}
        self._follower = OutcomeFollower(kafka, followed, self._received, client_id)
        self._waiting: dict[tuple[str, bytes], list[_Waiting]] = {}
        self._producer: Producer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._deliveries: threading.Thread | None = None

    @property
    def problem(self) -> str | None:
        """The newest trouble with reading outcomes, or None."""
        return self._follower.problem

    async def start(self) -> None:
        """Assign the outcome partitions, then make the producer. Raise Unavailable when Kafka does not answer."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._follower.start)
        self._producer = Producer(watched(self._settings))
        self._deliveries = threading.Thread(
            target=self._poll, args=(self._producer,), name="command-deliveries", daemon=True
        )
        self._deliveries.start()

    async def stop(self) -> None:
        """Wait for open deliveries (5 s at most), then end both threads."""
        self._stopping.set()
        if self._producer is not None:
            await asyncio.to_thread(self._producer.flush, 5.0)
        if self._deliveries is not None:
            await asyncio.to_thread(self._deliveries.join)
        await asyncio.to_thread(self._follower.stop)
        self._producer = None
        self._deliveries = None

    async def send(  # noqa: PLR0913 - one argument for each header a command may carry
        self,
        aggregate: str,
        aggregate_id: str,
        command_type: str,
        body: dict[str, Any],
        *,
        tenant: str = "default",
        command_id: str | None = None,
        actor: str = "anonymous",
        correlation_id: str | None = None,
        causation_id: str | None = None,
        expected_version: int | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Return the command id once Kafka has acknowledged the record on all in-sync replicas.

        Raises UnknownAggregate, InvalidCommand, or Unavailable when Kafka does not acknowledge within 15 s (the
        command may then still have been written: send again with the same id) or the registry not answer within 5 s.
        """
        if aggregate not in self._aggregates:
            known = ", ".join(sorted(self._aggregates))
            raise UnknownAggregate(f"there is no aggregate {aggregate!r}; known are {known}")
        chosen = command_id or str(uuid.uuid4())
        headers = command_headers(
            chosen, command_type, actor, correlation_id, causation_id, expected_version, traceparent
        )
        if not self._encoder.ready(aggregate, command_type):
            await self._prepare(aggregate, command_type)
        await self.deliver(self._encoder.encode(aggregate, aggregate_id, command_type, body, tenant, headers))
        return chosen

    async def _prepare(self, aggregate: str, command_type: str) -> None:
        try:
            async with asyncio.timeout(_PREPARE_S):
                await asyncio.to_thread(self._encoder.prepare, aggregate, command_type)
        except TimeoutError:
            raise Unavailable(
                f"the schema registry did not answer about {aggregate} {command_type} within {_PREPARE_S:g} s"
            ) from None

    async def ask(  # noqa: PLR0913 - as above
        self,
        aggregate: str,
        aggregate_id: str,
        command_type: str,
        body: dict[str, Any],
        *,
        timeout_s: float = 5.0,
        tenant: str = "default",
        command_id: str | None = None,
        actor: str = "anonymous",
        correlation_id: str | None = None,
        causation_id: str | None = None,
        expected_version: int | None = None,
        traceparent: str | None = None,
    ) -> dict[str, Any] | None:
        """Send, then return the outcome record, or None when it has not come ``timeout_s`` after the call.

        Raises as :meth:`send` does; the time-out does not shorten the wait for Kafka's acknowledgement.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        chosen = command_id or str(uuid.uuid4())
        with self.expecting(aggregate, aggregate_id, chosen, tenant) as outcome:
            await self.send(
                aggregate, aggregate_id, command_type, body, tenant=tenant, command_id=chosen, actor=actor,
                correlation_id=correlation_id, causation_id=causation_id, expected_version=expected_version,
                traceparent=traceparent,
            )  # fmt: skip
            try:
                return await asyncio.wait_for(outcome, max(0.0, deadline - loop.time()))
            except TimeoutError:
                return None

    @contextmanager
    def expecting(
        self, aggregate: str, aggregate_id: str, command_id: str, tenant: str = "default"
    ) -> Iterator["asyncio.Future[dict[str, Any]]"]:
        """Give a future of the outcome of a command that is produced inside the ``with`` block, by whatever means."""
        waiting = _Waiting(f"{tenant}/{aggregate_id}", asyncio.get_running_loop().create_future())
        key = (aggregate, command_id.encode())
        self._waiting.setdefault(key, []).append(waiting)
        try:
            yield waiting.outcome
        finally:
            others = [other for other in self._waiting[key] if other is not waiting]
            if others:
                self._waiting[key] = others
            else:
                del self._waiting[key]

    async def deliver(self, command: EncodedCommand) -> None:
        """Produce and wait for the acknowledgement. Raise Unavailable when there is none, or Kafka refuses."""
        if self._producer is None or self._loop is None:
            raise Unavailable("the command client is not started")
        loop, acknowledged = self._loop, self._loop.create_future()

        def delivered(error: KafkaError | None, _message: Message) -> None:
            loop.call_soon_threadsafe(_settle, acknowledged, error)

        try:
            self._producer.produce(
                command.topic,
                command.value,
                command.key,
                command.partition,
                delivered,
                headers=command.headers,
            )
        except BufferError as error:
            raise Unavailable("too many commands wait for Kafka; try again in a moment") from error
        except KafkaException as error:
            raise _undelivered(command.topic, error.args[0]) from error
        failure = await acknowledged
        if failure is not None:
            raise _undelivered(command.topic, failure)

    def _poll(self, producer: Producer) -> None:
        while not self._stopping.is_set():
            producer.poll(0.2)

    def _received(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        aggregate = self._by_topic.get(topic, "")
        if key is None or value is None or (aggregate, key) not in self._waiting or self._loop is None:
            return
        try:
            _name, outcome = self._codec.decode(value)
        except FlexcoreSchemaError as error:
            # The waiter times out; whoever reads `problem` learns why.
            self._follower.problem = f"an outcome on {topic} cannot be decoded: {error}"
            return
        self._loop.call_soon_threadsafe(self._resolve, (aggregate, key), outcome)

    def _resolve(self, key: tuple[str, bytes], outcome: dict[str, Any]) -> None:
        subject = f"{outcome['tenant']}/{outcome['aggregate_id']}"
        for waiting in self._waiting.get(key, []):
            if waiting.subject == subject and not waiting.outcome.done():
                waiting.outcome.set_result(outcome)


def _settle(acknowledged: "asyncio.Future[KafkaError | None]", error: KafkaError | None) -> None:
    if not acknowledged.done():
        acknowledged.set_result(error)


def _undelivered(topic: str, error: KafkaError) -> Exception:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return InvalidCommand(
            f"the command is larger than Kafka accepts on {topic}: send less in one command"
        )
    return Unavailable(f"Kafka did not acknowledge a command on {topic}: {error.str()}")
