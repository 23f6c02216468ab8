"""The load step: from the dataset before it into a sink or a Singer target, from wherever this step stopped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from connectors.runners.bookmark import BookmarkHolder
from connectors.runners.reader import DatasetReader, Upstream
from connectors.runners.task import Report, Task
from connectors.sdk.errors import InvalidSpec
from connectors.sdk.record import Batch
from connectors.sdk.sink import Load, Sink

_BATCHES = {"postgres": 10_000, "http": 500}
_BATCH_MAX = 100_000
_TARGET_BATCH = 1_000


def work(task: Task, report: Report) -> dict[str, Any]:
    """Load everything between the stored position and the end of the dataset before; return the output object."""
    upstream = Upstream.of(task.upstream, task.step)
    if "target" in task.spec:
        _load_by_target(task, report, upstream)
        return {
            "target": task.spec["target"],
            "records": report.counts.written,
            "ends": _text(upstream.ends),
        }
    sink, size = make_sink(task)
    try:
        load = Load(
            task.tenant,
            task.pipeline,
            # Loads of single partitions are parts of one: positions are by partition anyway.
            task.step.partition("[")[0],
            task.run,
            task.attempt,
            upstream.topic_id,
            upstream.generation,
            upstream.starts,
            upstream.ends,
            upstream.streams,
        )
        positions = sink.open(load)
        if sink.keeps_position:
            _load(report, sink, DatasetReader(task.place(), upstream, positions).batches(size))
        else:
            _load_with_bookmark(task, report, sink, upstream, size)
        sink.finish()
        return {
            "sink": task.spec["sink"],
            "records": report.counts.written,
            "ends": _text(upstream.ends),
            "into": {stream: asdict(place) for stream, place in sink.destinations().items()},
        }
    finally:
        sink.close()


def make_sink(task: Task) -> tuple[Sink, int]:
    """Return the sink that the step names, and how many offsets one of its batches spans."""
    kind, config = task.spec.get("sink"), task.spec.get("config") or {}
    if kind not in _BATCHES:
        raise InvalidSpec(f"step {task.step} names no sink: write sink: postgres, or sink: http")
    size = config.get("batch_records", _BATCHES[kind])
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= _BATCH_MAX:
        raise InvalidSpec(f"step {task.step}: batch_records must be a whole number from 1 to {_BATCH_MAX}")
    # Imported when used: an attempt is a process of its own, and starts the faster.
    if kind == "postgres":
        from connectors.builtin.postgres_sink import PostgresSink

        return PostgresSink(config), size
    from connectors.builtin.http_sink import HttpSink

    return HttpSink(config), size


def _load(report: Report, sink: Sink, batches: Iterator[Batch]) -> None:
    for batch in batches:
        report.counts.read += len(batch.records)
        report.counts.written += sink.write(batch)
        report.counts.size += sum(len(record.value) for record in batch.records)


def _load_with_bookmark(task: Task, report: Report, sink: Sink, upstream: Upstream, size: int) -> None:
    """Load into a sink that keeps no position: it is this step's bookmark, moved after each batch was taken."""
    place = task.place()
    with _holding(BookmarkHolder(place, task.lease)) as holder:
        here, positions = _stored(holder, upstream, task.full_refresh)
        reader = DatasetReader(place, upstream, positions)
        following = dict(reader.positions)
        for batch in reader.batches(size):
            _load(report, sink, iter((batch,)))
            following[batch.partition] = batch.end
            holder.advance({**here, "next": _text(following)}, {}, 0)
        holder.finish({**here, "next": _text(following)}, {}, 0)


def _load_by_target(task: Task, report: Report, upstream: Upstream) -> None:
    """Load by a Singer target: this step's bookmark follows the states that the target confirms."""
    from connectors.builtin.singer.installation import install
    from connectors.builtin.singer.target import SingerTarget

    requirement = str(task.spec["target"])
    path = install(requirement, Path(task.plugins_dir))
    place = task.place()
    with _holding(BookmarkHolder(place, task.lease)) as holder:
        here, positions = _stored(holder, upstream, task.full_refresh)
        reader = DatasetReader(place, upstream, positions)
        following = dict(reader.positions)
        name, config = requirement.partition("==")[0], task.spec.get("config") or {}
        target = SingerTarget(name, path, config, task.environ, task.project)
        try:
            for schema in upstream.streams.values():
                target.declare(schema)
            kept: Any = None
            for batch in reader.batches(_TARGET_BATCH):
                following[batch.partition] = batch.end
                report.counts.read += len(batch.records)
                report.counts.size += sum(len(record.value) for record in batch.records)
                target.write(batch, _text(following))
                report.counts.written += len(batch.records)
                if (safe := target.safe) is not None and safe != kept:
                    kept = safe
                    holder.advance({**here, "next": safe}, {}, 0)
            target.finish()
        finally:
            target.close()
        holder.finish({**here, "next": _text(following)}, {}, 0)


def _stored(
    holder: BookmarkHolder, upstream: Upstream, full_refresh: bool
) -> tuple[dict[str, str], dict[int, int]]:
    """Return what the position belongs to, and the position of this step in this dataset (nothing: its beginning)."""
    known = holder.begin("", {}, full_refresh).bookmark
    here = {"topic_id": upstream.topic_id, "generation": upstream.generation}
    if isinstance(known, Mapping) and {name: known.get(name) for name in here} == here:
        return here, {int(partition): offset for partition, offset in known["next"].items()}
    return here, {}


@contextmanager
def _holding(holder: BookmarkHolder) -> Iterator[BookmarkHolder]:
    try:
        holder.fence()
        yield holder
    finally:
        holder.close()


def _text(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in offsets.items()}
