"""Taking up again what a transform rejected: each record at most once, into the generation that there is."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from connectors.runners.bookmark import Place
from connectors.runners.reader import DatasetReader, Upstream
from connectors.runners.topic import DatasetTopics
from connectors.runners.writer import DatasetWriter
from connectors.sdk.record import DatasetRecord
from schemas.topics import GENERATION, REDRIVEN

_READ_OFFSETS = 1_000
_TOLD_MAX = 20

Spot = tuple[int, int]
"""Partition and offset."""


class Stage(Protocol):
    """What calls the user's function, and how far the dataset before has been transformed."""

    upstream: Upstream
    positions: dict[int, int]

    def results(self, record: DatasetRecord) -> list[tuple[bytes, bytes]]:
        """Return key and value of each record that the function makes of this one; raise what it raises."""

    def commit(self) -> None:
        """Make what was written so far visible."""


@dataclass(frozen=True, slots=True)
class _Reject:
    key: bytes
    stream: str
    source: Spot


def redrive(place: Place, writer: DatasetWriter, stage: Stage, run: str | None) -> dict[str, int]:
    """Write what the function makes now of the records that this step rejected in ``run`` (None: in any).

    Only rejects of the writer's generation count that were not taken up before. Each is marked in the rejects topic, in
    the transaction that makes its records visible. What the function still refuses stays as it is; so does what a newer
    record of the same primary key has overtaken, because it would undo the newer one. Returns how many were ``taken``,
    ``rejected`` again, ``overtaken``. Takes about 300 bytes of memory for each of them. Blocks.
    """
    told = {"taken": 0, "rejected": 0, "overtaken": 0}
    rejects = _rejects(place, writer)
    if rejects is None:
        return told
    waiting = _waiting(place, rejects, run)
    newest = _newest(place, stage, waiting)
    for partition, record in _records(place, rejects, waiting):
        reject = waiting.get((partition, record.offset))
        if reject is None:
            continue
        if newest.get(reject.key, -1) > reject.source[1]:
            told["overtaken"] += 1
            continue
        try:
            results = stage.results(record)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises concerns this record only
            told["rejected"] += 1
            if told["rejected"] <= _TOLD_MAX:
                what = reject.key.decode("utf-8", "replace")
                sys.stderr.write(f"{what} is still rejected: {type(error).__name__}: {error}\n")
            continue
        writer.counts.read += 1
        told["taken"] += 1
        for key, value in results:
            writer.write(record.stream, key, value)
        writer.redriven(record.key, partition, record.offset)
        if writer.due:
            stage.commit()
    return told


def _rejects(place: Place, writer: DatasetWriter) -> Upstream | None:
    """Return the rejects topic as it is now; None when nothing was ever rejected."""
    topics = DatasetTopics(place.kafka, place.client_id)
    facts = topics.describe(place.topics.rejects(place.tenant, place.pipeline, place.step))
    if facts is None:
        return None
    generation = writer.begun.generation
    return Upstream(facts.name, facts.topic_id, generation, topics.lows(facts), topics.ends(facts), {})


def _waiting(place: Place, rejects: Upstream, run: str | None) -> dict[Spot, _Reject]:
    """Return the rejects of the generation, and of the run, that nobody has taken up."""
    found: dict[Spot, _Reject] = {}
    for partition, record in _records(place, rejects, None):
        told = record.headers or {}
        if REDRIVEN in told:
            # The mark is behind its reject: in the same partition, and later.
            of, _, offset = told[REDRIVEN].partition("/")
            found.pop((int(of), int(offset)), None)
        elif told.get(GENERATION) == rejects.generation and run in (None, told["run"]):
            source = (int(told["source-partition"]), int(told["source-offset"]))
            found[partition, record.offset] = _Reject(record.key, record.stream, source)
    return found


def _newest(place: Place, stage: Stage, waiting: Mapping[Spot, _Reject]) -> dict[bytes, int]:
    """Return the last offset of each primary key in the dataset before, as far as that has been transformed."""
    upstream, newest = stage.upstream, dict[bytes, int]()
    starts: dict[int, int] = {}
    for reject in waiting.values():
        schema = upstream.streams.get(reject.stream)
        if schema is not None and schema.key_properties:
            partition, offset = reject.source
            newest[reject.key] = max(offset, newest.get(reject.key, -1))
            starts[partition] = min(offset, starts.get(partition, offset))
    ends = {partition: max(stage.positions.get(partition, 0), start) for partition, start in starts.items()}
    done = Upstream(upstream.topic, upstream.topic_id, upstream.generation, starts, ends, {})
    for batch in DatasetReader(place, done, starts).batches(_READ_OFFSETS):
        for record in batch.records:
            if record.key in newest:
                newest[record.key] = max(newest[record.key], record.offset)
    return newest


def _records(
    place: Place, rejects: Upstream, wanted: Mapping[Spot, _Reject] | None
) -> Iterator[tuple[int, DatasetRecord]]:
    """Yield the rejects with their partitions; with ``wanted``, nothing of partitions where none of these are."""
    starts = dict(rejects.starts)
    if wanted is not None:
        starts = dict(rejects.ends)
        for partition, offset in wanted:
            starts[partition] = min(offset, starts[partition])
    for batch in DatasetReader(place, rejects, starts, headers=True).batches(_READ_OFFSETS):
        for record in batch.records:
            yield batch.partition, record
