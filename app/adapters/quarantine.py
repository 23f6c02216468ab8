"""Quarantine on Kafka: records go to their commands topic again, and every deed is noted on their own topic."""

import asyncio
import threading
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from app.adapters.system_clock import now_text
from app.adapters.view_store import ViewStore
from app.errors import problem
from app.ports import Edit, Place, Row
from connectors.sdk.producer import IDEMPOTENT
from schemas import topics as names
from schemas.errors import RegistryUnavailable
from schemas.partitioning import partition_of
from schemas.topics import Topics
from streams.failures import Poison
from streams.projections.quarantine import ALIKE_HEADER, ATTEMPTS_HEADER, FAILURE_HEADER, failure, place_of
from streams.protocol.record import Record
from streams.protocol.record_batch import headers_of
from streams.translation import to_record
from streams.writer.decoding import Decoder

_TIMEOUT_S = 10.0
_NO_ID = uuid.uuid5(uuid.NAMESPACE_URL, "flexcore")
_BYTES_MAX = 16 << 20
_NEAR = 500  # reading on over so many records is cheaper than asking for another place
Headers = list[tuple[str, bytes]]
Outgoing = tuple[str, int, bytes, bytes, Headers]  # topic, partition, key, value, headers


class KafkaQuarantine:
    """A :class:`app.ports.Quarantine`. The view says where a record is; its bytes are read from the log."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        topics: Topics,
        shards: int,
        store: ViewStore,
        decoders: Mapping[str, Decoder],
        parks: Collection[str] = (),
    ) -> None:
        """``parks``: the kinds of aggregates whose commands wait; of others none does any more."""
        self._kafka = dict(kafka)
        self._topics = topics
        self._shards = shards
        self._store = store
        self._decoders = decoders
        self._parks = parks
        self._producer: Producer | None = None
        self._sending = threading.Lock()

    async def find(self, tenant: str, places: Sequence[Place]) -> list[Row]:
        """Return the rows as the port says."""
        rows = await self._store.quarantined(tenant, places)
        return [row if row["aggregate"] in self._parks else {**row, "parked": None} for row in rows]

    async def command(self, row: Row) -> Row | None:
        """Return ``type`` and ``data`` of the command in a row, or None when it cannot be decoded from what is there."""
        if row["size"] > len(row["sample"]):
            return None
        headers = [(name, text.encode()) for name, text in row["headers"].items()]
        found = row["source_topic"], 0, row["original_key"].encode(), row["sample"], headers
        try:
            command = await asyncio.to_thread(self._decoders[row["aggregate"]].decode, _record(found))
        except (Poison, RegistryUnavailable):
            return None
        return {"type": command.kind, "data": to_record(command.message.body)}

    async def redrive(self, rows: Sequence[Row], actor: str, edit: Edit | None = None) -> list[str | None]:
        """Send, then note, as the port says."""
        sent: list[str | None] = []
        for some in bounded(rows):
            sent += await asyncio.to_thread(self._redrive, some, actor, edit)
        return sent

    async def drop(self, rows: Sequence[Row], actor: str, reason: str) -> None:
        """Note as the port says; those that wait before those they wait for, which let them go."""
        at = now_text().encode()
        headers = [("dropped-by", actor.encode()), ("reason", reason.encode()), ("at", at)]
        first = [row for row in rows if row["parked"] == "first"]
        others = [self._note(row, b"", headers) for row in rows if row["parked"] != "first"]
        await asyncio.to_thread(self._produce, others)
        # The owner first: a note that it has not heard of would hide what still holds others up.
        await asyncio.to_thread(self._produce, [self._drop(row, actor) for row in first])
        await asyncio.to_thread(self._produce, [self._note(row, b"", headers) for row in first])

    def _drop(self, row: Row, actor: str) -> Outgoing:
        """Return the record that tells the owner: what waits behind this one goes on."""
        key = row["original_key"].encode()
        headers = [(names.DROP_OF, place_of(row).encode()), (names.ACTOR, actor.encode())]
        return self._topics.commands(row["aggregate"]), partition_of(key, self._shards), key, b"", headers

    def _redrive(self, rows: Sequence[Row], actor: str, edit: Edit | None) -> list[str | None]:
        try:
            found = self._read(rows)
        except KafkaException as error:
            raise problem("unavailable", f"The quarantine cannot be read: {error.args[0].str()}.") from error
        commands: list[Outgoing] = []
        notes: list[Outgoing] = []
        sent: list[str | None] = []
        at = now_text().encode()
        for row in rows:
            record = found.get(_spot(row, self._topics))
            if record is None:
                sent.append(None)
                continue
            fresh = redrive_id(row)
            command = self._command(row, record, fresh, actor)
            if edit is not None:
                command = self._edited(row["aggregate"], command, edit)
            commands.append(command)
            note = [("redriven-by", actor.encode()), ("redrive-command-id", fresh.encode()), ("at", at)]
            # What somebody wrote in place of it is kept as long as what was there before.
            marked = note if edit is None else [*note, ("edited", b"true")]
            notes.append(self._note(row, b"" if edit is None else command[3], marked))
            sent.append(fresh)
        # The commands first: a note without its command would hide the record, a command without note does not.
        self._produce(commands)
        self._produce(notes)
        return sent

    def _command(self, row: Row, record: Message, fresh: str, actor: str) -> Outgoing:
        """Return the record as it came, with a new id, caused by the old one, and with what became of it so far."""
        headers = _headers(record)
        key = dict(headers)[names.ORIGINAL_KEY]
        replaced = {
            names.COMMAND_ID: fresh,
            names.CAUSATION_ID: _old_id(row),
            names.ACTOR: actor,
            names.REDRIVE_OF: place_of(row),
            ATTEMPTS_HEADER: str(row["attempts"]),
            FAILURE_HEADER: failure(row["cause"], row["fingerprint"]),
            ALIKE_HEADER: str(row["failed_alike"]),
        }
        # Where it was forwarded to no longer counts.
        kept = [
            (name, value)
            for name, value in names.original(headers)
            if name not in replaced and name != "forwarded"
        ]
        stated = [(name, text.encode()) for name, text in replaced.items()]
        if names.CORRELATION_ID not in dict(kept):  # without one, a command is the first of its own
            stated.append((names.CORRELATION_ID, _old_id(row).encode()))
        topic, partition = self._topics.commands(row["aggregate"]), partition_of(key, self._shards)
        return topic, partition, key, record.value() or b"", [*stated, *kept]

    def _edited(self, aggregate: str, command: Outgoing, edit: Edit) -> Outgoing:
        """Return the command with other data; raises ``invalid`` with what its owner would say to it."""
        decoder = self._decoders[aggregate]
        topic, partition, key, _, headers = command
        kind = edit.type or dict(headers).get(names.COMMAND_TYPE, b"").decode("utf-8", "replace")
        if not kind:
            try:
                kind = decoder.decode(_record(command)).kind
            except Poison as poison:
                detail = f"its type cannot be told ({poison.detail})"
                fault = {"pointer": "/type", "detail": detail, "fix": "say in `type` which command it is"}
                raise problem("invalid", f"The record cannot be edited: {detail}.", [fault]) from None
        others = [(name, value) for name, value in headers if name != names.COMMAND_TYPE]
        edited = (
            topic,
            partition,
            key,
            orjson.dumps(edit.data),
            [*others, (names.COMMAND_TYPE, kind.encode())],
        )
        try:
            decoder.decode(_record(edited))
        except Poison as poison:
            pointer = "/type" if poison.cause == "unknown_type" else "/data"
            fault = {"pointer": pointer, "detail": poison.detail}
            raise problem("invalid", f"It would fail again: {poison.detail}.", [fault]) from None
        return edited

    def _note(self, row: Row, value: bytes, headers: Headers) -> Outgoing:
        topic, partition, _ = _spot(row, self._topics)
        return topic, partition, place_of(row).encode(), value, headers

    # ---------------------------------------------------------------- Kafka; blocking
    def _read(self, rows: Sequence[Row]) -> dict[Place, Message]:
        """Return the quarantined records of the rows, as far as they are still kept."""
        consumer = Consumer(
            {
                **self._kafka,
                "group.id": "flexcore.quarantine",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.sparse.connections": False,
                "fetch.wait.max.ms": 5,  # a fetch at the end of one partition holds up the next one
                "log_level": 2,
            }
        )
        found: dict[Place, Message] = {}
        with closing(consumer):
            spots = sorted({_spot(row, self._topics) for row in rows})
            for (topic, partition), group in groupby(spots, key=lambda spot: spot[:2]):
                offsets = [offset for _, _, offset in group]
                for record in _records(consumer, topic, partition, offsets):
                    found[topic, partition, record.offset() or 0] = record
        return found

    def _produce(self, records: Sequence[Outgoing]) -> None:
        """Return when Kafka has all of them; raises ``unavailable``: some may be written then."""
        if not records:
            return
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _record: Any) -> None:
            if error is not None:
                failed.append(error)

        with self._sending:
            producer = self._producer or self._started()
            for topic, partition, key, value, headers in records:
                producer.produce(topic, value, key, partition, delivered, headers=[*headers])
            left = producer.flush(_TIMEOUT_S)
            # Kept, because an idempotent one takes half a second to begin; but not one that something is wrong with.
            self._producer = None if left or failed else producer
        if left or failed:
            text = (
                "Kafka did not take all of it; doing it again repeats what was done, and does nothing twice."
            )
            raise problem("unavailable", text)

    def _started(self) -> Producer:
        return Producer(
            {
                **self._kafka,
                **IDEMPOTENT,
                "linger.ms": 0,
                "message.max.bytes": 5 << 20,
                "delivery.timeout.ms": 10_000,
            }
        )


def bounded(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows in their order, as many at once as fit into memory well."""
    some: list[Row] = []
    size = 0
    for row in rows:
        if some and size + row["size"] > _BYTES_MAX:
            yield some
            some, size = [], 0
        some.append(row)
        size += row["size"]
    if some:
        yield some


