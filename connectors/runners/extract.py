"""The extract step: from a source into the step's dataset, with the bookmark in the same transactions."""

from pathlib import Path
from typing import Any

import orjson

from connectors.builtin.file_source import FileSource
from connectors.builtin.singer.installation import install
from connectors.builtin.singer.tap import SingerSource, TapSpec
from connectors.runners.changes import Changes
from connectors.runners.task import Report, Task
from connectors.runners.writer import DatasetWriter
from connectors.sdk.errors import BadOutput, InvalidSpec
from connectors.sdk.record import Idle, SourceRecord, State, StreamSchema
from connectors.sdk.source import Source


def work(task: Task, report: Report) -> dict[str, Any]:
    """Read the source from the bookmark to its end; return the step's output object."""
    source = make_source(task)
    try:
        writer = DatasetWriter(task.place(), task.lease, report.counts)
        try:
            begun = writer.open(task.full_refresh or bool(task.spec.get("full_refresh")))
            changes = Changes.known(task.place(), writer) if task.spec.get("changed_only") else None
            return writer.finish(_moved(source, writer, begun.bookmark, changes))
        finally:
            writer.close()
    finally:
        source.close()


def make_source(task: Task) -> Source:
    """Return the source that the step names; a Singer tap is installed first."""
    spec = task.spec
    if "tap" in spec:
        program = install(str(spec["tap"]), Path(task.plugins_dir))
        tap = TapSpec(
            name=str(spec["tap"]).partition("==")[0],
            program=program,
            config=spec.get("config") or {},
            catalog=spec.get("catalog"),
            streams=spec.get("streams") or (),
        )
        return SingerSource(tap, task.environ, task.project)
    if spec.get("source") == "file":
        return FileSource(spec.get("config") or {}, task.project)
    raise InvalidSpec(f"step {task.step} names no source: write tap: name==version, or source: file")


def _moved(
    source: Source, writer: DatasetWriter, bookmark: Any | None, changes: Changes | None
) -> Any | None:
    """Write what the source yields; return the newest state, which is not committed yet."""
    counts = writer.counts
    declared: set[str] = set()
    for item in source.read(bookmark):
        if item.__class__ is SourceRecord:
            stream, data = item
            if stream not in declared:
                raise BadOutput(f"the source gave a record of stream {stream!r} before its schema")
            counts.read += 1
            key = writer.key_of(stream, data)
            if changes is None or changes.is_new(key, data):
                writer.write(stream, key, orjson.dumps(data))
            if counts.read & 0xF == 0 and writer.forced:
                # No state came for long: the records are made safe, and read again if the attempt fails.
                writer.commit(bookmark)
        elif isinstance(item, State):
            bookmark = item.value
            if writer.due:
                writer.commit(bookmark)
        elif isinstance(item, StreamSchema):
            if changes is not None and not item.key_properties:
                raise InvalidSpec(f"changed_only needs a primary key, and stream {item.stream} has none")
            writer.declare(item)
            declared.add(item.stream)
        elif isinstance(item, Idle) and writer.due:
            writer.commit(bookmark)
    return bookmark
