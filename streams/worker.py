"""The worker, wired: a Faust app whose agent feeds the engine, over a transport of our own."""

import asyncio
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import faust
from mode import CrashingSupervisor, Service
from yarl import URL

from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.registry import SchemaRegistry
from schemas.topics import AUDIT, Topics
from streams.agents import decide
from streams.checkpoints import CheckpointEncoder, Signer
from streams.domain.aggregate import Aggregate
from streams.protocol.fetcher import Fetcher
from streams.protocol.security import Security
from streams.recovery.load import Loader
from streams.recovery.offsets import Broker
from streams.recovery.standby import Standbys
from streams.settings import WorkerSettings
from streams.shards.command_ids import Spill
from streams.transport.consumer import BatchConsumer
from streams.transport.fetching import Fetching
from streams.transport.transport import LibrdkafkaTransport, NoTables, QuietMonitor
from streams.writer.checkpoints import Checkpoints
from streams.writer.decide import Decider, Reactor
from streams.writer.decoding import Decoder
from streams.writer.encoding import EffectEncoder, Encoder
from streams.writer.engine import Engine
from streams.writer.quarantine import Quarantine
from streams.writer.redaction import Redactor
from streams.writer.snapshots import Snapshots
from streams.writer.task_topics import TaskTopics
from streams.writer.transaction import TransactionalWriter, transactional_id

