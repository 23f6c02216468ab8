"""Holding a bookmark: records and the bookmark that covers them commit in one Kafka transaction."""

import queue
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import KafkaException, Producer

from connectors.sdk.commands import CommandEncoder, EncodedCommand, command_headers
from connectors.sdk.errors import BookmarkHeld, RetryableError, Superseded, Unavailable
from connectors.sdk.outcomes import OutcomeFollower
from schemas.codec import Codec
from schemas.partitioning import partition_of
from schemas.topics import Topics, key_of

_TRANSACTION_TIMEOUT_MS = 10_000
_KAFKA_TIMEOUT_S = 30.0
_OUTCOME_TIMEOUT_S = 60.0
_RECORD_BYTES_MAX = 4 << 20
_BOOKMARK_BYTES_MAX = 900_000

Headers = list[tuple[str, str | bytes | None]]


class Interrupted(RetryableError):
    """The transaction is lost, and with it all since the last bookmark. While the lease stands: begin again."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt runs: the cluster and the step it works for."""

    kafka: Mapping[str, str]
    cluster: str
    topics: Topics
    shards: int
    codec: Codec
    tenant: str
    pipeline: str
    step: str

    @property
    def bookmark_id(self) -> str:
        """The id of the bookmark aggregate of this step."""
        return f"{self.pipeline}/{self.step}"

    @property
    def client_id(self) -> str:
        """How this attempt's Kafka clients call themselves."""
        return f"{self.cluster}/{self.tenant}/{self.pipeline}/{self.step}"


@dataclass(frozen=True, slots=True)
class Lease:
    """Which attempt this is; ``token`` is its lease."""

    run: str
    attempt: int
    token: str


@dataclass(frozen=True, slots=True)
class Begun:
    """Where an attempt goes on: the newest bookmark (None: from the beginning) and its dataset's generation."""

    bookmark: Any | None
    generation: str
    starts: dict[int, int]


