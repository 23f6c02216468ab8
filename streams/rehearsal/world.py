"""Every aggregate in memory, under a clock that moves only when nothing is left to do: virtual time."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from streams.domain.aggregate import Aggregate, Message, Rejected, Send, TaskOffer
from streams.reactors import Reactor

TENANT = "default"


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, in the order of telling. ``at`` is virtual time, ms since the epoch."""

    aggregate: str
    aggregate_id: str
    body: Any
    at: int


class World:
    """One tenant's aggregates and their timers. Commands are decided one by one, in the order of their sending.

    What comes from outside at some moment comes before the timers of that moment, as on a node: a result that arrives
    at its deadline counts. ``told`` sees every event, ``offered`` every task; both may ask and plan on. Commands that
    are for somebody ``elsewhere`` are not carried out.
    """

    def __init__(
        self,
        aggregates: Iterable[Aggregate],
        reactors: Mapping[type, Reactor],
        now: int,
        told: Callable[[Happened], None],
        offered: Callable[[TaskOffer], None],
        elsewhere: Callable[[Send], bool],
    ) -> None:
        self.now = now
        self._aggregates = {aggregate.name: aggregate for aggregate in aggregates}
        self._reactors = reactors
        self._told = told
        self._offered = offered
        self._elsewhere = elsewhere
        self._states: dict[tuple[str, str], Any] = {}
        self._due: dict[tuple[str, str], int] = {}
        self._sends: deque[Send] = deque()
        self._plans: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count(1)

    def state(self, aggregate: str, aggregate_id: str) -> Any:
        """Return the state as it is now."""
        return self._states.get((aggregate, aggregate_id), self._aggregates[aggregate].initial)

    def ask(
        self, aggregate: str, aggregate_id: str, body: Any, actor: str = "test", now: int | None = None
    ) -> Rejected | None:
        """Decide a command at once and fold what it causes; what follows elsewhere waits its turn.

        Return why it was refused, or None. ``now`` is the command's time, if it is not this moment.
        """
        rules = self._aggregates[aggregate]
        command_id = f"command-{next(self._numbers)}"
        at = self.now if now is None else now
        message = Message(body, TENANT, aggregate_id, command_id, at, actor, command_id)
        slot = (aggregate, aggregate_id)
        state = self.state(aggregate, aggregate_id)
        decision = rules.decide(message, state)
        if isinstance(decision, Rejected):
            return decision
        happened: list[Happened] = []
        for event in decision:
            state = rules.evolve(state, event)
            self._effects(rules, aggregate_id, event, state)
            happened.append(Happened(aggregate, aggregate_id, event, at))
        self._keep(slot, state if decision else rules.touch(message, state))
        for event in happened:
            self._told(event)
        return None

    def given(self, aggregate: str, aggregate_id: str, event: Any) -> None:
        """Fold what happened before: nobody is told, and nothing follows."""
        state = self._aggregates[aggregate].evolve(self.state(aggregate, aggregate_id), event)
        self._keep((aggregate, aggregate_id), state)

    def _keep(self, slot: tuple[str, str], state: Any) -> None:
        self._states[slot] = state
        due = self._aggregates[slot[0]].due(state)
        if due is None:
            self._due.pop(slot, None)
        else:
            self._due[slot] = due

    def _effects(self, rules: Aggregate, aggregate_id: str, event: Any, state: Any) -> None:
        reactor = self._reactors.get(type(event))
        for effect in (
            *rules.effects(TENANT, aggregate_id, event, state),
            *(reactor(TENANT, aggregate_id, event, state) if reactor else ()),
        ):
            if isinstance(effect, TaskOffer):
                self._offered(effect)
            elif not self._elsewhere(effect):
                self._sends.append(effect)

    def plan(self, at: int, deed: Callable[[], None]) -> None:
        """Do something at a moment of virtual time; what is over is done now."""
        heapq.heappush(self._plans, (max(at, self.now), next(self._numbers), deed))

    def live(self, ended: Callable[[], bool], until: int, still: frozenset[str] = frozenset()) -> None:
        """Let time go by until ``ended()``, or nothing will happen any more, or the clock has reached ``until``.

        Timers of the aggregates named in ``still`` do not fire.
        """
        while True:
            self._settle()
            if ended():
                return
            timer = min(
                ((due, slot) for slot, due in self._due.items() if slot[0] not in still),
                default=(until + 1, ("", "")),
            )
            moment = min(timer[0], self._plans[0][0] if self._plans else until + 1)
            if moment > until:
                return
            self.now = max(self.now, moment)
            if self._plans and self._plans[0][0] <= self.now:
                heapq.heappop(self._plans)[2]()
            else:
                aggregate, aggregate_id = timer[1]
                self.ask(aggregate, aggregate_id, self._tick(aggregate, timer[0]), "timer")

    def _settle(self) -> None:
        while self._sends:
            send = self._sends.popleft()
            self.ask(send.aggregate, send.aggregate_id, send.body)

    def _tick(self, aggregate: str, due: int) -> Any:
        tick = self._aggregates[aggregate].tick
        assert tick is not None
        return tick(due)
