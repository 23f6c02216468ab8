"""Faust's consumer on librdkafka: one thread polls, and every call on the librdkafka consumer happens there.

Why a thread of its own: ``seek`` and ``resume`` called from another thread while ``poll`` runs hang in
confluent-kafka 2.16. Faust gets one event per (partition, batch); offsets, acks and fetching are ours.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import TP, ConsumerMessage

from schemas.clients import watched
from streams.shards.record import Record
from streams.writer.engine import Engine
from streams.writer.ownership import Batch
from streams.writer.transaction import Membership

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_POLL_BUSY_S = 0.01  # while shards are being taken over, so that they flow without waiting for a poll to end
_RECORDS_MAX = 4000
_POLL_FULL_S = 0.02  # between two records while the buffer is full
_PATIENCE_S = 2.0  # how long the buffer may be full before fetching is paused


class BatchConsumer(FaustConsumer):
    """The consumer Faust sees, and the :class:`streams.writer.ownership.Flow` the engine steers.

    ``configure`` must be called before the app starts.
    """

    consumer_stopped_errors = ()
    engine: Engine
    client_settings: Mapping[str, Any]
    incremental: bool
    buffer_records_max: int
    buffer_bytes_max: int

    def configure(
        self, engine: Engine, settings: Mapping[str, Any], buffer_records_max: int, buffer_bytes_max: int
    ) -> None:
        """Give the consumer its engine, librdkafka's settings (group, protocol, session), and the bounds of what waits."""
        self.engine = engine
        self.client_settings = settings
        self.incremental = settings.get("group.protocol") == "consumer"
        self.buffer_records_max, self.buffer_bytes_max = buffer_records_max, buffer_bytes_max
        self._owned: set[TP] = set()
        self._inbox: dict[tuple[str, int], Batch] = {}
        self._inbox_lock = threading.Lock()
        self._calls: queue.SimpleQueue[Callable[[Client], None]] = queue.SimpleQueue()
        self._epochs: dict[tuple[str, int], int] = {}
        self._flowing: set[tuple[str, int]] = set()
        self._paused = False
        self._full_since: float | None = None
        self._resting: frozenset[str] = frozenset()
        self._quit = threading.Event()
        self._wake = asyncio.Event()
        self._thread: threading.Thread | None = None
        engine.ownership.bind(self)

    # ---------------------------------------------------------------- life, on the event loop
    async def subscribe(self, topics: Any) -> None:
        """Join the group and start polling."""
        self._event_loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        client = Client(watched(self.client_settings))
        self._thread = threading.Thread(
            target=self._poll, args=(client, sorted(topics)), name="poll", daemon=True
        )
        self._thread.start()

    async def on_stop(self) -> None:
        """Finish the transaction, leave the group at once, then stop."""
        await self.engine.stop()
        await self.leave()

    async def leave(self) -> None:
        """Leave the group; returns when the poll thread has ended. May be called twice."""
        self._quit.set()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 20.0)

    # ---------------------------------------------------------------- Flow, from the event loop
    def flow(self, shard: int, offsets: Mapping[str, int], epoch: int) -> None:
        """Seek the shard's partitions and fetch them, in the poll thread."""

        def seek_and_resume(client: Client) -> None:
            for topic, offset in offsets.items():
                part = (topic, shard)
                if TP(topic, shard) not in self._owned:
                    return
                try:
                    client.seek(TopicPartition(topic, shard, offset))
                except KafkaException as error:
                    # Erroneous state: the fetcher of a partition just assigned is not there yet.
                    _log.debug("seek %s/%d to %d: %s", topic, shard, offset, error)
                    time.sleep(0.005)
                    self._calls.put(seek_and_resume)
                    return
                with self._inbox_lock:
                    self._inbox.pop(part, None)
                    self._epochs[part] = epoch
            parts = {(topic, shard) for topic in offsets}
            self._flowing |= parts
            if not self._paused:
                client.resume([TopicPartition(*part) for part in parts if part[0] not in self._resting])

        self._calls.put(seek_and_resume)

    def halt(self, shard: int) -> None:
        """Pause the shard's partitions, in the poll thread."""

        def pause(client: Client) -> None:
            parts = {part for part in self._flowing if part[1] == shard}
            self._flowing -= parts
            client.pause([TopicPartition(*part) for part in parts])

        self._calls.put(pause)

    # ---------------------------------------------------------------- the poll thread
    def _poll(self, client: Client, topics: list[str]) -> None:
        try:
            client.subscribe(
                topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            while not self._quit.is_set():
                self._run_calls(client)
                self._rest(client)
                has_room = self._has_room(client)
                busy = not self.engine.ownership.ready or not self._calls.empty()
                first = client.poll(_POLL_BUSY_S if busy else _POLL_S)
                if first is not None:
                    more = client.consume(_RECORDS_MAX, 0) if has_room else []
                    self._deliver(client, cast(list[Record], [first, *more]))
                    if not has_room:
                        time.sleep(_POLL_FULL_S)
        except Exception as error:  # noqa: BLE001  # a thread must not die unheard: the app crashes with its reason
            _log.exception("the poll thread ended")
            asyncio.run_coroutine_threadsafe(self.crash(error), self._event_loop)
        finally:
            client.close()  # leaves the group, and runs _on_revoke

    def _run_calls(self, client: Client) -> None:
        for _ in range(self._calls.qsize()):
            with contextlib.suppress(queue.Empty):
                self._calls.get_nowait()(client)

    def _has_room(self, client: Client) -> bool:
        """Tell whether more fits. While nothing does, one record is taken now and then, because a member that does not
        poll is thrown out of the group; fetching is paused only when that lasts: a pause throws away what librdkafka has
        fetched ahead, and it takes half a second to be there again.
        """
        waiting = [record for batch in list(self._inbox.values()) for record in batch.records]
        records, size = self.engine.ownership.buffered
        records, size = records + len(waiting), size + sum(map(len, waiting))
        fill = max(records / self.buffer_records_max, size / self.buffer_bytes_max)
        if fill < 1:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = time.monotonic()
        elif not self._paused and time.monotonic() > self._full_since + _PATIENCE_S:
            self._paused = True
            client.pause([TopicPartition(*part) for part in self._flowing])
        if self._paused and fill < 0.5:
            self._paused = False
            client.resume([TopicPartition(*part) for part in self._flowing if part[0] not in self._resting])
        return fill < 1

    def _rest(self, client: Client) -> None:
        """Fetch nothing of the topics whose commands are not decided now, and the others again."""
        resting = self.engine.ownership.resting_topics
        if resting == self._resting:
            return
        before, self._resting = self._resting, resting
        client.pause([TopicPartition(*part) for part in self._flowing if part[0] in resting])
        if not self._paused:
            client.resume([TopicPartition(*part) for part in self._flowing if part[0] in before - resting])

    def _deliver(self, client: Client, records: list[Record]) -> None:
        if self.incremental:
            self.engine.ownership.refresh(Membership(client.consumer_group_metadata()))
        parts: dict[tuple[str, int], list[Record]] = {}
        ends: dict[tuple[str, int], int] = {}
        for record in records:
            part = (record.topic(), record.partition())
            error = record.error()
            if error is None:
                parts.setdefault(part, []).append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                if not self.engine.ownership.awaits_end(*part):
                    continue
                parts.setdefault(part, [])
                ends[part] = record.offset()
            else:
                _log.warning("consume: %s", error)
        if not parts:
            return
        with self._inbox_lock:
            for part, found in parts.items():
                waiting = self._inbox.get(part)
                before = waiting.records if waiting else []
                end = ends.get(part, waiting.reached if waiting else None)
                self._inbox[part] = Batch(*part, self._epochs.get(part, -1), before + found, end)
        self._event_loop.call_soon_threadsafe(self._wake.set)

    def _on_assign(self, client: Client, parts: list[TopicPartition]) -> None:
        for part in parts:
            # Any absolute offset; seek follows. Assigned at "stored", librdkafka would itself wait for the stable
            # offsets of all partitions of the call, and one undecided transaction would make them all unseekable.
            part.offset = 0
        (client.incremental_assign if self.incremental else client.assign)(parts)
        client.pause(parts)
        membership = Membership(client.consumer_group_metadata())
        assigned = {TP(part.topic, part.partition) for part in parts}
        self._on_loop(self._assigned(assigned, membership))

    def _on_revoke(self, client: Client, parts: list[TopicPartition]) -> None:
        gone = {TP(part.topic, part.partition) for part in parts}
        self._owned -= gone
        self._flowing -= set(gone)
        self.engine.ownership.release(sorted({tp.partition for tp in gone}))
        with self._inbox_lock:
            for tp in gone:
                self._inbox.pop((tp.topic, tp.partition), None)
        try:
            self._on_loop(self._changed(gone, set()))
        finally:
            if self.incremental:
                client.incremental_unassign(parts)
            else:
                client.unassign()

    def _on_loop(self, change: Coroutine[Any, Any, None]) -> None:
        if self._quit.is_set():
            change.close()  # the event loop waits for this thread to end
            return
        asyncio.run_coroutine_threadsafe(change, self._event_loop).result(30)

    # ---------------------------------------------------------------- the event loop
    async def _assigned(self, new: set[TP], membership: Membership) -> None:
        self._owned |= new
        await self._changed(set(), new)
        self.engine.ownership.acquire(sorted({tp.partition for tp in new}), membership)

    async def _changed(self, gone: set[TP], new: set[TP]) -> None:
        """Do what Faust's App does on a rebalance, without tables and without stopping the world."""
        app: Any = self.app
        app._assignment = set(self._owned)  # noqa: SLF001  # contract test in test_faust_contract
        if app.should_stop:
            return
        await app.agents.on_rebalance(gone, new)
        await app.topics.on_partitions_assigned(set(self._owned))
        if new:
            await app.on_partitions_assigned.send(set(self._owned))
            # Not each time: it empties the agent's queue, also of what the shards that stay have fetched already.
            if not app.flow_control.is_active():
                app.flow_control.resume()
            await app._fetcher.maybe_start()  # noqa: SLF001  # the same
        if gone:
            await app.on_partitions_revoked.send(gone)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Run by Faust's Fetcher: hand each waiting batch to the conductor, which gives it to the agent."""
        app: Any = self.app
        while not (self._stopped.is_set() or fetcher._stopped.is_set()):  # noqa: SLF001  # the same
            await self._wake.wait()
            self._wake.clear()
            with self._inbox_lock:
                got, self._inbox = self._inbox, {}
            for (topic, partition), batch in got.items():
                tp = TP(topic, partition)
                if tp in self._owned:
                    message = ConsumerMessage(
                        topic,
                        partition,
                        0,
                        0,
                        0,
                        [],
                        None,
                        cast(bytes, batch),
                        None,
                        0,
                        0,
                        tp,
                        generation_id=app.consumer_generation_id,
                    )
                    await self.callback(message)

    # ---------------------------------------------------------------- asked by Faust, or abstract there and not used
    def assignment(self) -> set[TP]:
        """Return what this worker owns."""
        return set(self._owned)

    def highwater(self, tp: TP) -> int:
        """Return 0: Faust tracks no offsets here."""
        return 0

    async def perform_seek(self) -> None:
        """Do nothing: the engine seeks, shard by shard, when it has loaded them."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return False

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Return nothing: offsets are the engine's."""
        return {}

    async def _seek(self, partition: TP, offset: int) -> None:
        return None

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's signature
        return {}

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        raise AssertionError("records reach Faust as batches")

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: topics are made by ``streams.provision``."""

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return nothing: see highwater."""
        return {}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return nothing: see highwater."""
        return {}

    async def position(self, tp: TP) -> int | None:
        """Return None: see highwater."""
        return None

    async def seek_to_beginning(self, *partitions: TP) -> None:
        """Do nothing: see perform_seek."""

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Do nothing: see perform_seek."""

    def topic_partitions(self, topic: str) -> int | None:
        """Return None: Faust declares no topics here."""
        return None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Return None: partitions are computed by ``schemas.partitioning``."""
        return None
