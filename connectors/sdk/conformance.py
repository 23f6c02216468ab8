"""What every sink must do, as checks that a sink's own tests can run.

Each check takes ``make``, which returns a new sink on the same target (as a new attempt would), and ``rows``, which
returns what the target holds as a list of JSON objects. They raise AssertionError with a sentence.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from connectors.sdk.record import Batch, DatasetRecord, StreamSchema
from connectors.sdk.sink import Load, Sink

MakeSink = Callable[[], Sink]
Rows = Callable[[], list[dict[str, Any]]]

_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": ["string", "null"]},
        "tags": {"type": "array"},
    },
}


def load(ends: Mapping[int, int], generation: str = "g1", attempt: int = 1) -> Load:
    """Return what an attempt is about: one stream ``s`` with primary key ``id``, from offset 0 to ``ends``."""
    streams = {"s": StreamSchema("s", _SCHEMA, ("id",))}
    return Load(
        "default",
        "pipe",
        "step",
        "run-1",
        attempt,
        "topic-1",
        generation,
        dict.fromkeys(ends, 0),
        ends,
        streams,
    )


def batch(partition: int, start: int, *rows: Mapping[str, Any]) -> Batch:
    """Return a batch whose records lie at the offsets from ``start``; a commit marker takes the last offset."""
    records = [
        DatasetRecord(start + number, "s", f"s/{row['id']}".encode(), orjson.dumps(row))
        for number, row in enumerate(rows)
    ]
    return Batch(partition, start, start + len(rows) + 1, records)


def writes_what_it_is_given(make: MakeSink, rows: Rows) -> None:
    """Every record of every partition arrives, with text of all kinds, nulls and nested values."""
    given: list[list[dict[str, Any]]] = [
        [
            {"id": 1, "name": 'a "quoted" \\ text\n\t', "tags": ["x", {"y": 1}]},
            {"id": 2, "name": None, "tags": []},
        ],
        [{"id": 3, "name": "Ünï¢ode 🎈", "tags": [None]}],
    ]
    sink = make()
    try:
        sink.open(load({0: 3, 1: 2}))
        written = sink.write(batch(0, 0, *given[0])) + sink.write(batch(1, 0, *given[1]))
        sink.finish()
    finally:
        sink.close()
    assert written == 3, f"write said {written} records, three were given"
    found = sorted(rows(), key=lambda row: int(row["id"]))
    assert found == [*given[0], *given[1]], f"the target holds {found}"


def goes_on_where_it_stopped(make: MakeSink, rows: Rows) -> None:
    """An attempt that ends between two batches costs nothing: the next one continues, and nothing is there twice."""
    first, second = batch(0, 0, {"id": 1, "name": "a"}), batch(0, 2, {"id": 2, "name": "b"})
    broken = make()
    try:
        broken.open(load({0: 4}))
        broken.write(first)
    finally:
        broken.close()
    again = make()
    try:
        stored = again.open(load({0: 4}, attempt=2)).get(0, 0)
        for part in (first, second):
            if part.start >= stored:
                again.write(part)
        again.finish()
    finally:
        again.close()
    ids = sorted(int(row["id"]) for row in rows())
    assert ids == [1, 2], f"the target holds the ids {ids}"


def loads_a_loaded_range_as_nothing(make: MakeSink, rows: Rows) -> None:
    """Opening again at the end says so, and finishing then changes nothing."""
    for attempt in (1, 2):
        sink = make()
        try:
            stored = sink.open(load({0: 2}, attempt=attempt))
            if stored.get(0, 0) < 2:
                assert attempt == 1, "after a complete load the position is not at the end"
                sink.write(batch(0, 0, {"id": 1, "name": "a"}))
            sink.finish()
        finally:
            sink.close()
    assert len(rows()) == 1, f"the target holds {rows()}"


def begins_again_for_a_new_generation(make: MakeSink, rows: Rows) -> None:
    """Positions belong to a generation: a new one is loaded from its start."""
    for generation in ("g1", "g2"):
        sink = make()
        try:
            about = replace(load({0: 2}), generation=generation)
            assert sink.open(about).get(0, 0) == 0, f"generation {generation} does not begin at its start"
            sink.write(batch(0, 0, {"id": 1, "name": generation}))
            sink.finish()
        finally:
            sink.close()
    assert "g2" in {row["name"] for row in rows()}, f"the target holds {rows()}"


def refuses_an_attempt_that_was_overtaken(make: MakeSink, rows: Rows) -> None:
    """Of two attempts that go on from one position, one writes; the other's rows never appear."""
    slow, fast = make(), make()
    try:
        slow.open(load({0: 2}))
        fast.open(load({0: 2}, attempt=2))
        fast.write(batch(0, 0, {"id": 1, "name": "fast"}))
        fast.finish()
        refused = False
        try:
            slow.write(batch(0, 0, {"id": 1, "name": "slow"}))
            slow.finish()
        except Exception:  # noqa: BLE001 - however it says no
            refused = True
    finally:
        slow.close()
        fast.close()
    assert refused, "the attempt that was overtaken could write"
    assert [row["name"] for row in rows()] == ["fast"], f"the target holds {rows()}"


ANY_SINK = (writes_what_it_is_given,)
"""Checks for every sink."""

POSITION_KEEPING = (
    *ANY_SINK,
    goes_on_where_it_stopped,
    loads_a_loaded_range_as_nothing,
    begins_again_for_a_new_generation,
    refuses_an_attempt_that_was_overtaken,
)
"""Checks for sinks whose ``keeps_position`` is true."""
