"""Seven known bugs, put into a worker of a fault run on purpose: each must be found, else a run without anomalies says
nothing. Only the entry point of that worker process (``worker.py``) asks for them.
"""

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException

from streams.protocol.record_batch import Batches
from streams.recovery.fold import Fold
from streams.recovery.offsets import Committed
from streams.shards.command_ids import CommandIds
from streams.worker import Worker
from streams.writer.transaction import Membership


def offsets_beside(worker: Worker) -> None:
    """The offsets are left out of the transaction: they follow in one of their own, a moment later."""
    writer: Any = worker.engine._writer
    send_offsets, commit = writer.send_offsets, writer.commit
    later: list[Any] = []

    def keep(offsets: Any, membership: Any) -> None:
        later[:] = [offsets, membership]

    def commit_then_send() -> None:
        commit()
        time.sleep(0.02)
        writer.begin(Batches())
        send_offsets(*later)
        commit()

    writer.send_offsets, writer.commit = keep, commit_then_send


def unknown_commit_again(worker: Worker) -> None:
    """A commit without an answer counts as not done: what is in memory is kept, and the commands are decided again."""
    loader: Any = worker.engine.ownership._loader
    load = loader.load

    def keep(shard: int, known: dict[str, Any], *rest: Any) -> Any:
        mine = known and all(
            piece.metadata.startswith(f"{worker.engine._writer.id}|") for piece in known.values()
        )
        return (dict(known), len(known)) if mine else load(shard, known, *rest)

    loader.load = keep


def fold_before_stable(worker: Worker) -> None:
    """A shard is folded up to the last stable offset of now; transactions still undecided are not waited for."""
    broker: Any = worker.broker
    ends = broker.ends

    def stable(partitions: Any, _wanted: Any) -> list[Committed]:
        found: list[Committed] = broker.unstable(partitions)
        return found

    broker.stable = stable
    broker.ends = lambda partitions, committed=False: ends(partitions, committed=True)
    broker.settled = lambda *_: True


def equal_offset(worker: Worker) -> None:
    """State is kept when the committed offset is the known one, whatever was written beside it."""
    loader: Any = worker.engine.ownership._loader
    load, stable = loader.load, worker.broker.stable

    def keep(shard: int, known: dict[str, Any], wanted: Any, *rest: Any) -> Any:
        names = list(known)
        committed = stable([(loader._topics.commands(name), shard) for name in names], wanted)
        for name, found in zip(names, committed or (), strict=False):
            if known[name].next == found.offset:
                known[name].metadata = found.metadata
        return load(shard, known, wanted, *rest)

    loader.load = keep


def no_index(_worker: Worker) -> None:
    """The index of command ids is not rebuilt at a take-over."""
    finish: Any = Fold.finish

    def forget(fold: Fold, *args: Any) -> Any:
        piece = finish(fold, *args)
        piece.index.clear()
        piece.saved.older = CommandIds()
        return piece

    setattr(Fold, "finish", forget)  # noqa: B010 - mypy would rightly not have it


def late_membership(worker: Worker) -> None:
    """The group's metadata is asked for when the offsets are sent, and a revocation waits for open transactions only: what
    was decided as one member is written as the next.
    """
    writer: Any = worker.engine._writer
    consumer: Any = worker.app.consumer
    ownership: Any = worker.engine.ownership
    send_offsets, release = writer.send_offsets, ownership.release
    on_assign, poll_once = consumer._on_assign, consumer._poll_once
    latest: list[Any] = []

    def noting(client: Any) -> None:  # only the poll thread may speak to the client
        latest[:] = [Membership(client.consumer_group_metadata())]
        poll_once(client)

    def assigned(client: Any, parts: Any) -> None:
        on_assign(client, parts)
        latest[:] = [Membership(client.consumer_group_metadata())]

    def hasty(numbers: Any) -> None:
        if writer._open:
            release(numbers)
            return
        ownership._changed.wait_for = lambda _: True
        try:
            release(numbers)
        finally:
            del ownership._changed.wait_for

    consumer._on_assign, consumer._poll_once, ownership.release = assigned, noting, hasty
    writer.send_offsets = lambda offsets, _: send_offsets(offsets, latest[0])


def overlay_leak(worker: Worker) -> None:
    """What was decided in a transaction that is then refused stays in memory."""
    engine: Any = worker.engine
    failed = engine._failed

    async def leak(work: Any, error: Exception) -> None:
        for one in (engine._flight, work):
            for part in one.parts.values() if one is not None and isinstance(error, KafkaException) else ():
                part.slice.states.update(part.states)
        await failed(work, error)

    engine._failed = leak


BUGS: dict[str, Callable[[Worker], None]] = {
    "offsets-beside": offsets_beside,
    "unknown-commit-again": unknown_commit_again,
    "fold-before-stable": fold_before_stable,
    "equal-offset": equal_offset,
    "no-index": no_index,
    "late-membership": late_membership,
    "overlay-leak": overlay_leak,
}
