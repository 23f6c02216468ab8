"""The shipped twins of Kafka and PostgreSQL: the same rules and the same folds, in memory, for tests of the edge.

Follow-up commands and reactors run to their end before an outcome is returned; timers never fire, and task offers go
to nobody, so a run stays where its first steps were offered.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.adapters.system_clock import now_ms
from app.ports import Edit, Order, Place, Row, UserEvent
from schemas.partitioning import partition_of
from schemas.topics import key_of
from streams.domain.aggregate import Aggregate, Message, Rejected, Send
from streams.domain.definition import named_by
from streams.domain.run.state import RUN_ENDED
from streams.projections.view import Meta, position
from streams.projections.views import VIEWS
from streams.translation import from_record, to_record

Reactor = Callable[[str, str, Any, Any], tuple[Send, ...]]


class MemoryPlatform:
    """A :class:`app.ports.CommandBus` and :class:`app.ports.Resources` over the aggregates' own rules.

    ``answering = False`` makes it keep commands without ever answering, as a cluster without workers does.
    """

    def __init__(
        self, aggregates: Sequence[Aggregate], reactors: Mapping[type, Reactor], shards: int = 8
    ) -> None:
        self.answering = True
        self.received: list[Order] = []
        self.events = MemoryEvents()
        self._aggregates = {aggregate.name: aggregate for aggregate in aggregates}
        self._reactors = reactors
        self._shards = shards
        self._states: dict[tuple[str, str, str], tuple[int, Any]] = {}
        self._sequences: dict[tuple[str, int], int] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self._outcomes: dict[tuple[str, ...], Row] = {}
        self._rows: dict[str, dict[tuple[Any, ...], Row]] = {view.name: {} for view in VIEWS}

    async def ask(self, order: Order, timeout_s: float) -> Row | None:
        """Decide at once. None when ``timeout_s`` is 0 or nobody is answering."""
        self.received.append(order)
        if not self.answering:
            return None
        kinds = {kind.__name__: kind for kind in self._aggregates[order.aggregate].commands}
        command = from_record(kinds[order.type], order.body)
        message = Message(
            command,
            order.tenant,
            order.aggregate_id,
            order.command_id,
            now_ms(),
            order.actor,
            order.command_id,
        )
        outcome = self._take(order.aggregate, message, order.expected_version)
        return outcome if timeout_s > 0 else None

    async def wait_for(self, aggregate: str, shard: int, sequence: int, timeout_s: float) -> bool:
        """Answer True: the rows are folded before an outcome is returned."""
        return True

    async def pipeline(self, tenant: str, name: str) -> Row | None:
        """Return the pipeline as folded."""
        return self._rows["pipeline"].get((tenant, name))

    async def users(self, tenant: str, name: str) -> list[str]:
        """Return what uses the pipeline, in words."""
        rows = [
            row for row in self._rows["run"].values() if (row["tenant"], row["pipeline"]) == (tenant, name)
        ]
        runs = [f"run {row['id']} is {row['status']}" for row in rows if row["status"] not in RUN_ENDED]
        others = [
            row
            for row in self._rows["pipeline"].values()
            if row["tenant"] == tenant and row["name"] != name and row["status"] != "deleted"
        ]
        return runs + [
            f"pipeline {row['name']} names it" for row in others if name in named_by(row["definition"])
        ]

    async def run(self, tenant: str, run_id: str) -> Row | None:
        """Return the run as folded."""
        return self._rows["run"].get((tenant, run_id))

    async def schedule(self, tenant: str, pipeline: str) -> Row | None:
        """Return the schedule as folded."""
        return self._rows["schedule"].get((tenant, pipeline))

    async def alert(self, tenant: str, pipeline: str) -> Row | None:
        """Return the alerts as folded."""
        return self._rows["alert"].get((tenant, pipeline))

    async def bookmark(self, tenant: str, pipeline: str, step: str) -> Row | None:
        """Return the bookmark as folded."""
        return self._rows["bookmark"].get((tenant, pipeline, step))

    def _take(self, name: str, message: Message, expected: int | None = None) -> Row:
        aggregate = self._aggregates[name]
        slot = (message.tenant, name, message.aggregate_id)
        version, state = self._states.get(slot, (0, aggregate.initial))
        digest = hashlib.sha256(json.dumps(to_record(message.body), sort_keys=True).encode()).hexdigest()
        known = self._outcomes.get((*slot, message.command_id))
        if known is not None and known["body_hash"] == digest:
            return known
        decision: Any = Rejected("body_mismatch", "this command id was used before with another body")
        if known is None and expected is not None and expected != version:
            decision = Rejected("version_conflict", f"expected version {expected}, but it is {version}")
        elif known is None:
            decision = aggregate.decide(message, state)
        refused = decision if isinstance(decision, Rejected) else None
        events = () if refused else decision
        sends = self._apply(aggregate, message, version, state, events)
        outcome = self._outcome(aggregate, message, digest, refused, version, len(events))
        if known is None:
            self._outcomes[(*slot, message.command_id)] = outcome
        for send in sends:
            follow = Message(send.body, message.tenant, send.aggregate_id, f"{message.command_id}/{len(self._outcomes)}",
                             message.now, message.actor, message.correlation_id)  # fmt: skip
            self._take(send.aggregate, follow)
        return outcome

    def _apply(
        self, aggregate: Aggregate, message: Message, version: int, state: Any, events: tuple[Any, ...]
    ) -> list[Send]:
        sends: list[Send] = []
        shard = partition_of(key_of(message.tenant, message.aggregate_id), self._shards)
        for event in events:
            version += 1
            state = aggregate.evolve(state, event)
            sequence = self._next(aggregate.name, shard)
            self._positions[aggregate.name, shard] = sequence
            self._fold(event, _meta(aggregate.name, message, event, version, sequence, shard))
            effects = [
                *aggregate.effects(message.tenant, message.aggregate_id, event, state),
                *(self._reactors[type(event)](message.tenant, message.aggregate_id, event, state)
                  if type(event) in self._reactors else ()),
            ]  # fmt: skip
            sends += [effect for effect in effects if isinstance(effect, Send)]
        self._states[message.tenant, aggregate.name, message.aggregate_id] = (version, state)
        return sends

    def _outcome(
        self,
        aggregate: Aggregate,
        message: Message,
        digest: str,
        refused: Rejected | None,
        version: int,
        events: int,
    ) -> Row:
        shard = partition_of(key_of(message.tenant, message.aggregate_id), self._shards)
        return {
            "command_id": message.command_id,
            "command_type": type(message.body).__name__,
            "tenant": message.tenant,
            "aggregate": aggregate.name,
            "aggregate_id": message.aggregate_id,
            "status": "rejected" if refused else "accepted",
            "reason": refused.reason if refused else None,
            "detail": refused.detail if refused else None,
            "first_version": version + 1 if events else 0,
            "last_version": version + events if events else 0,
            "shard": shard,
            "sequence": self._next(aggregate.name, shard),
            "position": self._positions.get((aggregate.name, shard), 0),
            "body_hash": digest,
            "actor": message.actor,
            "correlation_id": message.correlation_id,
            "at": message.now,
            "stored": True,
            "reply": None,
        }

    def _next(self, aggregate: str, shard: int) -> int:
        self._sequences[aggregate, shard] = self._sequences.get((aggregate, shard), 0) + 1
        return self._sequences[aggregate, shard]

    def _fold(self, event: Any, meta: Meta) -> None:
        for view in VIEWS:
            if view.typed and view.folds("events", meta.aggregate):
                key = view.key(event, meta)
                row = view.fold(self._rows[view.name].get(key), event, meta)
                if row is not None:
                    token = position(meta.aggregate, row["shard"], row["sequence"])
                    self._rows[view.name][key] = {**row, "position": token}


class MemoryQuarantine:
    """A :class:`app.ports.Quarantine` over rows; ``deeds`` is what was done, in order."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self.deeds: list[tuple[Any, ...]] = []
        self._rows = list(rows)

    async def find(self, tenant: str, places: Sequence[Place]) -> list[Row]:
        """Return the tenant's rows of these places."""
        return [row for row in self._rows if _place(row) in places and row["tenant"] in (tenant, "")]

    async def redrive(self, rows: Sequence[Row], actor: str, edit: Edit | None = None) -> list[str | None]:
        """Note it; the new command ids name the record and how often it was sent."""
        self.deeds += [("redrive", _place(row), actor, edit) for row in rows]
        return [f"{row['command_id']}-{row['redrives'] + 1}" for row in rows]

    async def drop(self, rows: Sequence[Row], actor: str, reason: str) -> None:
        """Note it."""
        self.deeds += [("drop", _place(row), actor, reason) for row in rows]


