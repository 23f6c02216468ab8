"""``python -m tests.performance``: throughput and latency of the write path beside its peers, on one broker, in one run.

Every contestant decides the same commands with the same codec: Avro commands, state, dedupe, an event with envelope and
headers, an outcome. Stock Faust does it at least once, the others exactly once.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from deploy.local.kafka import KafkaCluster
from deploy.local.paths import cache_dir
from tests.performance.load import DEPOSITED, Work, codec_of_all, make_topics, produce, watch

CONTESTANTS = {
    "flexcore": "tests.performance.ours",
    "bare librdkafka": "tests.performance.bare",
    "stock Faust": "tests.performance.stock_faust",
}


@contextmanager
def broker(external: str | None) -> Iterator[str]:
    """Give a broker: the one named, or one started for the purpose."""
    if external:
        yield external
        return
    with tempfile.TemporaryDirectory() as folder:
        cluster = KafkaCluster(Path(folder) / "kafka", Path(folder) / "logs", cache=cache_dir(), brokers=1)
        try:
            cluster.start()
            yield cluster.bootstrap
        finally:
            cluster.stop()


def drain(name: str, work: Work) -> tuple[float, float]:
    """Let a contestant drain a full topic; return commands/s between the first and the last outcome, and CPU µs each."""
    make_topics(work)
    produce(work)
    process = subprocess.Popen(
        [sys.executable, "-m", CONTESTANTS[name], work.bootstrap, work.prefix, str(work.commands)],
        stdout=subprocess.PIPE,
        text=True,
    )
    at = watch(work.bootstrap, f"{work.prefix}.account.outcomes", work.shards, work.commands, 300)
    out = process.communicate(timeout=60)[0]
    if len(at) != work.commands:
        raise SystemExit(f"{name}: {len(at)} outcomes of {work.commands} commands: not a result")
    cpu = float(out.split("CPU ")[1].split()[0])
    if "|" in out:
        print(f"    {name}: {out.split('|')[1].strip()}")
    return (len(at) - 1) / max(at[-1] - at[0], 1e-9), 1e6 * cpu / work.commands


def paced(name: str, work: Work, rate: float) -> list[float]:
    """Feed a contestant at a fixed rate (open loop); return the ms from the producer's clock to visible, per event."""
    make_topics(work)
    codec, _ = codec_of_all()
    process = subprocess.Popen(
        [sys.executable, "-m", CONTESTANTS[name], work.bootstrap, work.prefix, str(work.commands)],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(4)
    feeder = subprocess.Popen(
        [sys.executable, "-c", f"from tests.performance.load import Work, produce; produce({work!r}, {rate})"]
    )
    latencies: list[float] = []

    def seen(value: bytes) -> None:
        latencies.append(time.time() * 1e3 - codec.decode(value)[1]["sent_at"] / 1e3)

    # About nine in ten commands are accepted; the watch ends with the load.
    watch(
        work.bootstrap,
        f"{work.prefix}.account.events",
        work.shards,
        work.commands,
        work.commands / rate + 6,
        seen,
    )
    feeder.wait(30)
    process.terminate()
    process.wait(30)
    return sorted(latencies[len(latencies) // 10 :])


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance", description=__doc__)
    parser.add_argument("--commands", type=int, default=100_000, help="per drain; stock Faust gets a tenth")
    parser.add_argument(
        "--rounds", type=int, default=3, help="interleaved; the median is told with min and max"
    )
    parser.add_argument("--rate", type=float, default=1000.0, help="commands/s of the paced run")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of the paced run")
    parser.add_argument("--kafka", default=os.environ.get("FLEXCORE_TEST_KAFKA"), help="default: start one")
    options = parser.parse_args()
    packages = ("confluent-kafka", "faust-streaming", "fastavro")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(
        f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores, shared by broker, load and worker"
    )
    with broker(options.kafka) as bootstrap:
        base = Work(bootstrap, "", options.commands)
        print(
            f"{base.shards} partitions, {base.aggregates} aggregates, Avro commands, {DEPOSITED}", flush=True
        )
        drains(base, options.rounds)
        latencies(base, options.rate, options.seconds)


def fresh(base: Work, commands: int) -> Work:
    """Return the same work on topics of its own."""
    return replace(base, prefix=f"bench-{uuid.uuid4().hex[:8]}", commands=commands)


def drains(base: Work, rounds: int) -> None:
    """Let every contestant drain a full topic, in turns, and report."""
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    costs: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name in CONTESTANTS:
            count = base.commands // 10 if name == "stock Faust" else base.commands
            rate, cpu = drain(name, fresh(base, count))
            rates[name].append(rate)
            costs[name].append(cpu)
            print(f"  round {number + 1}: {name:16} {rate:10,.0f} commands/s {cpu:8.1f} us CPU", flush=True)
    report(rates, costs)


def latencies(base: Work, rate: float, seconds: float) -> None:
    """Report how long commands take from the producer's clock until their event is visible to read_committed."""
    for name in ("flexcore", "bare librdkafka"):
        found = paced(name, fresh(base, int(rate * seconds)), rate)
        p50, p95, p99 = (found[int(len(found) * share)] for share in (0.5, 0.95, 0.99))
        print(
            f"{name:16} at {rate:,.0f}/s, produce to visible: p50 {p50:.1f} p95 {p95:.1f} p99 {p99:.1f} ms"
            f" ({len(found)} events; pause between commits 2 ms, linger 1 ms, lz4)",
            flush=True,
        )


def report(rates: dict[str, list[float]], costs: dict[str, list[float]]) -> None:
    """Print medians with their spread, and the ratios that hold on any machine."""
    print(f"\n{'drain':16} {'median/s':>10} {'min':>10} {'max':>10} {'us CPU':>8}")
    for name, found in rates.items():
        print(
            f"{name:16} {statistics.median(found):10,.0f} {min(found):10,.0f} {max(found):10,.0f}"
            f" {statistics.median(costs[name]):8.1f}"
        )
    ours = statistics.median(rates["flexcore"])
    for name in ("stock Faust", "bare librdkafka"):
        print(f"flexcore / {name}: {ours / statistics.median(rates[name]):.2f}x")
    print(flush=True)


if __name__ == "__main__":
    main()
