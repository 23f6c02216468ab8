"""Apache Kafka in KRaft mode, one or three brokers, each broker its own controller.

A cluster keeps its identity and its ports in its folder: started again there, it is the same cluster at the
same addresses, as long as nobody else took the ports meanwhile.
"""

from __future__ import annotations

import base64
import json
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local import aot, jars
from deploy.local.failures import ServiceFailed
from deploy.local.process import Process, answers, free_ports, poll_until, port_is_free

READY_TIMEOUT_S = 90
STOP_GRACE_S = 12
_LEARN_TIMEOUT_S = 120
_HEAP = {1: "1g", 3: "384m"}
# A process that lives for two seconds, or two minutes, is over before Java's optimising compiler has paid.
_QUICK_COMPILER = ("-XX:TieredStopAtLevel=1",)

# After how long a broker that is not heard of is dead, by the number of brokers. Three: others take over. A lone one has
# nobody, so this only delays its return after kill -9; but fenced while it was merely frozen, Kafka 4.3 leaves transactions
# without their markers for ever.
_SESSION_MS = {1: "10000", 3: "3000"}
# Small internal topics start and load faster. The time-out makes a transaction left open by a dead client a matter of
# seconds; the product's records may be 4 MiB and the quarantine's 5, so the broker takes a little more.
SETTINGS = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "message.max.bytes": "6291456",
    "replica.fetch.max.bytes": "6291456",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.num.partitions": "1",
    "controlled.shutdown.max.retries": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.cleaner.backoff.ms": "1000",
}
_ROLES = {
    "process.roles": "broker,controller",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
}
_LOGGING = """\
<Configuration status="warn"><Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %m (%c{1})%n"/>
</Console></Appenders><Loggers><Root level="INFO"><AppenderRef ref="out"/></Root>
<Logger name="org.apache.kafka.common.config" level="WARN"/></Loggers></Configuration>
"""


def new_cluster_id() -> str:
    """Return an id as Kafka makes them: 16 bytes as URL-safe base64, never with "-" in front, which its tools would take
    for an option.
    """
    return "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]


@dataclass(frozen=True, slots=True)
class _Identity:
    """What stays the same over restarts."""

    cluster_id: str
    ports: list[int]
    controller_ports: list[int]


