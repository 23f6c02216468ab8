"""What the parts of a running node say about themselves: questions for ``/health``, numbers for ``/metrics``."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from app.adapters.view_store import ViewStore
from app.ports import Ping
from app.telemetry import Read
from connectors.sdk.commands import CommandClient
from schemas.errors import RegistryUnavailable
from schemas.registry import HttpRegistry

if TYPE_CHECKING:
    from connectors.follower import Follower
    from connectors.runners.runner import Runner
    from streams.agents.project import Projector
    from streams.worker import Worker


@dataclass(slots=True)
class Vitals:
    """The parts of one node, each None (or none) until it has been made."""

    kafka: Mapping[str, str]
    registry_url: str = ""
    client: CommandClient | None = None
    store: ViewStore | None = None
    worker: "Worker | None" = None
    projector: "Projector | None" = None
    runner: "Runner | None" = None
    followers: "Sequence[Follower]" = ()
    _admin: AdminClient | None = None

    def pings(self, roles: Sequence[str], projects: bool) -> dict[str, Ping]:
        """Return one question for each part that a node of these roles has."""
        pings: dict[str, Ping] = {"kafka": self._ping_kafka, "registry": self._ping_registry}
        if "api" in roles:
            pings |= {"commands": self._ping_commands, "read_store": self._ping_store}
        if "worker" in roles:
            pings["worker"] = self._ping_worker
            if projects:
                pings["projector"] = self._ping_projector
        if "runner" in roles:
            pings["runner"] = self._ping_runner
        return pings

    async def _ping_kafka(self) -> str | None:
        return await asyncio.to_thread(self._ask_kafka)

    def _ask_kafka(self) -> str | None:
        # Kept while it works: one that is made anew each time says hello to every broker each time. Then dropped: one
        # whose broker was away may go on failing.
        admin = self._admin or AdminClient({**self.kafka, "log_level": 2})
        try:
            admin.list_topics(timeout=1.5)
            self._admin = admin
        except KafkaException as error:
            self._admin = None
            return f"Kafka at {self.kafka['bootstrap.servers']} does not answer: {error.args[0].str()}"
        return None

    async def _ping_registry(self) -> str | None:
        registry = HttpRegistry(self.registry_url, 1.5)
        try:
            await asyncio.to_thread(registry.latest, "flexcore-health")
        except RegistryUnavailable as error:
            return str(error)
        finally:
            await asyncio.to_thread(registry.close)
        return None

    async def _ping_commands(self) -> str | None:
        return self.client.problem if self.client else "not started"

    async def _ping_store(self) -> str | None:
        return await self.store.ping() if self.store else "not started"

    async def _ping_worker(self) -> str | None:
        if self.worker is None:
            return "not started"
        shards = self.worker.engine.ownership
        if waiting := [number for number, phase in shards.phases().items() if phase != "ready"]:
            done = shards.progress()
            told = ", ".join(
                f"{number} ({done[number]:.0%})" if number in done else f"{number}" for number in waiting
            )
            return f"shards being taken over: {told}" + (f"; {shards.problem}" if shards.problem else "")
        return "; ".join(filter(None, (shards.problem, self.worker.engine.breakers.problem()))) or None

    async def _ping_projector(self) -> str | None:
        if self.projector is None:
            return "not started"
        return self.projector.problem or (None if self.projector.ready else "the views are being filled")

    async def _ping_runner(self) -> str | None:
        if self.runner is None or not self.followers:
            return "not started"
        problems = (self.runner.problem, *(follower.problem for follower in self.followers))
        return next(filter(None, problems), None)

    def counters(self) -> dict[str, Read]:
        """Return what the parts have counted since they started."""
        counters: dict[str, Read] = {}
        if (worker := self.worker) is not None:
            counters["worker"] = lambda: asdict(worker.engine.counters)
        if (projector := self.projector) is not None:
            counters["projector"] = projector.counters
        counters |= {one.name: partial(dict, one.counts) for one in self.followers}
        if (runner := self.runner) is not None:
            counters["runner"] = lambda: runner.counts
        return counters

    def gauges(self) -> dict[str, Read]:
        """Return what goes up and down, each with what it is of."""
        gauges: dict[str, Read] = {}
        if (worker := self.worker) is not None:
            gauges["shard_ready"] = lambda: {
                str(n): float(phase == "ready") for n, phase in worker.engine.ownership.phases().items()
            }
            gauges["aggregate_paused"] = lambda: dict.fromkeys(worker.engine.breakers.paused(), 1.0)
            gauges["command_ids"] = lambda: {
                name: float(count) for name, count in worker.engine.ownership.command_ids().items()
            }
            gauges["aggregates_parked"] = lambda: {
                name: float(count) for name, count in worker.engine.ownership.parked().items()
            }
            gauges["worker_buffered"] = lambda: {
                unit: float(count)
                for unit, count in zip(("records", "bytes"), worker.engine.ownership.buffered, strict=True)
            }
        if (projector := self.projector) is not None:
            gauges["projector_lag"] = projector.lag
        if (runner := self.runner) is not None:
            gauges["runner_attempts"] = lambda: {"running": float(len(runner.running))}
        return gauges