_GATHERED_BYTES = 64 << 10  # less than a partition's answer may hold: a backlog is never waited for


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker ready to start: ``await worker.app.start()``, or any mode/Faust ``Worker`` around ``app``."""

    app: faust.App
    engine: Engine
    broker: Broker
    standbys: Standbys


class EngineService(Service):
    """Runs the engine's loop inside the Faust app: starts before the group is joined, fails with the app."""

    def __init__(self, engine: Engine, standbys: Standbys, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.engine = engine
        self.standbys = standbys

    async def on_start(self) -> None:
        """Start deciding."""
        # The states are many small, long-lived objects: with the stock thresholds a fifth of the CPU goes into looking
        # through them for cycles, of which there are none.
        gc.freeze()
        gc.set_threshold(1_000_000, 50, 100)
        self.standbys.open()
        self.add_future(self._run())

    async def _run(self) -> None:
        try:
            await self.engine.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the app must not go on without its engine
            await self.crash(error)

    async def on_stop(self) -> None:
        """Finish the open transaction."""
        await self.engine.stop()
        await asyncio.get_running_loop().run_in_executor(None, self.standbys.close)


def group_id(settings: WorkerSettings) -> str:
    """Return the consumer group that owns the shards."""
    return f"{settings.cluster}.worker"


def consumer_settings(settings: WorkerSettings) -> dict[str, Any]:
    """Return librdkafka's settings of the worker's consumer; its client id names its writer, so that a living
    member is recognised before anybody fences it.
    """
    common: dict[str, Any] = {
        **settings.kafka,
        "client.id": transactional_id(settings.cluster, settings.node),
        "group.id": group_id(settings),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "max.poll.interval.ms": 60_000,
        "enable.sparse.connections": "false",
        "socket.nagle.disable": "true",
        "log_level": 3,
    }
    if settings.group_instance_id:
        common["group.instance.id"] = settings.group_instance_id
    if settings.group_protocol == "consumer":
        return common | {"group.protocol": "consumer", "group.remote.assignor": "range"}
    return common | {
        "partition.assignment.strategy": "range",
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": settings.heartbeat_interval_ms,
    }


def create_worker(
    settings: WorkerSettings,
    registry: SchemaRegistry,
    catalogue: Catalogue,
    aggregates: Sequence[Aggregate],
    reactors: Mapping[type, Reactor],
) -> Worker:
    """Wire a worker; nothing connects before its app starts. Blocking: registers the schemas of what it writes.

    Raises ``BadKey`` when checkpoints cannot be signed, ``UnsupportedSecurity`` for settings of TLS or SASL that a worker's
    own connections do not know.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    topics = Topics(settings.prefix)
    codec = Codec(registry, catalogue)
    writer_id = transactional_id(settings.cluster, settings.node)
    effects = EffectEncoder(tuple(aggregates), catalogue, codec, topics, settings.shards)
    deciders = {
        aggregate.name: Decider(
            aggregate,
            Decoder(aggregate, catalogue, codec, settings.command_bytes_max),
            Encoder(aggregate, catalogue, codec, topics, settings.cluster, writer_id),
            effects,
            Quarantine(topics.quarantine(aggregate.name), settings.node),
            Redactor(aggregate, catalogue, codec, topics),
            reactors,
            settings.command_ids_max,
        )
        for aggregate in aggregates
    }
    timeout_ms = settings.transaction_timeout_ms
    broker = Broker(settings.kafka, group_id(settings), writer_id, settings.fence_after_s, timeout_ms / 1000)
    task_topics = TaskTopics(settings, effects.task_topics)
    writer = TransactionalWriter(settings.kafka, writer_id, timeout_ms, task_topics)
    loader = Loader(broker, aggregates, catalogue, codec, topics, Spill(settings.data_dir))
    stable_ends = partial(broker.ends, committed=True)
    snapshots = Snapshots(topics, loader.states, stable_ends, settings.snapshot_tail_records)
    key_file = settings.data_dir / "audit-key.pem"
    signer = Signer.own(key_file) if settings.audit_key is None else Signer.load(settings.audit_key)
    encoder = CheckpointEncoder(signer, catalogue, codec)
    checkpoints = Checkpoints(topics.named(AUDIT), encoder, writer_id)
    engine = Engine(settings, topics, deciders, writer, loader, snapshots, checkpoints)
    standbys = Standbys(broker, writer_id, settings.standbys, loader.follow)
    loader.take_followed = standbys.take
    names = [topics.commands(aggregate.name) for aggregate in aggregates]
    return Worker(_app(settings, engine, standbys, names), engine, broker, standbys)


def _app(
    settings: WorkerSettings, engine: Engine, standbys: Standbys, commands_topics: Sequence[str]
) -> faust.App:
    url = f"kafka://{settings.kafka['bootstrap.servers'].split(',')[0]}"
    app = faust.App(
        group_id(settings),
        broker=url,
        Monitor=QuietMonitor,
        TableManager=NoTables,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=65_536,
        store="memory://",
        agent_supervisor=CrashingSupervisor,
        datadir=str(settings.data_dir / "faust"),
    )
    app.transport = LibrdkafkaTransport([URL(url)], app)
    consumer = app.consumer
    assert isinstance(consumer, BatchConsumer)
    consumer.configure(engine, consumer_settings(settings), _fetching(settings, engine))
    app.on_before_shutdown.connect(cast(Any, _leave), weak=False)
    decide.register(app, engine.ownership, commands_topics)
    app.service(_engine_service(engine, standbys))
    return app


def _fetching(settings: WorkerSettings, engine: Engine) -> Fetching:
    fetcher = Fetcher(
        settings.kafka["bootstrap.servers"],
        Security.of(settings.kafka),
        transactional_id(settings.cluster, settings.node),
        _GATHERED_BYTES if settings.fetch_wait_ms else 1,
    )
    bounds = settings.buffer_records_max, settings.buffer_bytes_max
    return Fetching(fetcher, engine.ownership, *bounds, settings.fetch_wait_ms / 1000)


async def _leave(app: Any, *_: Any, **__: Any) -> None:
    """Give the shards back before anything else stops, so that their next owner need not wait for our end."""
    await app.consumer.engine.stop()
    await app.consumer.leave()


def _engine_service(engine: Engine, standbys: Standbys) -> type[EngineService]:
    class Bound(EngineService):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(engine, standbys, **kwargs)

    return Bound
