"""One view folded anew beside the table that is in use, then put in its place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from schemas.codec import Codec
from schemas.errors import RegistryUnavailable, UnknownSchema
from schemas.topics import Topics
from streams.agents.projection_log import PARTITION_EOF, Log, Spot, consumer_settings
from streams.agents.projection_records import Decoder, origins
from streams.agents.projection_tables import Checkpoint, Connection, Tables, connect
from streams.agents.projection_writer import BatchWriter, Target
from streams.domain.aggregate import Aggregate
from streams.projections.view import View
from streams.projections.views import by_name
from streams.settings import ProjectorSettings

_REBUILD_LOCK = 0x464C4559
_WAIT_S = 0.2
_STALLED_AFTER = 150


class RebuildRefused(RuntimeError):
    """The rebuild cannot begin or go on; the message says why. The view in use is as it was."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did: ``failed`` records are in the table of errors."""

    view: str
    table: str
    records: int
    failed: int


def rebuild(settings: ProjectorSettings, codec: Codec, aggregates: Sequence[Aggregate], name: str) -> Rebuilt:
    """Fold the view ``name`` from the beginning of the log, then switch to the new table. Blocking.

    Readers see the old table until the new one is at least as far; projectors may run meanwhile. Raises
    :class:`RebuildRefused`, ``psycopg.Error`` or ``KafkaException``; then nothing has changed.
    """
    view = by_name(name)
    if view is None:
        raise RebuildRefused(f"There is no view {name!r}.")
    tables = Tables(settings.schema_name)
    with connect(settings.postgres_url, f"flexcore-rebuild-{settings.node}") as connection:
        row = connection.execute(
            "SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_REBUILD_LOCK, settings.schema_name)
        ).fetchone()
        if row is None or not row[0]:
            raise RebuildRefused("Another rebuild is running; wait for its end.")
        try:
            return _Rebuild(settings, codec, aggregates, view, tables, connection).run()
        except (RegistryUnavailable, UnknownSchema) as error:
            raise RebuildRefused(f"The schema registry does not help: {error}") from error


class _Rebuild:
    def __init__(
        self,
        settings: ProjectorSettings,
        codec: Codec,
        aggregates: Sequence[Aggregate],
        view: View,
        tables: Tables,
        connection: Connection,
    ) -> None:
        self._settings = settings
        found = origins(Topics(settings.prefix), aggregates)
        self._origins = {
            topic: origin for topic, origin in found.items() if view.folds(origin.source, origin.aggregate)
        }
        self._decoder = Decoder(codec, found)
        self._view, self._tables, self._connection = view, tables, connection
        self._positions: dict[Spot, int] = {}
        self._records = self._failed = 0

    def run(self) -> Rebuilt:
        log = Log(self._settings.kafka)
        topics = log.topics(self._origins)
        spots = [(name, partition) for name, info in topics.items() for partition in range(info.partitions)]
        ranges = log.ranges(spots)
        table = self._tables.begin_next(self._connection, self._view)
        begun = {(table, *spot): Checkpoint(topics[spot[0]].id, 0, 0, ranges[spot].end) for spot in spots}
        self._tables.add_checkpoints(self._connection, begun)
        writer = BatchWriter([Target(self._view, table)], self._tables, self._origins.values())
        writer.adopt(begun)
        self._positions = {spot: ranges[spot].low for spot in spots}
        group = f"{self._settings.cluster}.rebuild"
        consumer = Consumer(consumer_settings(self._settings.kafka, group))
        try:
            consumer.assign([TopicPartition(*spot, self._positions[spot]) for spot in spots])
            self._read_to(consumer, writer, {spot: ranges[spot].end for spot in spots})
            with self._connection.transaction():
                # Nobody moves the table in use any more: what it has and the new one lacks is little, and read now.
                live = self._tables.checkpoints(self._connection, [self._view.table.name], lock=True)
                self._read_to(
                    consumer, writer, {place[1:]: found.next_offset for place, found in live.items()}
                )
                self._tables.switch(self._connection, self._view)
        finally:
            consumer.close()
        return Rebuilt(self._view.name, self._view.table.name, self._records, self._failed)

    def _read_to(self, consumer: Consumer, writer: BatchWriter, goals: Mapping[Spot, int]) -> None:
        idle = 0
        while any(self._positions.get(spot, 0) < goal for spot, goal in goals.items()):
            first = consumer.poll(_WAIT_S)
            if first is None:
                idle += 1
                if idle > _STALLED_AFTER:
                    raise RebuildRefused("The log could not be read to its end; look at the brokers.")
                continue
            idle = 0
            self._take([first, *consumer.consume(self._settings.batch_records_max - 1, 0)], writer)

    def _take(self, records: Sequence[Record], writer: BatchWriter) -> None:
        items, ends = [], {}
        for record in records:
            spot = (record.topic() or "", record.partition() or 0)
            error = record.error()
            if error is None:
                ends[spot] = (record.offset() or 0) + 1
                if (item := self._decoder.decode(record)) is not None:
                    items.append(item)
            elif error.code() == PARTITION_EOF:
                ends[spot] = record.offset() or 0
            else:
                raise KafkaException(error)
        self._failed += len(writer.write(self._connection, items, ends))
        self._records += len(items)
        self._positions.update(ends)
