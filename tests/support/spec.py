"""Given, when, then for aggregates: what has happened, what is asked, what follows."""

from dataclasses import dataclass, field
from typing import Any, Self

from schemas.chain import START
from streams.domain.aggregate import Aggregate, Effect, Message, Rejected
from streams.recovery.snapshots import StateCodec
from tests.support.redacting import same_but_for_texts

TENANT = "default"


@dataclass
class Spec:
    """One aggregate in a test. ``given`` folds facts; ``when`` asks; ``then`` compares and folds what followed.

    ``then`` also asks again and expects nothing, unless the command is one that does more each time (``once=False``).
    ``do`` asks and folds in one go, for the way to the interesting place. Every state on the way has to survive being
    snapshotted and read back, and every history that may be redacted leads to the same when it is, texts aside.
    """

    aggregate: Aggregate
    aggregate_id: str
    state: Any = None
    now: int = 0
    log: list[Any] = field(default_factory=list)
    sent: list[Effect] = field(default_factory=list)
    decision: Any = None
    message: Message | None = None
    commands: int = 0

    def __post_init__(self) -> None:
        self.state = self.aggregate.initial
        self._snapshots = StateCodec(self.aggregate, b"a test")

    def given(self, *events: Any) -> Self:
        """Fold facts, and gather what they set going."""
        for event in events:
            self.state = self.aggregate.evolve(self.state, event)
            self._snapshots.state(len(self.log), self.state, START)
            self.log.append(event)
            self.sent.extend(self.aggregate.effects(TENANT, self.aggregate_id, event, self.state))
        if self.aggregate.settled(self.state):
            same_but_for_texts(self.aggregate, self.log, self.state)
        return self

    def at(self, now: int) -> Self:
        """Let it be this late (ms)."""
        self.now = now
        return self

    def when(self, body: Any, *, command_id: str = "") -> Self:
        """Ask for something; every question has a command id of its own unless told."""
        self.commands += 1
        self.message = Message(body, TENANT, self.aggregate_id, command_id or f"c{self.commands}", self.now)
        self.decision = self.aggregate.decide(self.message, self.state)
        return self

    def then(self, *events: Any, once: bool = True) -> Self:
        """Expect exactly these events; asked again, nothing more."""
        assert self.message is not None

        assert self.decision == events
        if not events:
            self.state = self.aggregate.touch(self.message, self.state)
        self.given(*events)
        if once:
            assert self.aggregate.decide(self.message, self.state) == ()
        return self

    def refused(self, reason: str, *words: str) -> Self:
        """Expect a refusal for this reason, whose detail says these words."""
        assert isinstance(self.decision, Rejected), self.decision

        assert self.decision.reason == reason
        for word in words:
            assert word in self.decision.detail
        return self

    def do(self, body: Any, *, command_id: str = "") -> tuple[Any, ...]:
        """Ask, expect it to be accepted, fold, and return the events."""
        self.when(body, command_id=command_id)
        assert self.message is not None
        assert not isinstance(self.decision, Rejected), self.decision
        if not self.decision:
            self.state = self.aggregate.touch(self.message, self.state)
        self.given(*self.decision)
        return tuple(self.decision)

    def tick(self, now: int) -> tuple[Any, ...]:
        """Let it be this late, and fire the aggregate's timer, if it is due, until nothing more is due."""
        self.now = now
        told: list[Any] = []
        while (due := self.aggregate.due(self.state)) is not None and due <= now:
            assert self.aggregate.tick is not None
            events = self.do(self.aggregate.tick(due))
            assert events, "a due timer that changes nothing would fire for ever"
            told.extend(events)
        return tuple(told)
