"""What the worker counts: each name with its meaning, and what to do when it moves."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Counted once per batch, never per record; written by the event loop only."""

    commands: int = 0  # processed and committed, whatever the outcome
    events: int = 0  # written
    duplicates: int = 0  # commands answered from the index; many: a client retries too eagerly
    rejected: int = 0  # refused by a rule
    quarantined: int = 0  # set aside; look at `flexcore quarantine list`
    forwarded: int = (
        0  # sent on to their right partition; many: a producer uses another partitioner than murmur2
    )
    timers: int = 0  # ticks that caused an event
    transactions: int = 0  # committed
    aborts: int = 0  # failed and tried again; many: broker trouble
    renewals: int = 0  # the producer was made anew: fenced, or a commit in doubt; many: broker trouble
    loads: int = 0  # shards folded from the log
    kept: int = 0  # shards taken back with the state still in memory
