"""Histories that were redacted as far as they can be."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from msgspec import Struct

from streams.domain.aggregate import Aggregate
from tests.contract.schema_releases import catalogue


def redacted(aggregate: str, event: Any) -> Any:
    """Return the event without the values of its marked fields."""
    marks = catalogue().redactable(f"flexcore.{aggregate}.{type(event).__name__}")
    return replace(event, **{name: mark for name, mark in marks.items() if getattr(event, name)})


def same_but_for_texts(aggregate: Aggregate, log: Sequence[Any], state: Any) -> None:
    """Fold what is left of all events, and expect the state they had led to, texts aside that no rule looks into."""
    again = aggregate.initial
    for event in log:
        again = aggregate.evolve(again, redacted(aggregate.name, event))
    assert bones(again) == bones(state)


def bones(value: Any) -> Any:
    """Return a state without its free texts, and without what only its owner's memory holds."""
    if isinstance(value, Struct):
        return {name: bones(getattr(value, name)) for name in value.__struct_fields__ if name not in _SOFT}
    if isinstance(value, dict):
        return {key: bones(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [bones(entry) for entry in value]
    return value


_TEXTS = {
    "input",
    "output",
    "outputs",
    "chars",
    "error",
    "tail",
    "items",
    "checkpoint",
    "progress",
    "signals",
    "closing",
    "compensating",
}
_VOLATILE = {"lease_until", "records_in", "records_out", "records_rejected", "bytes", "percent"}
_SOFT = _TEXTS | _VOLATILE