def redrive_id(row: Row) -> str:
    """Return the id of the next command that a quarantined record becomes."""
    return str(uuid.uuid5(_as_uuid(_old_id(row)), str(row["redrives"] + 1)))


def _old_id(row: Row) -> str:
    return row["command_id"] or str(uuid.uuid5(_NO_ID, place_of(row)))


def _records(consumer: Consumer, topic: str, partition: int, offsets: Iterable[int]) -> Iterable[Message]:
    spot = TopicPartition(topic, partition)
    kept: Any = consumer.get_watermark_offsets(spot, timeout=_TIMEOUT_S)
    if kept is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no offsets in time"))
    here: int | None = None
    for offset in offsets:
        if not kept[0] <= offset < kept[1]:
            continue
        if here is None or not here <= offset <= here + _NEAR:
            consumer.assign([TopicPartition(topic, partition, offset)])
            here = offset
        while here <= offset:
            record = consumer.poll(_TIMEOUT_S)
            if record is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer in time"))
            if (error := record.error()) is not None:
                raise KafkaException(error)
            here = (record.offset() or 0) + 1
            if here == offset + 1:
                yield record


def _spot(row: Row, topics: Topics) -> Place:
    return topics.quarantine(row["aggregate"]), row["log_partition"], row["log_offset"]


def _record(command: Outgoing) -> Record:
    topic, partition, key, value, headers = command
    return Record(topic, partition, 0, 0, key, value, headers_of(headers))


def _headers(record: Message) -> Headers:
    raw = record.headers()
    return [(name, value) for name, value in raw if isinstance(value, bytes)] if isinstance(raw, list) else []


def _as_uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_URL, text)
