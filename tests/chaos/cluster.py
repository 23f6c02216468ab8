"""What a fault run breaks: brokers, workers, the registry, and the links between them."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deploy.local.kafka import KafkaCluster
from deploy.local.paths import cache_dir
from deploy.local.process import Process, free_ports
from schemas.registry import MemoryRegistry
from tests.chaos.proxy import Proxy
from tests.support.platform import RegistryServer

ROOT = Path(__file__).parents[2]
SHARDS = 6
_GRACE_S = 5.0
_ACTIVE = re.compile(r"\[QuorumController id=(\d+)\] Becoming the active controller at epoch (\d+)")


class ManyDoors(KafkaCluster):
    """A cluster with one more listener for each worker, which advertises the worker's links instead of itself."""

    def __init__(self, folder: Path, logs: Path, brokers: int, workers: list[str]) -> None:
        super().__init__(folder, logs, cache=cache_dir(), brokers=brokers)
        ports = iter(free_ports(2 * brokers * len(workers)))
        self.doors = {
            (worker, number): (next(ports), next(ports))
            for worker in workers
            for number in range(1, brokers + 1)
        }

    def _properties(self, number: int, identity: Any) -> None:
        super()._properties(number, identity)
        file = self._node(number) / "server.properties"
        own = dict(line.split("=", 1) for line in file.read_text().splitlines())
        mine = [(worker, *ports) for (worker, broker), ports in self.doors.items() if broker == number]
        for name, field in (("listeners", 1), ("advertised.listeners", 2)):
            own[name] += "".join(f",{door[0].upper()}://127.0.0.1:{door[field]}" for door in mine)
        own["listener.security.protocol.map"] += "".join(f",{door[0].upper()}:PLAINTEXT" for door in mine)
        file.write_text("".join(f"{key}={value}\n" for key, value in own.items()))


class Cluster:
    """Brokers, workers and a registry in ``folder``. To be used on one thread that outlives it (see ``Process``).

    ``settings`` are those that all workers have.
    """

    def __init__(
        self,
        folder: Path,
        brokers: int,
        workers: int,
        prefix: str,
        plant: str | None = None,
        settings: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self.prefix = prefix
        self.shards = SHARDS
        self.names = [f"w{number}" for number in range(1, workers + 1)]
        self.kafka = ManyDoors(folder / "kafka", folder / "logs", brokers, self.names)
        self.proxy = Proxy()
        self.registry = MemoryRegistry()
        self._plant, self._settings = plant, dict(settings)
        self._server = RegistryServer(self.registry)
        self.workers: dict[str, Process] = {}

    def start(self, say: Callable[[str], None]) -> None:
        """Start everything; returns when Kafka serves. Blocking."""
        self.kafka.start()
        say("Kafka serves")
        for (worker, number), (port, advertised) in self.kafka.doors.items():
            self.proxy.add(f"{worker}-{number}", advertised, port)
        (registry_port,) = free_ports(1)
        self.proxy.add("registry", registry_port, self._server.server.server_address[1])
        for name in self.names:
            doors = [ports[1] for (worker, _), ports in self.kafka.doors.items() if worker == name]
            options = {
                "kafka": ",".join(f"127.0.0.1:{port}" for port in doors),
                "registry": f"http://127.0.0.1:{registry_port}",
                "prefix": self.prefix,
                "node": name,
                "data_dir": str(self.data(name)),
                "shards": self.shards,
                "replication": len(self.kafka.brokers),
                "settings": self._settings,
            }
            self.data(name).mkdir(parents=True, exist_ok=True)
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            if self._plant:
                env["CHAOS_PLANT"] = self._plant
            self.workers[name] = Process(
                name,
                [sys.executable, "-m", "tests.chaos.worker", json.dumps(options)],
                self.folder / "logs" / f"{name}.log",
                env=env,
                cwd=ROOT,
            )
            self.workers[name].start()

    def data(self, worker: str) -> Path:
        """Return a worker's data directory, where faults inside it are asked for."""
        return self.folder / "data" / worker

    @property
    def bootstrap(self) -> str:
        """The brokers' own addresses, which no fault of a link concerns."""
        return self.kafka.bootstrap

    def links(self, worker: str) -> list[str]:
        """Return the names of a worker's links to the brokers."""
        return [f"{name}-{number}" for name, number in self.kafka.doors if name == worker]

    def controller(self) -> int:
        """Return the index of the broker whose controller was the last to become active."""
        found = [
            (int(match[2]), int(match[1]))
            for broker in self.kafka.brokers
            for match in _ACTIVE.finditer(broker.process.log.read_text("utf-8", "replace"))
        ]
        return max(found)[1] - 1

    def stop(self) -> None:
        """End every process, workers first: they leave the group within two seconds, those that hang are killed after five."""
        for worker in self.workers.values():
            worker.terminate()
        deadline = time.monotonic() + _GRACE_S
        for worker in self.workers.values():
            worker.wait(max(0.0, deadline - time.monotonic()))
            worker.kill()
        self.kafka.stop()
        self._server.stop()
        self.proxy.stop()
