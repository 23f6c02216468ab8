"""Growth: what a command costs us with more partitions, with more aggregates, and with a second process."""

from dataclasses import dataclass, replace

from tests.performance.contestants import OURS, Running
from tests.performance.drain import WARM_AFTER, drain
from tests.performance.load import Work, commands_of
from tests.performance.truth import Found, check
from tests.performance.watch import Progress
from tests.performance.wire import outputs

_TIMEOUT_S = 600
PARTITIONS = 64
AGGREGATES = 1_000_000


@dataclass(frozen=True, slots=True)
class Grown:
    """CPU µs per command, commands/s without the first fifth, records per transaction, resident memory."""

    cpu_us: float
    warm: float
    per_transaction: float
    memory_mb: float
    found: Found


def variants(base: Work) -> dict[str, Work]:
    """Return the works to compare: the plain one, more partitions, more aggregates."""
    return {
        "plain": base,
        f"{PARTITIONS} partitions": replace(base, shards=PARTITIONS),
        f"{AGGREGATES:,} aggregates": replace(base, aggregates=AGGREGATES),
    }


def one(work: Work) -> Grown:
    """Drain one variant. Blocking."""
    found = drain(OURS, work)
    per_transaction = work.commands / max(found.told["transactions"], 1)
    return Grown(found.cpu_us, found.warm, per_transaction, found.told["memory_mb"], found.found)


def two(work: Work) -> Grown:
    """Drain with two processes that share the shards. Blocking."""
    progress = Progress(work.bootstrap, outputs(work.prefix, OURS.name).outcomes("account"), work.shards)
    progress.look()
    pair = [Running(OURS, work, "--node", f"bench-{number}", commands=1 << 40) for number in (1, 2)]
    try:
        progress.settle(lambda: all(running.alive() for running in pair), work.commands, _TIMEOUT_S)
    finally:
        for running in pair:
            running.stop()
    told = [running.told() for running in pair]
    if not all(told):
        raise RuntimeError(f"one of two workers failed: {' / '.join(each.complaint() for each in pair)}")
    cpu_us = 1e6 * sum(each["cpu_s"] for each in told) / work.commands
    per_transaction = work.commands / max(sum(each["transactions"] for each in told), 1)
    memory_mb = sum(each["memory_mb"] for each in told)
    return Grown(cpu_us, progress.rate(WARM_AFTER), per_transaction, memory_mb, check(OURS, [work]))


def touched(work: Work) -> int:
    """Return how many aggregates have a command."""
    return len({account for account, _, _ in commands_of(work)})
