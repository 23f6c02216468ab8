"""An aggregate's state, now or then: its stored events folded by the domain's own function."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from msgspec import Struct

from app.adapters.view_store import ViewStore
from app.errors import not_found, problem
from app.ports import Row
from streams.domain.aggregate import Aggregate
from streams.translation import from_record, vocabulary


class TimeTravel:
    """Folds histories of the declared aggregates."""

    def __init__(self, store: ViewStore, aggregates: Sequence[Aggregate]) -> None:
        self._store = store
        self._aggregates = {aggregate.name: aggregate for aggregate in aggregates}

    async def state(
        self, tenant: str, kind: str, aggregate_id: str, version: int | None, at: int | None
    ) -> Row:
        """Return the state after the last event up to ``version`` or ``at`` (ms), with that event's place.

        Raises ``not_found`` for an unknown kind, or when nothing had happened by then; ``unavailable`` when an event
        of the history has a type that this node does not know.
        """
        aggregate = self._aggregates.get(kind)
        if aggregate is None:
            raise not_found("kind of aggregate", kind)
        events = await self._store.history(tenant, kind, aggregate_id, version, at)
        if not events or (version is not None and events[-1]["version"] < version):
            when = (
                f" at version {version}" if version is not None else " at that time" if at is not None else ""
            )
            raise problem("not_found", f"There is no {kind} {aggregate_id!r}{when}.")
        state = await asyncio.to_thread(_fold, aggregate, events)
        last = events[-1]
        return {
            "aggregate": kind,
            "id": aggregate_id,
            "version": last["version"],
            "at": last["at"],
            "shard": last["shard"],
            "position": last["position"],
            "last_event": {"event_id": last["event_id"], "type": last["type"], "actor": last["actor"]},
            "state": plain(state),
        }


def _fold(aggregate: Aggregate, events: Sequence[Mapping[str, Any]]) -> Any:
    kinds = vocabulary(aggregate).events
    state, expected = aggregate.initial, 1
    for event in events:
        if event["version"] != expected or event["type"] not in kinds:
            raise problem(
                "unavailable",
                f"The history of {aggregate.name} {event['aggregate_id']!r} cannot be folded here: version {expected} "
                f"is missing or of a type that this node does not know.",
            )
        state = aggregate.evolve(state, from_record(kinds[event["type"]], event["body"]))
        expected += 1
    return state


def plain(value: Any) -> Any:
    """Return a domain value as JSON data: states by field, sets in order, keys as text."""
    if isinstance(value, Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(entry) for entry in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
