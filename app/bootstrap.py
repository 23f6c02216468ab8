"""The composition root: a configuration becomes the parts of a node. Nothing else constructs adapters.

Order of start: schema registry, topics, commands, read store, HTTP, then what moves data: worker, projector, runner.
``node.json`` is written when the listeners are up, before shards are ready; ``/health/ready`` says when they are.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import KafkaException

from app.adapters.data_dir import DataDir
from app.adapters.kafka_commands import KafkaCommands
from app.adapters.nodes import NodesBoard
from app.adapters.owned import OwnedStates
from app.adapters.peers import HttpPeers
from app.adapters.quarantine import KafkaQuarantine
from app.adapters.record_reader import RecordReader
from app.adapters.time_travel import TimeTravel
from app.adapters.user_events import KafkaUserEvents
from app.adapters.view_store import ViewStore
from app.api import create_api
from app.commands.routes import write_routes
from app.config import Config
from app.dependencies import await_kafka, await_registry
from app.errors import problem
from app.followers import followers
from app.health import Health, HealthDependencies
from app.listeners import Listener
from app.node import Node, Part, StartAnew
from app.ports import Limits, WriteDependencies
from app.registry.server import create_registry_app
from app.registry.store import RegistryStore
from app.routes import Route
from app.telemetry import configure_logging, expose
from app.views.ports import ViewDependencies
from app.views.routes import owner_routes, read_routes
from app.vitals import Vitals
from connectors.lineage.naming import Names
from connectors.sdk.commands import CommandClient
from schemas.catalogue import Catalogue
from schemas.clients import lost
from schemas.codec import Codec
from schemas.registry import HttpRegistry, SchemaRegistry
from schemas.topics import NODES, SCHEMAS, Topics
from streams.agents.projection_rebuild import RebuildRefused
from streams.provision import provision
from streams.reactors import REACTORS
from streams.translation import subjects, vocabulary
from streams.writer.decoding import Decoder

_RUNNER_GRACE_S = 0.5
_REBUILD_WAIT_S = 30.0


def run_node(config: Config) -> None:
    """Run a node in this process until it is told to stop. Blocking.

    Raises :class:`app.adapters.data_dir.NodeTaken` and :class:`app.node.NodeFailed`, each with one sentence, and
    :class:`app.node.StartAnew`: the process is to be replaced, with variables that give it the same ports.
    """
    import uvloop  # noqa: PLC0415 - a loop is chosen only where one is run

    configure_logging(config.get("LOG_LEVEL"), config.get("LOG_FORMAT"))
    place = DataDir(config.data_dir)
    name = place.claim(config.get("NODE"))
    try:
        uvloop.run(_run(config, place, name))
    except StartAnew as wish:
        wish.environ = _ports(place.published())
        raise
    finally:
        place.release()


def _clients_lost() -> str | None:
    return f"librdkafka has lost all brokers, for good, for {', '.join(names)}" if (names := lost()) else None


def _ports(published: Mapping[str, Any]) -> dict[str, str]:
    listeners = {"FLEXCORE_HTTP_PORT": "url", "FLEXCORE_REGISTRY_PORT": "registry_url"}
    ports = {setting: urlsplit(published.get(name, "")).port for setting, name in listeners.items()}
    return {setting: str(port) for setting, port in ports.items() if port}


async def _run(config: Config, place: DataDir, name: str) -> None:
    await create_node(config, place, name).run()


def create_node(config: Config, place: DataDir, name: str) -> Node:
    """Return the node, wired; nothing connects before it runs. To be called on the event loop that will run it."""
    return Node(_Composition(config, place, name).parts())


class _Composition:
    """Makes each part when its turn comes: later parts need the addresses that earlier ones got."""

    def __init__(self, config: Config, place: DataDir, name: str) -> None:
        self._config = config
        self._place = place
        self._name = name
        self._roles: tuple[str, ...] = config.get("ROLES")
        self._topics = Topics(config.get("TOPIC_PREFIX"))
        self._aggregates = config.aggregates()
        self._catalogue = Catalogue.load()
        self._settings = config.worker_settings(name)
        self._registry: SchemaRegistry
        self._registry_store: RegistryStore | None = None
        self._registry_listener: Listener | None = None
        self._codec: Codec
        self._listener: Listener | None = None
        self._live = Vitals(config.kafka, config.get("REGISTRY_URL"))
        self._rebuilding: asyncio.Task[Any] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._board = NodesBoard(config.kafka, self._topics.named(NODES), self._describe)
        self._limits = Limits(
            in_flight_max=config.get("IN_FLIGHT_MAX"), reads_max=config.get("READS_MAX"),
            streams_max=config.get("STREAMS_MAX"), body_bytes_max=config.get("BODY_BYTES_MAX"),
        )  # fmt: skip
        kinds = [aggregate.name for aggregate in self._aggregates]
        self._memory = OwnedStates(name, config.get("SHARDS"), kinds, lambda: self._live.worker)
        self._peers = HttpPeers(self._board)
        self._where = (config.kafka, self._topics, config.get("SHARDS"))
        self._records = RecordReader(*self._where)
        self._user_events = KafkaUserEvents(*self._where, config.get("REPLICATION"))
        self._unexpose = expose({}, {})

    def parts(self) -> list[Part]:
        """Return the parts this node's roles ask for, in the order of their start."""
        config = self._config
        parts = [Part("Kafka", self._await_kafka, _nothing, 0, 0.1, outlived=_clients_lost)]
        if self._live.registry_url:
            self._registry = HttpRegistry(self._live.registry_url)
            parts.append(Part("schema registry", self._await_registry, _nothing, 0, 0.1))
        else:
            parts.append(Part("schema registry", self._start_registry, self._stop_registry, 0, 1.0))
        parts.append(Part("topics", self._provision, _nothing, 0, 0.1))
        if "api" in self._roles:
            parts.append(Part("commands", self._start_commands, self._stop_commands, 1, 1.0))
            parts.append(Part("read store", self._open_store, self._close_store, 1, 0.5))
        parts.append(Part("HTTP", self._listen, self._close_listener, 2, 1.5))
        if "worker" in self._roles:
            parts.append(Part("worker", self._start_worker, self._stop_worker, 2, 3.0, self._worker_crashed))
            if config.get("POSTGRES_URL"):
                parts.append(Part("projector", self._start_projector, self._stop_projector, 2, 2.0))
        if "runner" in self._roles:
            parts.append(Part("runner", self._start_runner, self._stop_runner, 2, 3.0))
            parts.append(Part("followers", self._start_followers, self._stop_followers, 2, 3.0))
        parts.append(Part("nodes", self._start_board, self._stop_board, 3, 1.0))
        return parts

    # ---------------------------------------------------------------- what everything stands on
    async def _await_kafka(self) -> None:
        await await_kafka(self._config.kafka)

    async def _await_registry(self) -> None:
        await await_registry(self._live.pings(self._roles, projects=False)["registry"])

    async def _start_registry(self) -> None:
        config = self._config
        topic = self._topics.named(SCHEMAS)
        store = RegistryStore(config.kafka, topic, config.get("CLUSTER"), config.get("REPLICATION"))
        self._registry_store = store
        await asyncio.to_thread(store.start)
        # One transaction for all: one by one, nodes that start together would fence each other sixty times.
        await asyncio.to_thread(store.register_all, subjects(self._aggregates, self._catalogue))
        port = config.get("REGISTRY_PORT")
        self._registry_listener = Listener(create_registry_app(store), port, "FLEXCORE_REGISTRY_PORT")
        await self._registry_listener.start()
        self._live.registry_url = self._registry_listener.url
        self._registry = store

    async def _stop_registry(self) -> None:
        if self._registry_listener is not None:
            await self._registry_listener.stop()
        if self._registry_store is not None:
            await asyncio.to_thread(self._registry_store.stop)

    async def _provision(self) -> None:
        await asyncio.to_thread(provision, self._settings, self._aggregates)
        self._codec = Codec(self._registry, self._catalogue)

    # ---------------------------------------------------------------- the edge
    async def _start_commands(self) -> None:
        names = [aggregate.name for aggregate in self._aggregates]
        client_id = f"{self._config.get('CLUSTER')}-{self._name}-api"
        kafka, shards = self._config.kafka, self._config.get("SHARDS")
        self._live.client = CommandClient(kafka, self._codec, self._topics, shards, names, client_id)
        await self._live.client.start()

    async def _stop_commands(self) -> None:
        if self._live.client is not None:
            await self._live.client.stop()

    async def _listen(self) -> None:
        port = self._config.get("HTTP_PORT")
        api = create_api(self._routes(), self._limits)
        self._listener = Listener(api, port, "FLEXCORE_HTTP_PORT")
        await self._listener.start()
        self._watching = asyncio.create_task(self._health.watch())
        self._place.publish(
            {
                "name": self._name,
                "url": self._listener.url,
                "registry_url": self._live.registry_url,
                "pid": os.getpid(),
                "roles": list(self._roles),
            }
        )

    async def _close_listener(self) -> None:
        self._unexpose()
        if self._listener is not None:
            await self._listener.stop()
        await self._peers.close()
        await self._user_events.close()
        if self._watching is not None:
            self._watching.cancel()

    def _routes(self) -> list[Route]:
        health = HealthDependencies(
            self._live.pings(self._roles, bool(self._config.get("POSTGRES_URL"))), self._describe, self._board
        )
        self._health = Health(health)
        routes = list(self._health.routes())
        if self._live.client is not None and self._live.store is not None:
            routes += write_routes(self._writes(self._live.client, self._live.store))
            routes += self._reads(self._live.store)
        elif "worker" in self._roles:
            routes += owner_routes(self._memory, self._peers, self._limits)
        return routes

    def _writes(self, client: CommandClient, store: ViewStore) -> WriteDependencies:
        return WriteDependencies(
            bus=KafkaCommands(client),
            resources=store,
            quarantine=self._quarantine(store),
            rejects=self._records,
            events=self._user_events,
            vocabulary={aggregate.name: vocabulary(aggregate).commands for aggregate in self._aggregates},
            limits=self._limits,
        )

    def _quarantine(self, store: ViewStore) -> KafkaQuarantine:
        bytes_max, codec = self._settings.command_bytes_max, self._codec
        decoders = {one.name: Decoder(one, self._catalogue, codec, bytes_max) for one in self._aggregates}
        return KafkaQuarantine(
            *self._where, store, decoders, {one.name for one in self._aggregates if one.parks}
        )

    async def _open_store(self) -> None:
        self._live.store = ViewStore(self._config.get("POSTGRES_URL"), self._config.get("POSTGRES_SCHEMA"))

    async def _close_store(self) -> None:
        if self._live.store is not None:
            await self._live.store.close()

    def _reads(self, store: ViewStore) -> tuple[Route, ...]:
        config = self._config
        folds_views = "worker" in self._roles and config.get("POSTGRES_URL")
        needs = ViewDependencies(
            store=store,
            records=self._records,
            history=TimeTravel(store, self._aggregates),
            memory=self._memory,
            peers=self._peers,
            command=self._quarantine(store).command,
            rebuild=self._rebuild if folds_views else None,
            names=Names(config.get("CLUSTER"), config.kafka["bootstrap.servers"], config.get("TOPIC_PREFIX")),
            limits=self._limits,
            members=self._board.members,
        )
        return read_routes(needs)

    async def _rebuild(self, view: str) -> bool:
        """Fold a view anew; False when that takes longer than a request may."""
        if self._live.projector is None:
            raise problem("unavailable", "The projector of this node has not started yet.")
        self._rebuilding = asyncio.create_task(self._live.projector.rebuild(view))
        done, _ = await asyncio.wait({self._rebuilding}, timeout=_REBUILD_WAIT_S)
        try:
            for task in done:
                task.result()
        except RebuildRefused as error:
            raise problem("held", str(error)) from error
        except (psycopg.Error, KafkaException) as error:
            raise problem("unavailable", f"The view could not be folded: {error}.") from error
        return bool(done)

    # ---------------------------------------------------------------- what moves data
    async def _start_worker(self) -> None:
        from streams.worker import create_worker  # noqa: PLC0415 - Faust is loaded only where it runs

        self._live.worker = create_worker(
            self._settings, self._registry, self._catalogue, self._aggregates, REACTORS
        )
        await self._live.worker.app.start()

    async def _stop_worker(self) -> None:
        if self._live.worker is not None:
            await self._live.worker.app.stop()

    def _worker_crashed(self) -> str | None:
        if self._live.worker is None or not self._live.worker.app.crashed:
            return None
        return str(self._live.worker.app.crash_reason)

    async def _start_projector(self) -> None:
        from streams.agents.project import Projector  # noqa: PLC0415 - SQLAlchemy is loaded only where it is used

        settings = self._config.projector_settings(self._name)
        self._live.projector = Projector(settings, self._codec, self._aggregates)
        await self._live.projector.start()

    async def _stop_projector(self) -> None:
        if self._live.projector is not None:
            await self._live.projector.stop()

    async def _start_runner(self) -> None:
        from connectors.runners.runner import Runner  # noqa: PLC0415 - a node without this role need not load it

        settings = self._config.runner_settings(self._name, self._live.registry_url)
        self._live.runner = Runner(settings, self._codec)
        await self._live.runner.start()

    async def _stop_runner(self) -> None:
        if self._live.runner is not None:
            await self._live.runner.stop(_RUNNER_GRACE_S)

    async def _start_followers(self) -> None:
        made = followers(self._config, self._name, self._codec, self._user_events.make)
        for follower in made:
            follower.start()
        self._live.followers = made

    async def _stop_followers(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(follower.stop) for follower in self._live.followers))

    # ---------------------------------------------------------------- what the node says about itself
    async def _start_board(self) -> None:
        self._board.start()
        self._unexpose = expose(self._live.counters(), self._live.gauges())

    async def _stop_board(self) -> None:
        await asyncio.to_thread(self._board.stop, 0.8)

    def _describe(self) -> dict[str, Any]:
        shards = self._live.worker.engine.ownership.phases() if self._live.worker else {}
        return {
            "node": self._name,
            "url": self._listener.url if self._listener else "",
            "registry_url": self._live.registry_url,
            "roles": list(self._roles),
            "labels": list(self._config.get("RUNNER_LABELS")) if "runner" in self._roles else [],
            "shards": sorted(number for number, phase in shards.items() if phase == "ready"),
            "pid": os.getpid(),
        }


async def _nothing() -> None:
    """Stop nothing: the part only had to be waited for."""
