"""The topic ``_schemas``: followed by a thread, written by whoever holds the fencing, one writer at a time."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from app.registry.failures import INVALID_SCHEMA, STORE_FAILED, RegistryFailure
from app.registry.records import Record, parsed_record
from schemas.clients import watched
from schemas.offsets import OFFSET_END, offsets

_log = logging.getLogger(__name__)

_TOPIC_CONFIG = {
    "cleanup.policy": "compact",
    # A tombstone holds the highest id given so far: it must outlive any downtime (ten years).
    "delete.retention.ms": "315360000000",
    "min.cleanable.dirty.ratio": "0.1",
}
_FINAL = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._TIMED_OUT,
)
_POLL_S = 0.1
_WRITE_WITHIN_S = 20.0
_CALL_S = 10.0
_RECORD_BYTES_MAX = 900_000


class SchemaLog:
    """Reads the topic from its beginning and appends to it.

    ``apply`` receives each committed record, in order, on the follower's thread. ``append`` first makes sure that this
    process is the only one that can commit (transactional fencing) and has seen everything committed before, then
    asks what to write. Several processes may share a topic: the last to begin a write wins, the others begin again.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        topic: str,
        transactional_id: str,
        replication: int,
        apply: Callable[[Record], None],
    ) -> None:
        self._kafka: dict[str, str | int | float | bool] = {**kafka, "enable.sparse.connections": "false"}
        self._topic = topic
        self._transactional_id = transactional_id
        self._replication = replication
        self._apply = apply
        self._moved = threading.Condition()
        self._position = 0
        self._stopping = threading.Event()
        self._write_lock = threading.Lock()
        self._producer: Producer | None = None
        self._follower: threading.Thread | None = None
        # Of each thread: questions of several to one client wait for each other.
        self._own = threading.local()
        self._askers: list[Consumer] = []

    # ---------------------------------------------------------------- life
    def start(self, timeout_s: float) -> None:
        """Create the topic if it is missing, begin to follow it, return when everything committed has been read.

        Blocks up to ``timeout_s``. Raises :class:`RegistryFailure` when Kafka does not answer or the topic is unfit.
        """
        try:
            self._provision(AdminClient(self._kafka), timeout_s)
        except KafkaException as error:
            raise self._unreachable(error) from error
        self._stopping.clear()
        self._follower = threading.Thread(target=self._follow, name="schema-registry", daemon=True)
        self._follower.start()
        self.catch_up(timeout_s=timeout_s)

    def stop(self) -> None:
        """End the follower and close the connections. Blocks until an append under way is over."""
        with self._write_lock:
            self._stopping.set()
            self._drop_producer()
        if self._follower is not None:
            self._follower.join()
            self._follower = None
        while self._askers:
            self._askers.pop().close()

    def _provision(self, admin: AdminClient, timeout_s: float) -> None:
        known = admin.list_topics(timeout=timeout_s).topics
        if self._topic not in known:
            new = NewTopic(self._topic, 1, self._replication, config=_TOPIC_CONFIG)
            try:
                admin.create_topics([new], operation_timeout=timeout_s)[self._topic].result(timeout_s)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            return
        resource = ConfigResource(ResourceType.TOPIC, self._topic)
        policy = admin.describe_configs([resource])[resource].result(timeout_s)["cleanup.policy"].value
        if len(known[self._topic].partitions) != 1 or policy != "compact":
            raise RegistryFailure(
                STORE_FAILED,
                f"Topic {self._topic} has {len(known[self._topic].partitions)} partitions and cleanup.policy={policy};"
                " the registry needs one partition and compact: use another topic prefix, or mend it with kafka-configs",
            )

    # ---------------------------------------------------------------- reading
    def catch_up(self, *, uncommitted: bool = False, timeout_s: float = _CALL_S) -> None:
        """Return when everything committed before this call has been applied; with ``uncommitted``, when nothing
        undecided is left before the end either. Blocks; raises :class:`RegistryFailure` after ``timeout_s``.
        """
        isolation = "read_uncommitted" if uncommitted else "read_committed"
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                end = self._end_offset(isolation, max(0.1, deadline - time.monotonic()))
                break
            except KafkaException as error:
                # Leaders move, and a topic just created has none for a moment, which is told in many ways.
                if error.args[0].code() in _FINAL or time.monotonic() > deadline:
                    raise self._unreachable(error) from error
                time.sleep(0.05)
        self._wait_for(end, max(0.1, deadline - time.monotonic()))

    def _end_offset(self, isolation: str, timeout_s: float) -> int:
        asker: Consumer | None = getattr(self._own, isolation, None)
        if asker is None:
            settings = {"group.id": f"{self._transactional_id}-asker", "isolation.level": isolation}
            asker = Consumer({**self._kafka, **settings})
            setattr(self._own, isolation, asker)
            self._askers.append(asker)
        try:
            return offsets(asker, [(self._topic, 0)], OFFSET_END, timeout_s)[self._topic, 0]
        except KafkaException:
            delattr(self._own, isolation)  # it might never get an answer (schemas.clients)
            self._askers.remove(asker)
            asker.close()
            raise

    def _wait_for(self, end: int, timeout_s: float) -> None:
        with self._moved:
            if not self._moved.wait_for(lambda: self._position >= end, timeout_s):
                raise RegistryFailure(
                    STORE_FAILED,
                    f"Topic {self._topic} was read up to {self._position}, not {end}, within {timeout_s:.0f} s: Kafka is"
                    " slow, or a transaction hangs there (kafka-transactions --find-hanging)",
                )

    def _follow(self) -> None:
        consumer = Consumer(
            watched(
                {
                    **self._kafka,
                    "group.id": f"{self._transactional_id}-follower",  # demanded by the client, used for nothing
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 100,  # how long the end of the topic may stay unnoticed after a commit marker
                }
            )
        )
        consumer.assign([TopicPartition(self._topic, 0, 0)])
        try:
            while not self._stopping.is_set():
                message = consumer.poll(_POLL_S)
                if message is not None:
                    self._take(message)
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        error, offset = message.error(), message.offset()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            _log.warning("The registry's topic %s cannot be read at the moment: %s", self._topic, error)
            return
        at_end = error is not None
        if not at_end:
            self._hand_over(message)
        if offset is not None:
            with self._moved:
                self._position = max(self._position, offset if at_end else offset + 1)
                self._moved.notify_all()

    def _hand_over(self, message: Message) -> None:
        key = message.key()
        try:
            self._apply(parsed_record(_raw(key), _raw_or_none(message.value()), message.headers()))  # type: ignore[arg-type]  # typed as str or bytes
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            _log.warning(
                "Skipped a foreign record in %s at offset %s: %s", self._topic, message.offset(), error
            )

    # ---------------------------------------------------------------- writing
    def append(self, decide: Callable[[], Sequence[Record]]) -> None:
        """Write what ``decide`` returns, in one transaction; return when it is committed and applied here.

        ``decide`` runs after everything committed before is applied; no other process can commit between it and the
        commit. It may run again after losing a race, and must then look again. What it raises is passed on, and
        nothing is written. Raises :class:`RegistryFailure` when no try succeeded within 20 s.
        """
        deadline = time.monotonic() + _WRITE_WITHIN_S
        with self._write_lock:
            while True:
                try:
                    producer = self._writer()
                    records = decide()
                    last = self._commit(producer, records)
                except KafkaException as error:
                    # Fenced, aborted or unknown: a new epoch ends the old transaction, and reading to the end tells
                    # whether it was committed.
                    self._drop_producer()
                    if time.monotonic() > deadline:
                        raise self._unreachable(error) from error
                    time.sleep(random.uniform(0.005, 0.05))
                    continue
                self._wait_for(last + 1, _CALL_S)
                return

    def _writer(self) -> Producer:
        if self._stopping.is_set():
            raise RegistryFailure(STORE_FAILED, "The registry is shutting down")
        if self._producer is None:
            producer = Producer(
                {
                    **self._kafka,
                    "transactional.id": self._transactional_id,
                    "transaction.timeout.ms": 10_000,
                    "retry.backoff.ms": 1,
                    "retry.backoff.max.ms": 10,
                    "linger.ms": 0,
                },
                logger=_unheard(),
            )
            self._producer = producer
            try:
                producer.init_transactions(_CALL_S)
                self.catch_up(uncommitted=True)
            except (KafkaException, RegistryFailure):
                self._drop_producer()
                raise
        return self._producer

    def _commit(self, producer: Producer, records: Sequence[Record]) -> int:
        """Return the offset of the last record, or -1 when there was nothing to write."""
        if not records:
            return -1
        delivered: list[int] = []

        def note(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            if error is None and offset is not None:
                delivered.append(offset)

        encoded = [record.encoded() for record in records]
        size = max(len(value or b"") for _key, value, _headers in encoded)
        if size > _RECORD_BYTES_MAX:
            raise RegistryFailure(
                INVALID_SCHEMA, f"Invalid schema: {size} bytes, and Kafka takes {_RECORD_BYTES_MAX}"
            )
        producer.begin_transaction()
        for key, value, headers in encoded:
            pairs: list[Any] = list(headers)
            producer.produce(self._topic, value, key, 0, headers=pairs, on_delivery=note)
        producer.commit_transaction(_CALL_S)
        return max(delivered)

    def _drop_producer(self) -> None:
        if self._producer is not None:
            # Not close(): on a fenced producer it ends in a SystemError (confluent-kafka 2.16.1). The collector frees it.
            self._producer.purge()
            self._producer = None

    def _unreachable(self, error: Exception) -> RegistryFailure:
        return RegistryFailure(
            STORE_FAILED,
            f"Kafka at {self._kafka.get('bootstrap.servers')} does not keep the registry's topic {self._topic}: {error};"
            " check FLEXCORE_KAFKA_BOOTSTRAP and that the brokers are up",
        )


def _unheard() -> logging.Logger:
    """A lost race is no news, and librdkafka would print it as fatal. What matters comes as an exception."""
    logger = logging.getLogger(f"{__name__}.producer")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def _raw(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise TypeError("the record has no key")
    return data


def _raw_or_none(data: Any) -> bytes | None:
    return None if data is None else _raw(data)
