"""The worker's one transactional producer: begin, produce, commit with offsets, abort, and made anew when fenced."""

import logging
import struct
import time
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.failures import NodeTaken
from streams.protocol.producer import Group, TransactionalProducer
from streams.protocol.record_batch import Batches
from streams.protocol.security import Security
from streams.writer.task_topics import TaskTopics

_log = logging.getLogger(__name__)
_CONNECT_S = 30.0
_FENCED_TIMES_MAX = 3
_FENCED_WITHIN_S = 10.0
_FENCING = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_CGMD = b"CGMDv2:"


def transactional_id(cluster: str, node: str) -> str:
    """Return the id that a node's writer has for ever: who takes over its shards can fence it by this name."""
    return f"{cluster}/node/{node}"


class Membership(bytes):
    """Group metadata as captured from the consumer; the broker refuses it once the generation is over (KIP-447)."""

    @property
    def valid(self) -> bool:
        """False for metadata without member or generation, which a broker would accept unchecked."""
        try:
            _, generation, member, _ = self.group
        except (ValueError, struct.error):
            return False
        return generation >= 0 and bool(member)

    @property
    def group(self) -> Group:
        """What the metadata says. Raises ``ValueError`` or ``struct.error`` if it is none of librdkafka's."""
        if not self.startswith(_CGMD):
            raise ValueError("no group metadata")
        (generation,) = struct.unpack_from("=i", self, len(_CGMD))
        group, member, rest = self[len(_CGMD) + 4 :].split(b"\0", 2)
        # One byte says whether there is no instance id; it follows, and a zero.
        instance = None if rest[:1] != b"\0" else rest[1:-1].decode()
        return group.decode(), generation, member.decode(), instance


class TransactionalWriter:
    """Blocking; used by one thread at a time, but another may add to the batches meanwhile. After any failure the caller
    must abort, then ask the broker what is true.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        transactional: str,
        timeout_ms: int,
        task_topics: TaskTopics | None = None,
    ) -> None:
        """``kafka`` are librdkafka's settings; of them the servers count, and those of TLS and SASL. ``task_topics`` must be
        there before anything is produced to them. Raises :class:`UnsupportedSecurity`.
        """
        self.id = transactional
        self._task_topics = task_topics
        self._bootstrap, self._security = kafka["bootstrap.servers"], Security.of(kafka)
        self._timeout_ms = timeout_ms
        self._producer: TransactionalProducer | None = None
        self._failure: KafkaException | None = None
        self._open = False
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
        if self._producer is not None:
            return False
        self._open = False
        producer = TransactionalProducer(self._bootstrap, self._security, self.id, self._timeout_ms)
        try:
            producer.init_transactions(_CONNECT_S)
        except BaseException:
            producer.close()
            raise
        self._producer = producer
        again, self._connected = self._connected, True
        return again

    @property
    def usable(self) -> bool:
        """False when connect() has to make a new producer, or topics, before the next transaction."""
        missing = self._task_topics is not None and self._task_topics.missing
        return self._producer is not None and not missing

    def begin(self, batches: Batches) -> None:
        """Open a transaction for what ``batches`` hold, and what is added to them until :meth:`commit`."""
        assert self._producer is not None, "connect() comes first"
        self._failure = None
        self._producer.begin_transaction(batches)
        self._open = True

    def flush(self) -> None:
        """Write what is there so far. What fails is raised by :meth:`commit`."""
        if self._producer is None or self._failure is not None:
            return
        try:
            self._producer.flush()
        except KafkaException as error:
            self._failure = error

    def send_offsets(self, offsets: list[TopicPartition], membership: Membership) -> None:
        """Put the offsets into the transaction, for the broker to check against the group's generation; for half of the
        transaction's time-out at most.
        """
        assert self._producer is not None
        self._producer.send_offsets_to_transaction(offsets, membership.group, self._timeout_ms / 2000)

    def commit(self) -> None:
        """Write the rest and commit."""
        assert self._producer is not None
        if self._failure is not None:
            raise self._failure
        self._producer.commit_transaction()
        self._open = False

    def abort(self, error: BaseException) -> None:
        """Undo the open transaction, if there is one: abort it if the producer lives, else drop the producer
        (connect() ends it).
        """
        if self._task_topics is not None:
            self._task_topics.forget()
        if self._producer is None or not self._open:
            return
        self._open = False
        if not _fatal(error):
            try:
                self._producer.abort_transaction()
                return
            except KafkaException as second:
                _log.warning("abort failed: %s", second.args[0])
                error = second
        self.close()
        self._fenced(error)

    def close(self) -> None:
        """Close the producer's connections, if there are any."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

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


def _fatal(error: BaseException) -> bool:
    """False for what leaves the producer alive; errors that never reached the broker do."""
    return isinstance(error, KafkaException) and bool(error.args[0].fatal())
