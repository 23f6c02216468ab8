"""The transform step: a Python function of the user's project, called for each record of a dataset."""

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from connectors.runners.reader import DatasetReader, Upstream
from connectors.runners.redrive import redrive
from connectors.runners.task import Report, Task
from connectors.runners.writer import DatasetWriter, record_key
from connectors.sdk.errors import InvalidSpec, TooManyRejects
from connectors.sdk.record import DatasetRecord, StreamSchema
from connectors.sdk.schema import ObservedSchema

_READ_OFFSETS = 1_000
_JUDGED_FROM = 100
_FOLDER = "transforms"

Function = Callable[[dict[str, Any]], Any]


def work(task: Task, report: Report) -> dict[str, Any]:
    """Transform everything between this step's bookmark and the end of the dataset before it."""
    upstream = Upstream.of(task.upstream, task.step)
    function, digest = load_function(task.project, str(task.spec.get("python", "")), task.spec.get("config"))
    place = task.place()
    writer = DatasetWriter(place, task.lease, report.counts)
    try:
        begun = writer.open(task.full_refresh)
        bookmark = begun.bookmark
        if bookmark is not None and not _continues(bookmark, upstream):
            if task.redrive is not None:
                raise InvalidSpec(
                    f"the dataset before {task.step} has begun anew since: start a run, which reads all of it again"
                )
            # The dataset before began anew, so this one does too.
            bookmark = writer.begin(full_refresh=True).bookmark
        stage = Transformation(function, upstream, writer, bookmark, task.spec.get("tolerate"))
        told = (
            {} if task.redrive is None else {"redriven": redrive(place, writer, stage, task.redrive["run"])}
        )
        reader = DatasetReader(place, upstream, stage.positions)
        for batch in reader.batches(_READ_OFFSETS):
            for record in batch.records:
                if writer.due:
                    stage.positions[batch.partition] = record.offset
                    stage.commit()
                stage.take(record, batch.partition)
            stage.positions[batch.partition] = batch.end
        stage.judge(at_end=True)
        stage.declare()
        return {**writer.finish(stage.bookmark()), "module_sha256": digest, **told}
    finally:
        writer.close()


def load_function(project: Path, name: str, config: Any) -> tuple[Function, str]:
    """Return the function ``transforms.module:function`` and the sha256 of its module's file.

    With ``config`` the function is called as ``function(record, config)``. Raises InvalidSpec when the module is not a
    file below the project's ``transforms`` folder, cannot be imported, or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    parts = module_name.split(".")
    folder = (project / _FOLDER).resolve()
    path = project.joinpath(*parts).with_suffix(".py").resolve()
    if parts[0] != _FOLDER or len(parts) < 2 or not path.is_relative_to(folder):
        raise InvalidSpec(
            f"{name!r} is not in the project's transforms folder: write transforms.module:function"
        )
    if not path.is_file():
        raise InvalidSpec(
            f"{name!r} needs the file {path.relative_to(project.resolve())}, which is not in the project"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sys.path.insert(0, str(project))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        traceback.print_exc()
        raise InvalidSpec(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InvalidSpec(f"{module_name} has no function {function_name!r}")
    if config is None:
        return function, digest
    return (lambda record: function(record, config)), digest


class Transformation:
    """Calls the function and sorts what it returns: records to the dataset, failures to the rejects topic."""

    def __init__(
        self,
        function: Function,
        upstream: Upstream,
        writer: DatasetWriter,
        bookmark: Any | None,
        tolerate: Any,
    ) -> None:
        self._function = function
        self.upstream = upstream
        self._writer = writer
        self._tolerate = _ratio(tolerate)
        self._taken = 0
        bookmark = bookmark or {}
        self.positions = {
            partition: max(start, int(bookmark.get("next", {}).get(str(partition), 0)))
            for partition, start in upstream.starts.items()
        }
        before: Mapping[str, Any] = bookmark.get("streams", {})
        self._observed: dict[str, ObservedSchema] = {}
        for stream, declared in upstream.streams.items():
            known = before.get(stream)
            self._observed[stream] = ObservedSchema(known or declared.schema, keep=known is not None)
            writer.declare(StreamSchema(stream, {}, declared.key_properties))

    def take(self, record: DatasetRecord, partition: int) -> None:
        """Transform one record. An exception of the user's function rejects the record, and the run goes on."""
        self._writer.counts.read += 1
        self._taken += 1
        try:
            results = self.results(record)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises concerns this record only
            where = (self.upstream.topic, partition, record.offset)
            cause = type(error).__name__
            self._writer.reject(record.stream, record.key, record.value, cause, str(error) or cause, where)
            return
        for key, value in results:
            self._writer.write(record.stream, key, value)

    def judge(self, at_end: bool) -> None:
        """Raise TooManyRejects when a greater share was rejected than the step tolerates."""
        rejected, taken = self._writer.counts.rejected, self._taken
        if self._tolerate is None or not taken or (taken < _JUDGED_FROM and not at_end):
            return
        if rejected > self._tolerate * taken:
            raise TooManyRejects(
                f"{rejected} of {taken} records were rejected, more than the tolerated share of "
                f"{self._tolerate}: look at the rejects of the step, mend the function or the data, and rerun"
            )

    def commit(self) -> None:
        """Make what was done so far visible, with the bookmark that covers it."""
        self.judge(at_end=False)
        self._writer.commit(self.bookmark())

    def bookmark(self) -> dict[str, Any]:
        """Return how far the dataset before has been transformed, and what is known of the records made."""
        return {
            "topic_id": self.upstream.topic_id,
            "generation": self.upstream.generation,
            "next": {str(partition): offset for partition, offset in self.positions.items()},
            "streams": {stream: observed.schema() for stream, observed in self._observed.items()},
        }

    def declare(self) -> None:
        """Tell the writer what the records made look like."""
        for stream, observed in self._observed.items():
            key = self.upstream.streams[stream].key_properties
            self._writer.declare(StreamSchema(stream, observed.schema(), key))

    def results(self, record: DatasetRecord) -> list[tuple[bytes, bytes]]:
        """Return key and value of each record that the function makes of this one; raise what the function raises."""
        returned = self._function(orjson.loads(record.value))
        if returned is None:
            return []
        made = [returned] if isinstance(returned, dict) else _many(returned)
        names = self.upstream.streams[record.stream].key_properties
        observed = self._observed[record.stream]
        results = []
        for data in made:
            key = record_key(record.stream, [data[name] for name in names]) if names else record.key
            results.append((key, orjson.dumps(data)))
        for data in made:
            observed.see(data)
        return results


def _many(returned: Any) -> list[dict[str, Any]]:
    if isinstance(returned, Iterable) and not isinstance(returned, str | bytes):
        made = list(returned)
        if all(isinstance(data, dict) for data in made):
            return made
    raise TypeError(f"the function returned {type(returned).__name__}; it may return a dict, None, or dicts")


def _ratio(tolerate: Any) -> float | None:
    if tolerate is None:
        return None
    if isinstance(tolerate, bool) or not isinstance(tolerate, int | float) or not 0 <= tolerate <= 1:
        raise InvalidSpec(f"tolerate must be a share between 0 and 1, not {tolerate!r}")
    return float(tolerate)


def _continues(bookmark: Mapping[str, Any], upstream: Upstream) -> bool:
    return (bookmark.get("topic_id"), bookmark.get("generation")) == (upstream.topic_id, upstream.generation)
