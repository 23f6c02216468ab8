"""What taking over a log costs us: folds every shard as a worker does before it may decide, one after the other.

``python -m tests.performance.fold BOOTSTRAP PREFIX EVENTS [--cold]``; ``--cold`` reads no snapshots.
"""

import gc
import time
from typing import Any

from streams.recovery.load import Loading
from tests.performance.invocation import Invocation, parse
from tests.performance.ours import worker_of


def run(told: Invocation) -> None:
    """Fold all shards and tell how many records were read for it, of how many events in the log."""
    loader: Any = worker_of(told).engine.ownership._loader
    if told.cold:
        loader._states = {"account": None}
    records = 0
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 100)  # as in a worker
    begun, cpu = time.perf_counter(), time.process_time()
    for shard in range(told.shards):
        loading = Loading()
        assert loader.load(shard, {}, lambda: True, loading) is not None
        records += loading.records
    took_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    told.report(
        records=records,
        took_s=round(took_s, 3),
        events_per_s=round(told.commands / took_s),
        events_per_core_s=round(told.commands / cpu_s),
    )


if __name__ == "__main__":
    run(parse())