class BookmarkHolder:
    """The one writer of a step: ``transactional.id = <cluster>/bookmark/<tenant>/<pipeline>/<step>``.

    Order of use: :meth:`fence`, :meth:`begin`, then any number of :meth:`produce` and :meth:`advance`, the last one
    with :meth:`finish`. Nothing that was produced is visible before the ``advance`` after it returned. Every method
    blocks. All raise Interrupted when the transaction is lost: close this holder and make a new one. Not thread-safe.
    """

    def __init__(self, place: Place, lease: Lease) -> None:
        self._place = place
        self._lease = lease
        self._encoder = CommandEncoder(place.codec, place.topics, place.shards)
        self._key = key_of(place.tenant, place.bookmark_id)
        shard = partition_of(self._key, place.shards)
        self._outcomes: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()
        self._asked: set[bytes] = set()
        self._follower = OutcomeFollower(
            place.kafka, [(place.topics.outcomes("bookmark"), shard)], self._received, place.client_id
        )
        self._producer = Producer(
            {
                **place.kafka,
                "client.id": place.client_id,
                "transactional.id": f"{place.cluster}/bookmark/{place.tenant}/{place.pipeline}/{place.step}",
                "transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS,
                "message.max.bytes": _RECORD_BYTES_MAX,
                "linger.ms": 20,
                "batch.size": 1 << 18,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 200_000,
                "retry.backoff.ms": 1,
                "retry.backoff.max.ms": 10,
                "enable.sparse.connections": False,
            }
        )
        self._open_since: float | None = None

    def fence(self) -> None:
        """End every earlier writer of this step, and whatever it had not committed."""
        try:
            self._follower.start()
            self._producer.init_transactions(_KAFKA_TIMEOUT_S)
        except KafkaException as error:
            raise Unavailable(f"Kafka does not give this step its writer: {error.args[0].str()}") from error

    def begin(self, topic_id: str, ends: Mapping[int, int], full_refresh: bool) -> Begun:
        """Take the bookmark. Raise BookmarkHeld or Superseded when it is not for this attempt."""
        body = {
            **self._attempt(),
            "generation": str(uuid.uuid4()),
            "topic_id": topic_id,
            "ends": {str(partition): end for partition, end in ends.items()},
            "full_refresh": full_refresh,
        }
        reply = orjson.loads(self._ask("Begin", body)["reply"] or "{}")
        starts = {int(partition): offset for partition, offset in (reply.get("starts") or {}).items()}
        return Begun(_plain(reply.get("bookmark")), reply["generation"], starts)

    def produce(self, topic: str, key: bytes | None, value: bytes, partition: int, headers: Headers) -> None:
        """Add a record to the transaction; the first one opens it."""
        if self._open_since is None:
            self._open()
        try:
            self._producer.produce(topic, value, key, partition, None, None, 0, headers)
        except BufferError:
            self._make_room(topic, key, value, partition, headers)
        except KafkaException as error:
            raise Interrupted(f"Kafka does not take a record for {topic}: {error.args[0].str()}") from error

    def open_for_s(self) -> float:
        """Return how long the present transaction has been open, 0 when there is none."""
        return 0.0 if self._open_since is None else time.monotonic() - self._open_since

    def advance(self, bookmark: Any, counts: Mapping[int, int], rejected: int) -> None:
        """Write the bookmark last in the transaction of the records it covers, and commit."""
        self._advance(bookmark, counts, rejected, final=False)
        self._refuse_when_rejected()

    def finish(self, bookmark: Any, counts: Mapping[int, int], rejected: int) -> None:
        """Advance for the last time, give the bookmark back, and wait until that is accepted."""
        command = self._advance(bookmark, counts, rejected, final=True)
        self._outcome_of(command)

    def close(self) -> None:
        """Leave. What was not committed is dropped."""
        if self._open_since is not None:
            # A transaction that cannot be aborted here is aborted by the next writer's fence.
            try:
                self._producer.purge()
                self._producer.abort_transaction(2.0)
            except KafkaException:
                self._open_since = None
        self._follower.stop()

    def _attempt(self) -> dict[str, Any]:
        return {"run": self._lease.run, "attempt": self._lease.attempt, "token": self._lease.token}

    def _open(self) -> None:
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise Interrupted(f"the step's writer was replaced: {error.args[0].str()}") from error
        self._open_since = time.monotonic()

    def _make_room(
        self, topic: str, key: bytes | None, value: bytes, partition: int, headers: Headers
    ) -> None:
        deadline = time.monotonic() + _KAFKA_TIMEOUT_S
        while time.monotonic() < deadline:
            self._producer.poll(0.05)
            try:
                self._producer.produce(topic, value, key, partition, None, None, 0, headers)
                return
            except BufferError:
                continue
            except KafkaException as error:
                raise Interrupted(
                    f"Kafka does not take a record for {topic}: {error.args[0].str()}"
                ) from error
        raise Unavailable(f"Kafka has not taken records for {topic} for {_KAFKA_TIMEOUT_S:.0f} s")

    def _advance(self, bookmark: Any, counts: Mapping[int, int], rejected: int, final: bool) -> bytes:
        text = orjson.dumps(bookmark).decode()
        if len(text) > _BOOKMARK_BYTES_MAX:
            raise RetryableError(
                f"the bookmark of {self._place.bookmark_id} is larger than {_BOOKMARK_BYTES_MAX} bytes"
            )
        body = {
            **self._attempt(),
            "bookmark": text,
            "counts": {str(partition): count for partition, count in counts.items()},
            "rejected": rejected,
            "final": final,
        }
        command_id = self._produce_command("Advance", body)
        self._commit()
        return command_id

    def _ask(self, command_type: str, body: dict[str, Any]) -> dict[str, Any]:
        command_id = self._produce_command(command_type, body)
        self._commit()
        return self._outcome_of(command_id)

    def _produce_command(self, command_type: str, body: dict[str, Any]) -> bytes:
        command_id = str(uuid.uuid4())
        headers = command_headers(command_id, command_type, "runner", correlation_id=self._lease.run)
        command: EncodedCommand = self._encoder.encode(
            "bookmark", self._place.bookmark_id, command_type, body, self._place.tenant, headers
        )
        self._asked.add(command_id.encode())
        self.produce(command.topic, command.key, command.value, command.partition, command.headers)
        return command_id.encode()

    def _commit(self) -> None:
        deadline = time.monotonic() + _KAFKA_TIMEOUT_S
        while True:
            try:
                self._producer.commit_transaction(_KAFKA_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].retriable() and time.monotonic() < deadline:
                    continue
                # Aborted, fenced or unknown: the next fence settles it, and Begin tells the true bookmark.
                raise Interrupted(f"the transaction was not committed: {error.args[0].str()}") from error
            self._open_since = None
            return

    def _received(self, _topic: str, key: bytes | None, value: bytes | None) -> None:
        if key is not None and value is not None and key in self._asked:
            self._outcomes.put((key, value))

    def _outcome_of(self, command_id: bytes) -> dict[str, Any]:
        deadline = time.monotonic() + _OUTCOME_TIMEOUT_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                key, value = self._outcomes.get(timeout=left)
            except queue.Empty:
                break
            outcome = self._settled(key, value)
            if key == command_id:
                return outcome
        raise Unavailable(f"no worker has answered about the bookmark {self._place.bookmark_id} for a minute")

    def _refuse_when_rejected(self) -> None:
        while not self._outcomes.empty():
            self._settled(*self._outcomes.get())

    def _settled(self, key: bytes, value: bytes) -> dict[str, Any]:
        self._asked.discard(key)
        _name, outcome = self._place.codec.decode(value)
        if outcome["status"] == "accepted":
            return outcome
        reason, detail = outcome["reason"], outcome["detail"] or outcome["reason"]
        if reason == "held":
            raise BookmarkHeld(f"the bookmark {self._place.bookmark_id} is in use: {detail}")
        raise Superseded(f"the bookmark {self._place.bookmark_id} is no longer this attempt's: {detail}")


def _plain(bookmark: Any) -> Any | None:
    """A bookmark is JSON text inside the reply; an owner may also have unpacked it already."""
    return orjson.loads(bookmark) if isinstance(bookmark, str) else bookmark
