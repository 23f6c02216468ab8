"""Starting runs and seeing what becomes of them, by Kafka alone."""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from connectors.sdk.commands import CommandEncoder, command_headers
from connectors.sdk.producer import IDEMPOTENT
from schemas.codec import Codec
from schemas.registry import HttpRegistry
from schemas.topics import Topics
from streams.domain.definition import canonical, digest
from tests.support.platform import SHARDS

_READY_S = 120
_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Seen:
    """An event of a run: its type, when a read_committed reader had it (time.time()), and until when it waits, if so."""

    kind: str
    at: float
    until: float = 0.0


@dataclass
class RunDesk:
    """Runs by Kafka: pipelines are applied, runs are started, their events are watched from here on."""

    bootstrap: str
    prefix: str
    registry: str
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    ended: int = 0
    events: int = 0

    def __post_init__(self) -> None:
        self._topics = Topics(self.prefix)
        self._codec = Codec(HttpRegistry(self.registry))
        self._encoder = CommandEncoder(self._codec, self._topics, SHARDS)
        self._producer = Producer(
            {
                **IDEMPOTENT,
                "bootstrap.servers": self.bootstrap,
                "linger.ms": 1,
                "queue.buffering.max.messages": 400_000,
            }
        )
        self._done = threading.Event()
        self._at_end = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()
        if not self._at_end.wait(_READY_S):
            raise RuntimeError("the events of runs cannot be followed")

    def close(self) -> None:
        """End the watch."""
        self._done.set()
        self._watching.join()

    def apply(self, name: str, *steps: dict[str, Any]) -> None:
        """Send a pipeline of these steps."""
        self._send("pipeline", name, "ApplyPipeline", {"definition": _file(name, steps)})
        self._producer.flush(30)

    def start(self, pipeline: str) -> str:
        """Queue the start of a run; return its id."""
        run = str(uuid.uuid4())
        self._send("pipeline", pipeline, "StartRun", {"run_id": run})
        return run

    def create(self, pipeline: str, *steps: dict[str, Any]) -> str:
        """Queue a run whose definition is given with it, without its pipeline."""
        run, text = str(uuid.uuid4()), _file(pipeline, steps)
        self._send(
            "run",
            run,
            "CreateRun",
            {"pipeline": pipeline, "definition": text, "definition_hash": digest(text)},
        )
        return run

    def flush(self) -> None:
        """Wait until Kafka has everything."""
        self._producer.flush(60)

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait; raise RuntimeError when it takes longer."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not within {timeout_s:g} s")
            time.sleep(0.002)

    def saw(self, run: str, kind: str) -> Seen | None:
        """Return the first event of this type of a run, once it was seen."""
        return next((one for one in list(self.seen.get(run, ())) if one.kind == kind), None)

    def _send(self, aggregate: str, name: str, kind: str, body: dict[str, Any]) -> None:
        headers = command_headers(str(uuid.uuid4()), kind, actor="bench")
        given: Any = self._encoder.encode(aggregate, name, kind, body, _TENANT, headers)
        while True:
            try:
                self._producer.produce(
                    given.topic, given.value, given.key, given.partition, headers=given.headers
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                break
        self._producer.poll(0)

    def _watch(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.prefix}.desk",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
                "enable.partition.eof": True,
            }
        )
        topic = self._topics.events("run")
        consumer.list_topics(timeout=_READY_S)
        consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in range(SHARDS)])
        ends = 0
        while not self._done.is_set():
            for message in consumer.consume(1_000, 0.05):
                if message.error() is not None:
                    ends += 1
                    if ends >= SHARDS:
                        self._at_end.set()
                    continue
                headers: Any = dict(message.headers() or ())
                run = (message.key() or b"").split(b"/")[1].decode()
                kind = headers["ce_type"].decode()
                at = time.time()
                waiting = kind == "StepWaiting" and self._codec.decode(message.value() or b"")[1]
                until = (waiting["until"] or 0) / 1000 if waiting else 0.0
                self.seen.setdefault(run, []).append(Seen(kind, at, until))
                self.ended += kind == "RunEnded"
                self.events += 1
        consumer.close()


def _file(name: str, steps: Sequence[dict[str, Any]]) -> str:
    return canonical(
        {
            "apiVersion": "flexcore/v1",
            "kind": "Pipeline",
            "metadata": {"name": name},
            "spec": {"steps": list(steps)},
        }
    )