class Broker:
    """One broker of a cluster: `kill`, `pause`, `resume`, `restart` act on it alone."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def address(self) -> str:
        """The broker's own host and port."""
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End the broker by SIGKILL; returns when it is gone."""
        self.process.kill()

    def pause(self) -> None:
        """Freeze the broker: connections stay open and nothing is answered."""
        self.process.pause()

    def resume(self) -> None:
        """Let a frozen broker go on."""
        self.process.resume()

    def restart(self) -> None:
        """Start the broker again if it is dead; returns when it listens. Raises ServiceFailed."""
        if not self.process.running:
            self.process.start()
        _await_ports([self], time.monotonic() + READY_TIMEOUT_S)


class KafkaCluster:
    """A cluster of one or three brokers in `folder`, logging to `logs`.

    `start` blocks until every broker is in the metadata and a controller leads. Start it on a thread that
    outlives it (see Process). A cluster of three keeps acknowledged records when one broker dies. Not ``optimised``,
    Java leaves its optimising compiler out, and its heap grows as it must: less CPU in a broker's first minutes, less
    throughput after them. Else the whole heap is there from the start, as Kafka's own script has it.
    ``learn``: where Java, at the end, writes down which classes it has loaded; see `aot`.
    """

    def __init__(
        self,
        folder: Path,
        logs: Path,
        *,
        cache: Path,
        brokers: int = 1,
        heap: str | None = None,
        optimised: bool = True,
        learn: Path | None = None,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        if brokers not in _HEAP:
            raise ValueError("a local cluster has 1 or 3 brokers")
        self.brokers: list[Broker] = []
        self.version = jars.KAFKA_VERSION
        self._folder = folder
        self._logs = logs
        self._cache = cache
        self._size = brokers
        self._heap = heap or _HEAP[brokers]
        self._java_options = (f"-Xms{self._heap}",) if optimised else _QUICK_COMPILER
        self._learn = learn
        self._progress = progress

    @property
    def bootstrap(self) -> str:
        """What a client takes as `bootstrap.servers`."""
        return ",".join(broker.address for broker in self.brokers)

    def start(self) -> None:
        """Start every broker and wait until the cluster serves; blocks. Raises LocalStackError."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Fetch jars if need be, format new folders and start the brokers; does not wait until they serve."""
        java = self._java(jars.ensure(self._cache, self._progress))
        identity = self._identity()
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "log4j2.xml").write_text(_LOGGING, encoding="utf-8")
        (self._folder / "cluster.json").write_text(json.dumps(asdict(identity)), encoding="utf-8")
        for number in range(1, self._size + 1):
            self._properties(number, identity)
        self._format(java, identity.cluster_id)
        self._progress(f"starting Apache Kafka {self.version}, {self._size} broker{'s' * (self._size > 1)}")
        self.brokers = [
            Broker(self._process(java, number), identity.ports[number - 1])
            for number in range(1, self._size + 1)
        ]
        for broker in self.brokers:
            broker.process.start()

    def await_ready(self) -> None:
        """Wait until every broker is in the metadata. Raises ServiceFailed with the cause found in its log."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + READY_TIMEOUT_S
        _await_ports(self.brokers, deadline)
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            _raise_if_ended(self.brokers)
            try:
                if len(admin.list_topics(timeout=2).brokers) == self._size:
                    return
            except KafkaException:
                pass  # still electing; the deadline below ends this
            if not poll_until(deadline):
                raise _not_ready(self.brokers[0])

    def stop(self) -> None:
        """Stop all brokers, cleanly while they can; after it no process of the cluster is left."""
        for broker in self.brokers:
            broker.process.terminate()
        deadline = time.monotonic() + STOP_GRACE_S
        for broker in self.brokers:
            broker.process.wait(max(0.0, deadline - time.monotonic()))
            broker.process.kill()

    def _identity(self) -> _Identity:
        """The cluster's id and ports: those of its last start, but new ports for any that is taken."""
        file = self._folder / "cluster.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if known and len(known["ports"]) != self._size:
            raise ServiceFailed(
                f"The data directory holds a cluster of {len(known['ports'])} brokers, not of {self._size}.",
                "Start it with that number of brokers, choose another data directory, or wipe this one.",
            )
        wanted = known.get("ports", []) + known.get("controller_ports", [])
        fresh = free_ports(2 * self._size)
        ports = [port if port_is_free(port) else fresh.pop() for port in wanted] or fresh
        return _Identity(
            known.get("cluster_id") or new_cluster_id(), ports[: self._size], ports[self._size :]
        )

    def _java(self, classpath: list[Path]) -> list[str]:
        known = None if self._learn else aot.ensure(self._cache, classpath, self._learned, self._progress)
        return [
            str(aot.java()),
            *([f"-XX:AOTCache={known}"] if known else []),
            *self._java_options,
            f"-Xmx{self._heap}",
            # Two threads that collect wait for each other, for up to 100 ms where other processes need the cores.
            "-XX:+UseSerialGC",
            # Its pauses are spent on copying what lives for long: once is enough, and half of the heap lasts longer.
            "-XX:MaxTenuringThreshold=1",
            "-XX:NewRatio=1",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.xml'}",
            "-cp",
            ":".join(map(str, classpath)),
        ]

    def _learned(self, file: Path) -> None:
        """Let a broker of its own live for a moment and write ``file`` at its end; blocks. Raises ServiceFailed."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            logs, cache = folder / "logs", self._cache
            cluster = KafkaCluster(folder / "kafka", logs, cache=cache, optimised=False, learn=file)
            try:
                cluster.start()
                cluster.brokers[0].process.terminate()
                cluster.brokers[0].process.wait(_LEARN_TIMEOUT_S)
            finally:
                cluster.stop()

    def _node(self, number: int) -> Path:
        return self._folder / f"broker-{number}"

    def _properties(self, number: int, identity: _Identity) -> None:
        ports, controllers = identity.ports, identity.controller_ports
        voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(controllers, 1))
        replicas, in_sync = ("3", "2") if self._size == 3 else ("1", "1")
        node = self._node(number)
        node.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{ports[number - 1]}"
        own = {
            "node.id": str(number),
            "listeners": f"PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controllers[number - 1]}",
            "advertised.listeners": f"PLAINTEXT://{address}",
            "controller.quorum.voters": voters,
            "log.dirs": str(node / "data"),
            "broker.session.timeout.ms": _SESSION_MS[self._size],
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
        }
        lines = [f"{key}={value}\n" for key, value in (_ROLES | SETTINGS | own).items()]
        (node / "server.properties").write_text("".join(lines), encoding="utf-8")

    def _format(self, java: list[str], cluster_id: str) -> None:
        """Format every folder that is not yet, all at once."""
        formatters = []
        for number in range(1, self._size + 1):
            node = self._node(number)
            if (node / "data" / "meta.properties").exists():
                continue
            quick = [java[0], *_QUICK_COMPILER, *java[1:]]
            command: list[str | Path] = [*quick, "kafka.tools.StorageTool", "format", "-t", cluster_id]
            command += ["-c", node / "server.properties"]
            formatters.append(Process(f"format-{number}", command, self._logs / f"kafka-{number}.log"))
        if formatters:
            self._progress("formatting Kafka's storage")
        for formatter in formatters:
            formatter.start()
        for formatter in formatters:
            formatter.wait(READY_TIMEOUT_S)
            if formatter.returncode != 0:
                raise ServiceFailed(
                    "Kafka's storage could not be formatted.",
                    _remedy(formatter.log_tail(40)),
                    formatter.log_tail(),
                )

    def _process(self, java: list[str], number: int) -> Process:
        learning = [f"-XX:AOTCacheOutput={self._learn}"] if self._learn else []
        command: list[str | Path] = [java[0], *learning, *java[1:], "kafka.Kafka"]
        command.append(self._node(number) / "server.properties")
        return Process(f"kafka-{number}", command, self._logs / f"kafka-{number}.log")


def _await_ports(brokers: list[Broker], deadline: float) -> None:
    for broker in brokers:
        while not answers(broker.port):
            _raise_if_ended(brokers)
            if not poll_until(deadline):
                raise _not_ready(broker)


def _raise_if_ended(brokers: list[Broker]) -> None:
    for broker in brokers:
        if not broker.process.running:
            tail = broker.process.log_tail(60)
            raise ServiceFailed(
                f"{broker.process.name} ended with exit code {broker.process.returncode}.",
                _remedy(tail),
                tail[-15:],
            )


def _not_ready(broker: Broker) -> ServiceFailed:
    tail = broker.process.log_tail(60)
    return ServiceFailed(
        f"{broker.process.name} was not ready after {READY_TIMEOUT_S} s.", _remedy(tail), tail[-15:]
    )


# What the log says -> what helps. The first that is found counts.
_REMEDIES = {
    "Address already in use": "Another program took the port meanwhile; start again and a free one is chosen.",
    "No space left on device": "The disk is full: free some space or choose another data directory.",
    "insufficient memory": "The machine has too little free memory for the Java runtime; close something.",
    "Could not reserve enough space": "The machine has too little free memory for the Java runtime.",
    "java.nio.file.AccessDeniedException": "The data directory is not writable for this user.",
    "Read-only file system": "The data directory is on a read-only file system; choose another.",
}


def _remedy(tail: tuple[str, ...]) -> str:
    text = "\n".join(tail)
    for sign, remedy in _REMEDIES.items():
        if sign in text:
            return remedy
    return "Read the last lines of its log; if its data are damaged, wipe the data directory and start again."
