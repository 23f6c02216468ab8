"""All aggregates together, with the transactions done by hand: what one event asks of another is carried out."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from streams.cron import next_slot
from streams.domain import bookmark, limit, pipeline, schedule
from streams.domain.aggregate import Aggregate, Message, Rejected, Send, TaskOffer
from streams.domain.alert.declaration import AGGREGATE as ALERT
from streams.domain.run import declaration
from streams.expressions import LANGUAGE
from streams.reactors import REACTORS
from streams.rehearsal.world import Happened


@dataclass
class World:
    """Every aggregate in memory; follow-up commands are carried out in order, as the log would."""

    now: int = 1_000
    states: dict[tuple[str, str], Any] = field(default_factory=dict)
    log: list[Any] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    commands: int = 0
    tenant_runs_max: int = 0

    def __post_init__(self) -> None:
        declared = (
            pipeline.aggregate(next_slot, LANGUAGE),
            schedule.aggregate(next_slot),
            declaration.aggregate(LANGUAGE, self.tenant_runs_max),
            bookmark.AGGREGATE,
            ALERT,
            limit.AGGREGATE,
        )
        self.aggregates: dict[str, Aggregate] = {aggregate.name: aggregate for aggregate in declared}

    def send(self, aggregate: str, aggregate_id: str, body: Any) -> None:
        """Carry out the command and everything that follows from it."""
        todo = deque([Send(aggregate, aggregate_id, body)])
        while todo:
            todo.extend(self._one(todo.popleft()))

    def tick(self, now: int) -> None:
        """Let it be this late, and fire what is due."""
        self.now = now
        for (name, aggregate_id), state in list(self.states.items()):
            aggregate = self.aggregates[name]
            due = aggregate.due(state)
            if aggregate.tick is not None and due is not None and due <= now:
                self.send(name, aggregate_id, aggregate.tick(due))

    def told(self, kind: type) -> list[Any]:
        """Return the events of this kind so far."""
        return [event for event in self.log if isinstance(event, kind)]

    def _one(self, send: Send) -> list[Send]:
        aggregate, place = self.aggregates[send.aggregate], (send.aggregate, send.aggregate_id)
        assert isinstance(send.body, aggregate.commands)
        self.commands += 1
        message = Message(send.body, "default", send.aggregate_id, f"c{self.commands}", self.now)
        state = self.states.get(place, aggregate.initial)
        decision = aggregate.decide(message, state)
        if isinstance(decision, Rejected):
            self.rejected.append(decision)
            return []
        following: list[Send] = []
        for event in decision:
            assert isinstance(event, aggregate.events)
            state = aggregate.evolve(state, event)
            self.log.append(event)
            self.happened.append(Happened(send.aggregate, send.aggregate_id, event, self.now))
            for effect in aggregate.effects("default", send.aggregate_id, event, state):
                if isinstance(effect, TaskOffer):
                    self.tasks.append(effect.task)
                else:
                    following.append(effect)
            if (react := REACTORS.get(type(event))) is not None:
                following.extend(react("default", send.aggregate_id, event, state))
        self.states[place] = state
        return following