class MemoryRejects:
    """A :class:`app.ports.Rejects` over counts by run, the newest run last."""

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self.counts = dict(counts or {})

    async def waiting(
        self, tenant: str, pipeline: str, step: str, generation: str
    ) -> tuple[dict[str, int], bool]:
        """Return the counts."""
        return dict(self.counts), True


def _place(row: Row) -> Place:
    return row["source_topic"], row["source_partition"], row["source_offset"]


class MemoryEvents:
    """A :class:`app.ports.EventSink` that keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, UserEvent]] = []

    async def publish(self, tenant: str, events: Sequence[UserEvent]) -> list[Row]:
        """Keep the events; their offsets count from 0."""
        begin = len(self.taken)
        self.taken += [(tenant, event) for event in events]
        return [
            {
                "id": event.attributes["id"],
                "name": event.name,
                "topic": f"user-events.{event.name}",
                "partition": 0,
                "offset": begin + number,
            }
            for number, event in enumerate(events)
        ]


def _meta(aggregate: str, message: Message, event: Any, version: int, sequence: int, shard: int) -> Meta:
    return Meta(
        tenant=message.tenant,
        aggregate=aggregate,
        aggregate_id=message.aggregate_id,
        version=version,
        sequence=sequence,
        event_id=f"{message.command_id}/{version}",
        type=type(event).__name__,
        command_id=message.command_id,
        causation_id=message.command_id,
        correlation_id=message.correlation_id,
        actor=message.actor,
        at=message.now,
        writer="memory",
        topic=f"{aggregate}.events",
        shard=shard,
        offset=sequence,
    )
