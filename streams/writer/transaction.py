"""The worker's one transactional producer: begin, produce, commit with offsets, abort, and made anew when fenced.

Which errors mean what, and why the settings are as they are, was measured on Apache Kafka 4.3 with librdkafka 2.16.
"""

import logging
import queue
import struct
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streams.failures import NodeTaken
from streams.writer.encoding import Produced
from streams.writer.task_topics import TaskTopics

_log = logging.getLogger(__name__)
_SLOW_COMMIT_S = 1.0
_FENCED_TIMES_MAX = 3
_FENCED_WITHIN_S = 10.0
_FENCING = {
    KafkaError._FENCED,
    KafkaError._FATAL,  # its fatal() answers False
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}


def transactional_id(cluster: str, node: str) -> str:
    """Return the id that a node's writer has for ever: who takes over its shards can fence it by this name."""
    return f"{cluster}/node/{node}"


def producer_settings(
    kafka: Mapping[str, str], transactional: str, timeout_ms: int, linger_ms: float
) -> dict[str, object]:
    """Return librdkafka's settings for a transactional producer that commits every few milliseconds."""
    return {
        **kafka,
        "transactional.id": transactional,
        "transaction.timeout.ms": timeout_ms,
        "linger.ms": linger_ms,
        "batch.size": 1 << 20,
        "batch.num.messages": 10_000,
        "queue.buffering.max.messages": 400_000,
        "message.max.bytes": 5 << 20,
        "compression.type": "lz4",
        # librdkafka waits this long while the coordinator still writes the markers of the previous transaction:
        # 100 ms, the default, would be the length of every transaction.
        "retry.backoff.ms": 1,
        "retry.backoff.max.ms": 10,
        "enable.sparse.connections": "false",
        "socket.nagle.disable": "true",
        "log_level": 3,
    }


class Membership(bytes):
    """Group metadata as captured from the consumer; the broker refuses it once the generation is over (KIP-447)."""

    @property
    def valid(self) -> bool:
        """False for metadata without member or generation, which a broker would accept unchecked."""
        if not self.startswith(b"CGMDv2:") or len(self) < 12:
            return False
        (generation,) = struct.unpack_from("=i", self, 7)
        member = self[11:].split(b"\0")[1] if self.count(b"\0", 11) >= 2 else b""
        return generation >= 0 and bool(member)


