"""A transactional producer that speaks transactions version 2 (KIP-890): brokers enrol partitions and offsets as they
come, and each transaction has an epoch of its own, so nothing that is late can touch the next one.

Requests go one after another: a broker that enrols two at a time for one transaction refuses the first of them, and
waits 20 ms before it asks its coordinator again.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from kio.schema.errors import ErrorCode

from streams.protocol import messages, requests
from streams.protocol.cluster import CALL_S_MAX, Cluster, failure
from streams.protocol.messages import GROUP, TRANSACTION, Partition
from streams.protocol.record_batch import Batches, RecordBatch
from streams.protocol.security import Security

_BATCH_BYTES_MAX: Final = 5 << 20
_PAUSE_S: Final = 0.001
_PAUSE_S_MAX: Final = 0.05

# librdkafka has no names for some of these.
_PRODUCER_FENCED = 90
_SEEN_ALREADY = KafkaError.DUPLICATE_SEQUENCE_NUMBER
# After these the producer is of no use any more.
_FATAL = {
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_TXN_STATE,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
    _PRODUCER_FENCED,
}

Group = tuple[str, int, str, str | None]
"""A group's id, its generation, the member's id, and its instance id if it is a static member."""


class TransactionalProducer:
    """Blocking, for one thread at a time; another may add to the batches meanwhile.

    Errors are ``KafkaException``. One that is not ``fatal()`` leaves the transaction to be aborted; after a fatal one,
    such as a commit without an answer until the transaction's time is over, the producer must be closed, and the next one
    of this id finds out what became of the transaction.
    """

    def __init__(self, bootstrap: str, security: Security, transactional: str, timeout_ms: int) -> None:
        """``bootstrap`` is librdkafka's ``bootstrap.servers``; nothing connects before :meth:`init_transactions`."""
        self._cluster = Cluster(bootstrap, security, transactional)
        self._transactional = transactional
        self._timeout_ms = timeout_ms
        self._who = (transactional, -1, -1)
        self._sequences: dict[Partition, int] = {}
        self._batches = Batches()
        self._enrolled = False
        self._until = 0.0

    def close(self) -> None:
        """Close all connections. An open transaction stays open, until its id is used again or it times out."""
        self._cluster.close()

    def init_transactions(self, timeout_s: float) -> None:
        """Become the one producer of the transactional id: others are fenced, and their transaction is ended."""

        def step(left_s: float) -> KafkaException | None:
            node = self._cluster.coordinator(TRANSACTION, self._transactional, left_s)
            request = messages.init_producer_id(self._transactional, self._timeout_ms)
            answer = self._call(node, request, left_s)
            if answer.error_code:
                return self._refused(answer.error_code, "the transactional id")
            self._who = (self._transactional, answer.producer_id, answer.producer_epoch)
            return None

        self._repeat(step, time.monotonic() + timeout_s)
        self._sequences.clear()

    def begin_transaction(self, batches: Batches) -> None:
        """Begin; brokers hear of it by what is written. ``batches`` hold what is to be written, and may be added to until the
        end; :meth:`flush` and :meth:`commit_transaction` take it out.
        """
        self._batches = batches
        self._enrolled = False
        self._until = time.monotonic() + self._timeout_ms / 1000

    def flush(self) -> None:
        """Write what is in the batches so far, and return when all replicas in sync have it."""
        for batches in self._batches.take():
            self._write(batches)

    def send_offsets_to_transaction(
        self, offsets: Iterable[TopicPartition], group: Group, timeout_s: float
    ) -> None:
        """Put a group's offsets into the transaction; its coordinator checks the generation and the member (KIP-447)."""
        found = list(offsets)

        def step(left_s: float) -> KafkaException | None:
            node = self._cluster.coordinator(GROUP, group[0], left_s)
            self._enrolled = True
            answer = self._call(node, requests.txn_offset_commit(self._who, group, found), left_s)
            refused = [
                self._refused(one.error_code, f"the offset of {topic.name} {one.partition_index}")
                for topic in answer.topics
                for one in topic.partitions
                if one.error_code
            ]
            return refused[0] if refused else None

        self._repeat(step, min(self._until, time.monotonic() + timeout_s))

    def commit_transaction(self) -> None:
        """Write the rest and commit. What fails after everything is written is fatal: it may be committed."""
        self.flush()
        self._end(committed=True)

    def abort_transaction(self) -> None:
        """Abort; what is not written yet is dropped."""
        self._batches = Batches()
        self._until = max(self._until, time.monotonic() + CALL_S_MAX)
        self._end(committed=False)

    # ---------------------------------------------------------------- requests
    def _write(self, batches: dict[Partition, RecordBatch]) -> None:
        _, producer_id, epoch = self._who
        now_ms = int(time.time() * 1000)
        rest: dict[Partition, bytes] = {}
        for where, batch in batches.items():
            sequence = self._sequences.get(where, 0)
            self._sequences[where] = sequence + batch.count
            rest[where] = data = batch.encode(producer_id, epoch, sequence, now_ms)
            if len(data) > _BATCH_BYTES_MAX:
                text = f"a record for {where[0]} has {len(data)} bytes, and {_BATCH_BYTES_MAX} at most are written"
                raise failure(KafkaError.MSG_SIZE_TOO_LARGE, text, abort=True)

        def step(left_s: float) -> KafkaException | None:
            said: KafkaException | None = None
            leaders = self._cluster.leaders(rest, left_s)
            for node in sorted(set(leaders.values())):
                mine = {where: data for where, data in rest.items() if leaders.get(where) == node}
                said = self._write_to(node, mine, rest, left_s) or said
            if rest and said is None:
                said = failure(
                    KafkaError.LEADER_NOT_AVAILABLE, f"nobody leads {sorted(rest)}", retriable=True
                )
            return said

        self._repeat(step, self._until)

    def _write_to(
        self, node: int, mine: dict[Partition, bytes], rest: dict[Partition, bytes], left_s: float
    ) -> KafkaException | None:
        """Write to one broker; what it has is taken out of ``rest``. Return why some of it is to be written again."""
        self._enrolled = True
        timeout_s = min(left_s, CALL_S_MAX)
        try:
            answer = self._call(node, requests.produce(self._transactional, mine, timeout_s), timeout_s)
        except KafkaException as error:
            return _if_retriable(error)
        said = None
        for topic in answer.responses:
            for one in topic.partition_responses:
                code = int(one.error_code)
                # Seen already: the answer to the first attempt did not come.
                if code in (0, _SEEN_ALREADY):
                    del rest[str(topic.name), one.index]
                    continue
                said = self._refused(one.error_code, f"{topic.name} {one.index}: {one.error_message or ''}")
        return said

    def _end(self, *, committed: bool) -> None:
        if not self._enrolled:
            self._sequences.clear()
            return

        def step(left_s: float) -> KafkaException | None:
            node = self._cluster.coordinator(TRANSACTION, self._transactional, left_s)
            # When the answer did not come it is asked again: the coordinator knows by the epoch what it has done already.
            answer = self._call(node, messages.end_txn(self._who, committed), left_s)
            if answer.error_code:
                return self._refused(answer.error_code, "the transaction")
            self._who = (self._transactional, answer.producer_id, answer.producer_epoch)
            return None

        try:
            self._repeat(step, self._until)
        except KafkaException as error:
            cause = error.args[0]
            text = f"it is not known what became of the transaction: {cause.str()}"
            raise failure(cause.code(), text, fatal=True) from error
        self._enrolled = False
        self._sequences.clear()

    def _call(
        self, node: int, request: tuple[object, type[messages.Answer]], timeout_s: float
    ) -> messages.Answer:
        try:
            return self._cluster.connection(node, timeout_s).call(request, min(timeout_s, CALL_S_MAX))
        except KafkaException:
            self._cluster.lost(node)
            raise

    def _refused(self, error: ErrorCode, what: str) -> KafkaException:
        """Return the error if it is worth another try; raise it if not."""
        code = int(error)
        text = f"{what}: {KafkaError(code).str()}"
        if code in _FATAL:
            raise failure(KafkaError._FENCED if code == _PRODUCER_FENCED else code, text, fatal=True)
        if not error.retriable:
            raise failure(code, text, abort=True)
        if code != KafkaError.CONCURRENT_TRANSACTIONS:
            self._cluster.lost()
        return failure(code, text, retriable=True)

    def _repeat(self, step: Callable[[float], KafkaException | None], until: float) -> None:
        """Take a step until it has nothing to say; raise what it said last when the time is over."""
        pause_s = _PAUSE_S
        while True:
            try:
                said = step(max(until - time.monotonic(), _PAUSE_S))
            except KafkaException as error:
                said = _if_retriable(error)
            if said is None:
                return
            if time.monotonic() + pause_s > until:
                cause = said.args[0]
                raise failure(cause.code(), f"{cause.str()}, until the time was over", abort=True) from said
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _PAUSE_S_MAX)


def _if_retriable(error: KafkaException) -> KafkaException:
    """Return the error if it is worth another try; raise it if not."""
    if not error.args[0].retriable():
        raise error
    return error
