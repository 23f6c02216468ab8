"""The projector: events, outcomes and quarantined records into the read store.

Nodes share the partitions (one consumer group); where to go on is kept in the database, in the transaction of the
rows, never in Kafka. So whatever happens to a node, to Kafka or to the database, a row is written once for each
record, and the tables can be dropped at any time: they are folded again from the log.
"""

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from schemas.clients import watched
from schemas.codec import Codec
from schemas.errors import RegistryUnavailable, UnknownSchema
from schemas.topics import Topics
from streams.agents.projection_log import (
    AUTO_OFFSET_RESET,
    PARTITION_EOF,
    Log,
    Range,
    Spot,
    TopicInfo,
    consumer_settings,
)
from streams.agents.projection_rebuild import Rebuilt, rebuild
from streams.agents.projection_records import Decoder, origins
from streams.agents.projection_tables import Checkpoint, Connection, Place, Tables, connect
from streams.agents.projection_writer import BatchWriter, CheckpointMoved, Target
from streams.domain.aggregate import Aggregate
from streams.projections.view import View
from streams.projections.views import VIEWS, generation
from streams.settings import ProjectorSettings

_WAIT_S = 0.05
_BACK_OFF_MAX_S = 5.0
_LEAVE_AFTER_S = 15.0
_CHECK_EVERY_S = 2.0
_RETIRE_AFTER_S = 600.0
_TROUBLES = {psycopg.Error: "database", KafkaException: "brokers", Exception: "registry"}


def channel(schema: str) -> str:
    """Return the NOTIFY channel on which each commit of a projector is announced."""
    return f"{schema}_views"


class Projector:
    """Keeps the views of all ``aggregates`` up to date, in a thread of its own. Start it once."""

    def __init__(self, settings: ProjectorSettings, codec: Codec, aggregates: Sequence[Aggregate]) -> None:
        self._parts = (settings, codec, aggregates)
        self._work = _Work(settings, codec, aggregates)
        self._thread = threading.Thread(target=self._work.run, name="projector", daemon=True)

    async def start(self) -> None:
        """Begin; returns at once, whether database and brokers answer or not."""
        self._thread.start()

    async def stop(self) -> None:
        """Finish the batch at hand and leave the group. Nothing is lost if the process is killed instead."""
        self._work.stopping.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    @property
    def ready(self) -> bool:
        """Whether every table is complete in the partitions this node holds."""
        return self._work.ready

    @property
    def problem(self) -> str | None:
        """What keeps the views from following the log; None: nothing."""
        return self._work.trouble

    @property
    def complaint(self) -> str | None:
        """What to say about records that no view could take; None: there are none. The views go on without them."""
        return self._work.complaint()

    async def rebuild(self, view: str) -> Rebuilt:
        """Fold one view anew beside the table in use, then switch; readers and projectors go on meanwhile.

        Raises :class:`streams.agents.projection_rebuild.RebuildRefused`, ``psycopg.Error``, ``KafkaException``.
        """
        return await asyncio.to_thread(rebuild, *self._parts, view)

    def lag(self) -> dict[str, int]:
        """Return, by ``topic/partition`` held by this node, how many records are not projected yet."""
        return dict(self._work.lag)

    def counters(self) -> dict[str, int]:
        """Return how many records and batches this node has projected since it started, and how many it could not."""
        return {"records": self._work.records, "batches": self._work.batches, "errors": self._work.errors}


