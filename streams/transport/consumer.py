"""Faust's consumer: librdkafka is the member of the group, in a thread of its own, and fetches nothing.

Faust gets one event per (partition, batch); offsets, acks and fetching are ours.
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition
from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import TP, ConsumerMessage

from schemas.clients import watched
from streams.transport.fetching import Fetching
from streams.writer.engine import Engine
from streams.writer.transaction import Membership

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_POLL_UNTOLD_S = 0.02  # where a new epoch comes without a callback


class BatchConsumer(FaustConsumer):
    """The consumer Faust sees. ``configure`` must be called before the app starts."""

    consumer_stopped_errors = ()
    engine: Engine
    client_settings: Mapping[str, Any]
    incremental: bool
    fetching: Fetching

    def configure(self, engine: Engine, settings: Mapping[str, Any], fetching: Fetching) -> None:
        """Give the consumer its engine, librdkafka's settings (group, protocol, session), and what reads the commands."""
        self.engine = engine
        self.client_settings = settings
        self.incremental = settings.get("group.protocol") == "consumer"
        self.fetching = fetching
        self._owned: set[TP] = set()
        self._quit = threading.Event()
        self._wake = asyncio.Event()
        self._thread: threading.Thread | None = None
        engine.ownership.bind(self.fetching)

    # ---------------------------------------------------------------- life, on the event loop
    async def subscribe(self, topics: Any) -> None:
        """Join the group and start polling."""
        self._event_loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        client = Client(watched(self.client_settings))
        self._thread = threading.Thread(
            target=self._poll, args=(client, sorted(topics)), name="poll", daemon=True
        )
        self._thread.start()
        self.fetching.start(self._arrived, self._failed_thread)

    async def on_stop(self) -> None:
        """Finish the transaction, leave the group at once, then stop."""
        await self.engine.stop()
        await self.leave()

    async def leave(self) -> None:
        """Leave the group; returns when the poll thread has ended. May be called twice."""
        self._quit.set()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 20.0)
            await asyncio.get_running_loop().run_in_executor(None, self.fetching.stop)

    def _arrived(self) -> None:
        self._event_loop.call_soon_threadsafe(self._wake.set)

    def _failed_thread(self, error: Exception) -> None:
        asyncio.run_coroutine_threadsafe(self.crash(error), self._event_loop)

    # ---------------------------------------------------------------- the poll thread
    def _poll(self, client: Client, topics: list[str]) -> None:
        try:
            client.subscribe(
                topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            while not self._quit.is_set():
                self._poll_once(client)
        except Exception as error:  # noqa: BLE001  # a thread must not die unheard: the app crashes with its reason
            _log.exception("the poll thread ended")
            self._failed_thread(error)
        finally:
            client.close()  # leaves the group, and runs _on_revoke

    def _poll_once(self, client: Client) -> None:
        said = client.poll(_POLL_UNTOLD_S if self.incremental else _POLL_S)
        if said is not None and said.error() is not None:
            _log.warning("group: %s", said.error())
        if self.incremental:
            self.engine.ownership.refresh(Membership(client.consumer_group_metadata()))

    def _on_assign(self, client: Client, parts: list[TopicPartition]) -> None:
        for part in parts:
            # Any absolute offset: nothing is fetched here. For "stored", librdkafka would wait for the stable offsets of all
            # partitions of the call, which one undecided transaction holds up.
            part.offset = 0
        (client.incremental_assign if self.incremental else client.assign)(parts)
        client.pause(parts)
        membership = Membership(client.consumer_group_metadata())
        assigned = {TP(part.topic, part.partition) for part in parts}
        self._on_loop(self._assigned(assigned, membership))

    def _on_revoke(self, client: Client, parts: list[TopicPartition]) -> None:
        gone = {TP(part.topic, part.partition) for part in parts}
        self._owned -= gone
        shards = sorted({tp.partition for tp in gone})
        self.engine.ownership.release(shards)
        for shard in shards:  # after it: what was in flight may have let one flow
            self.fetching.halt(shard)
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
        """Run by Faust's Fetcher: hand what waits to the conductor, which gives it to the agent: all batches as one
        message, since each goes through Faust by itself, and the engine would decide the first without the rest.
        """
        app: Any = self.app
        while not (self._stopped.is_set() or fetcher._stopped.is_set()):  # noqa: SLF001  # the same
            await self._wake.wait()
            self._wake.clear()
            batches = [one for one in self.fetching.take() if TP(one.topic, one.partition) in self._owned]
            if batches:
                tp = TP(batches[0].topic, batches[0].partition)
                message = ConsumerMessage(
                    *tp,
                    0,
                    0,
                    0,
                    [],
                    None,
                    cast(bytes, batches),
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