class _Sender:
    """A thread that sends offsets, and may be left behind when a sending does not end."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[None], Callable[[], None]]] = queue.SimpleQueue()
        # As a daemon, because one that hangs must not keep the process from ending.
        threading.Thread(target=self._run, name="offsets", daemon=True).start()

    def __call__(self, send: Callable[[], None], timeout_s: float) -> None:
        """Wait for ``send`` and raise what it raises, or ``TimeoutError``."""
        done: Future[None] = Future()
        self._calls.put((done, send))
        done.result(timeout_s)

    def _run(self) -> None:
        while True:
            done, send = self._calls.get()
            try:
                done.set_result(send())
            except Exception as error:  # noqa: BLE001  # whatever it is, it is raised where the call was made
                done.set_exception(error)
            del done, send  # else a producer that is dropped would live, connected, until the next call


class TransactionalWriter:
    """Blocking; used by one thread at a time, but while offsets are being sent another may produce, and until the commit is
    through take reports. After any failure the caller must abort, then ask the broker what is true.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        transactional: str,
        timeout_ms: int,
        linger_ms: float,
        task_topics: TaskTopics | None = None,
    ) -> None:
        """``task_topics`` must be there before anything is produced to them."""
        self.id = transactional
        self._task_topics = task_topics
        self._settings = producer_settings(kafka, transactional, timeout_ms, linger_ms)
        self._timeout_s = timeout_ms / 1000
        self._producer: Producer | None = None
        self._sender = _Sender()
        self._open = False
        self._doubtful = False
        self._disconnected = False
        self._connected = False
        self._renewals: list[float] = []

    def connect(self) -> bool:
        """Make topics that are missing, and the producer if there is none: ends whatever transaction this id had open,
        wherever. Tells whether the producer stands in the place of an earlier one.

        Raises :class:`NodeTaken` when the id was fenced three times within ten seconds: a second process runs as
        this node; :class:`TopicRefused` when the brokers will not make a topic. Other errors are ``KafkaException``:
        try again later.
        """
        if self._task_topics is not None and self._task_topics.missing:
            self._task_topics.make()
        if self._producer is not None and not self._doubtful:
            return False
        self._producer, self._open = None, False
        settings = {**self._settings, "error_cb": self._heard}
        producer = Producer(settings)
        producer.init_transactions(30)
        # Published only now: init_transactions must not be called twice at the same time.
        self._producer, self._doubtful, self._disconnected = producer, False, False
        again, self._connected = self._connected, True
        return again

    @property
    def usable(self) -> bool:
        """False when connect() has to make a new producer, or topics, before the next transaction."""
        missing = self._task_topics is not None and self._task_topics.missing
        return self._producer is not None and not self._doubtful and not missing

    def begin(self) -> None:
        """Open a transaction."""
        assert self._producer is not None, "connect() comes first"
        self._producer.begin_transaction()
        self._open = True

    def produce(self, records: list[Produced]) -> None:
        """Queue records, and empty the list. Raises at once for a record that is too large, or a full queue; delivery
        fails at commit.
        """
        assert self._producer is not None
        produce = self._producer.produce
        records.reverse()
        while records:  # each is freed while the processor still has it at hand
            topic, value, key, partition, headers = records.pop()
            # By position: a keyword costs a dict a record. Neither call back nor time stamp.
            produce(topic, value, key, partition, None, None, 0, headers)  # type: ignore[arg-type]  # list is invariant

    def take_reports(self) -> None:
        """Take the reports of what is delivered, without waiting. What is not taken here is taken while committing, in
        whose thread each report waits for the interpreter: confluent-kafka takes its lock even when nobody is to be told.
        """
        if self._producer is not None:
            self._producer.poll(0)

    def send_offsets(self, offsets: list[TopicPartition], membership: Membership) -> None:
        """Put the offsets into the transaction, for the broker to check against the group's generation. Raises
        ``_TIMED_OUT`` after half the transaction's time-out; the producer is then of no use any more.
        """
        assert self._producer is not None
        # librdkafka up to 2.16 does not keep this call's time-out (its issue 5456): when the group's coordinator was away
        # for a moment it may wait for ever, and whoever waits for the transaction with it. So it waits in a thread of its own.
        timeout_s = self._timeout_s / 2
        send = partial(self._producer.send_offsets_to_transaction, offsets, bytes(membership), timeout_s)
        try:
            self._sender(send, timeout_s)
        except TimeoutError:
            self._sender = _Sender()
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, "the offsets could not be sent in time")
            ) from None

    def commit(self) -> None:
        """Commit. A slow commit, or one that saw a disconnect, makes the next connect() replace the producer: a late
        EndTxn could otherwise end the next transaction.
        """
        assert self._producer is not None
        start = time.monotonic()
        self._producer.commit_transaction(self._timeout_s)
        self._open = False
        if time.monotonic() - start > _SLOW_COMMIT_S or self._disconnected:
            self._doubtful = True

    def abort(self, error: BaseException) -> None:
        """Undo the open transaction, if there is one: abort it if the producer lives, else drop the producer
        (connect() ends it).
        """
        if self._task_topics is not None:
            self._task_topics.forget()
        if self._producer is None or not self._open:
            return
        self._open = False
        if self._alive(error):
            try:
                self._producer.abort_transaction(self._timeout_s)
                return
            except KafkaException as second:
                _log.warning("abort failed: %s", second.args[0])
                error = second
        self._producer = None
        self._fenced(error)

    def _alive(self, error: BaseException) -> bool:
        if not isinstance(error, KafkaException):
            return True  # never reached the broker: a local error, such as a full queue
        cause = error.args[0]
        if cause.code() in _FENCING or cause.fatal():
            return False
        return bool(cause.txn_requires_abort()) or cause.code() in (
            KafkaError.MSG_SIZE_TOO_LARGE,
            KafkaError._QUEUE_FULL,
            KafkaError._INVALID_ARG,
        )

    def _fenced(self, error: BaseException) -> None:
        if not (isinstance(error, KafkaException) and error.args[0].code() in _FENCING):
            return
        now = time.monotonic()
        self._renewals = [at for at in self._renewals if now - at < _FENCED_WITHIN_S] + [now]
        if len(self._renewals) >= _FENCED_TIMES_MAX:
            raise NodeTaken(
                f"{self.id} was fenced {len(self._renewals)} times in {_FENCED_WITHIN_S:.0f} s: another process runs as"
                " this node; give each its own FLEXCORE_NODE and data directory"
            ) from error

    def _heard(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT):
            self._disconnected = True