class _Work:
    """The thread's side: every call on consumer and connection happens in :meth:`run`."""

    def __init__(self, settings: ProjectorSettings, codec: Codec, aggregates: Sequence[Aggregate]) -> None:
        self.stopping = threading.Event()
        self.trouble: str | None = "the projector has not begun yet"
        self.ready = False
        self.lag: dict[str, int] = {}
        self.records = self.batches = self.errors = 0
        self._settings = settings
        self._origins = origins(Topics(settings.prefix), aggregates)
        self._decoder = Decoder(codec, self._origins)
        self._tables = Tables(settings.schema_name)
        targets = [Target(view, view.table.name) for view in VIEWS]
        self._writer = BatchWriter(
            targets, self._tables, self._origins.values(), channel(settings.schema_name)
        )
        self._connection: Connection | None = None
        self._assigned: list[Spot] = []
        self._positions: dict[Spot, int] = {}
        self._topics: dict[str, TopicInfo] = {}
        self._loaded = False
        self._away_since: float | None = None
        self._subscribed = False
        self._next_check = 0.0

    def complaint(self) -> str | None:
        """Return what to say about records that no view could take."""
        if not self.errors:
            return None
        schema = self._settings.schema_name
        return f"{self.errors} records could not be projected; see the table {schema}.projection_errors"

    def run(self) -> None:
        """Project until told to stop; trouble with database or brokers is waited out."""
        settings = self._settings
        group = f"{settings.cluster}.projector.{generation()}"
        own = {**consumer_settings(settings.kafka, group), "client.id": f"{settings.node}-projector"}
        consumer = Consumer(watched(own))
        log = Log(settings.kafka)
        back_off = _WAIT_S
        try:
            while not self.stopping.is_set():
                try:
                    self._turn(consumer, log)
                    back_off = _WAIT_S
                except CheckpointMoved:
                    self._loaded = False
                except (psycopg.Error, KafkaException, RegistryUnavailable, UnknownSchema) as error:
                    self._stumble(error, consumer)
                    self.stopping.wait(back_off)
                    back_off = min(back_off * 2, _BACK_OFF_MAX_S)
        except Exception as error:
            # A mistake of ours: say so where the node's health is read, rather than die in silence.
            self.trouble, self.ready = f"the projector has stopped: {type(error).__name__}: {error}", False
            raise
        finally:
            self._disconnect()
            consumer.close()

    def _turn(self, consumer: Consumer, log: Log) -> None:
        if self._connection is None:
            self._connection = connect(
                self._settings.postgres_url, f"flexcore-projector-{self._settings.node}"
            )
        if not self._subscribed:
            consumer.subscribe(list(self._origins), on_assign=self._on_assign, on_revoke=self._on_revoke)
            self._subscribed = True
        if not self._loaded:
            self._load(consumer, log, self._connection)
        records = self._collect(consumer)
        if self._loaded:
            self._project(records, self._connection)
            self.trouble = self._away_since = None
            if time.monotonic() >= self._next_check:
                self._check(consumer, log, self._connection)

    def _stumble(self, error: Exception, consumer: Consumer) -> None:
        what = next(what for kind, what in _TROUBLES.items() if isinstance(error, kind))
        said = str(error).strip() or type(error).__name__
        self.trouble, self.ready, self._loaded = f"the {what} cannot be used: {said}", False, False
        self._disconnect()
        now = time.monotonic()
        self._away_since = self._away_since or now
        if self._subscribed and now - self._away_since > _LEAVE_AFTER_S:
            # Somebody who can reach the database shall have the partitions.
            consumer.unsubscribe()
            self._subscribed, self._assigned = False, []
        consumer.poll(0)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = [(tp.topic, tp.partition) for tp in partitions]
        self._loaded = False
        # Nothing is read until the positions are known: _load assigns again, with offsets from the database.
        consumer.assign(partitions)
        consumer.pause(partitions)

    def _on_revoke(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._assigned, self._loaded, self.lag = [], False, {}
        consumer.unassign()

    def _load(self, consumer: Consumer, log: Log, connection: Connection) -> None:
        """Make the tables where they are missing, read the checkpoints of what is assigned, and go there."""
        self._topics = log.topics(self._origins)
        self._tables.ensure(connection, VIEWS, {view.name: self._partitions(view) for view in VIEWS})
        assigned = [spot for spot in self._assigned if spot[0] in self._topics]
        names = [view.table.name for view in VIEWS]
        # Checkpoints first: whoever moves them meanwhile cannot pass an end that is asked for later.
        known = self._tables.checkpoints(connection, names)
        ranges = log.ranges(assigned)
        stale = {place[0] for place, found in known.items() if self._is_stale(place, found, ranges)}
        if stale:
            self._tables.reset(connection, [view for view in VIEWS if view.table.name in stale])
        missing = {
            (view.table.name, *spot): Checkpoint(self._topics[spot[0]].id, 0, 0, ranges[spot].end)
            for spot in assigned
            for view in self._folding(spot[0])
            if (view.table.name, *spot) not in known or view.table.name in stale
        }
        self._tables.add_checkpoints(connection, missing)
        held = set(assigned)
        known = self._tables.checkpoints(connection, names)
        self._writer.adopt({place: found for place, found in known.items() if place[1:] in held})
        self._positions = {
            spot: max(ranges[spot].low, min(self._writer.checkpoints[view.table.name, *spot].next_offset
                                            for view in self._folding(spot[0])))
            for spot in assigned
        }  # fmt: skip
        partitions = [TopicPartition(*spot, offset) for spot, offset in self._positions.items()]
        if partitions:
            consumer.assign(partitions)
            consumer.resume(partitions)
        self.errors = self._tables.error_count(connection)
        self._loaded = True
        self._next_check = time.monotonic()

    def _is_stale(self, place: Place, found: Checkpoint, ranges: dict[Spot, Range]) -> bool:
        """Whether the checkpoint speaks of another log: the topic was made anew, or lost its tail."""
        _, topic, partition = place
        if topic in self._topics and self._topics[topic].id != found.topic_id:
            return True
        known = ranges.get((topic, partition))
        return known is not None and found.next_offset > known.end

    def _folding(self, topic: str) -> list[View]:
        origin = self._origins[topic]
        return [view for view in VIEWS if view.folds(origin.source, origin.aggregate)]

    def _partitions(self, view: View) -> int:
        """Return how many partitions the view's table must have folded; a topic that is not there yet counts too."""
        return sum(
            self._topics[topic].partitions if topic in self._topics else self._settings.shards
            for topic, origin in self._origins.items()
            if view.folds(origin.source, origin.aggregate)
        )

    def _collect(self, consumer: Consumer) -> list[Record]:
        first = consumer.poll(_WAIT_S)
        if first is None:
            return []
        return [first, *consumer.consume(self._settings.batch_records_max - 1, 0)]

    def _project(self, records: Iterable[Record], connection: Connection) -> None:
        items, ends = [], {}
        for record in records:
            spot = (record.topic() or "", record.partition() or 0)
            error = record.error()
            if error is None:
                ends[spot] = (record.offset() or 0) + 1
                if (item := self._decoder.decode(record)) is not None:
                    items.append(item)
            elif error.code() == PARTITION_EOF:
                self._positions[spot] = record.offset() or 0
                if self._incomplete(spot):
                    # Only markers are left before the target: the checkpoint must pass them too.
                    ends[spot] = record.offset() or 0
            elif error.code() in (AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                # Retention was faster than we, or the log is another one: look again where to go on.
                raise CheckpointMoved
            elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(error)
        if ends:
            failed = self._writer.write(connection, items, ends)
            self._positions.update(ends)
            self.errors += len(failed)
            self.records += len(items)
            self.batches += 1

    def _incomplete(self, spot: Spot) -> bool:
        places = ((view.table.name, *spot) for view in self._folding(spot[0]))
        found = (self._writer.checkpoints.get(place) for place in places)
        return any(
            checkpoint is not None and checkpoint.next_offset < checkpoint.target for checkpoint in found
        )

    def _check(self, consumer: Consumer, log: Log, connection: Connection) -> None:
        """Now and then: measure the lag, say which tables are in use, and see whether a topic was made anew."""
        now = time.monotonic()
        lag: dict[str, int] = {}
        for (topic, partition), position in self._positions.items():
            # Typed as if it always knew; before the first fetch it answers None.
            watermarks: Any = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            lag[f"{topic}/{partition}"] = max(0, watermarks[1] - position) if watermarks else 0
        self.lag = lag
        complete = all(found.next_offset >= found.target for found in self._writer.checkpoints.values())
        self.ready = complete and bool(self._assigned or self._topics)
        # Often while something is left to do, seldom otherwise.
        self._next_check = now + (_CHECK_EVERY_S if self.ready else 0.2)
        if self.ready:
            known = self._tables.checkpoints(connection, [view.table.name for view in VIEWS])
            if any(known.get(place) != found for place, found in self._writer.checkpoints.items()):
                # Dropped, and made anew by another node: an idle partition would otherwise never notice.
                raise CheckpointMoved
            self._tables.touch(connection, VIEWS)
            self._tables.retire(connection, VIEWS, _RETIRE_AFTER_S)
            if log.topics(self._origins) != self._topics:
                self._loaded = False
