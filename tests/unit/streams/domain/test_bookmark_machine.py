"""Whatever attempts of whatever runs do to a bookmark, in whatever order: one holder, and nothing counted twice."""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.domain.aggregate import Message, Rejected
from streams.domain.bookmark import (
    AGGREGATE,
    Advance,
    Begin,
    Bookmark,
    BookmarkAdvanced,
    GenerationStarted,
    ReleaseBookmark,
    ResetBookmark,
    SetBookmark,
)

RUNS = st.sampled_from(["r1", "r2", "r3"])
ATTEMPTS = st.integers(1, 3)


class BookmarkMachine(RuleBasedStateMachine):
    """Drives one bookmark, and keeps a plain record of who holds it and what was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Bookmark = AGGREGATE.initial
        self.log: list[Any] = []
        self.holder: tuple[str, int] | None = None
        self.newest: dict[str, int] = {}
        self.over: set[str] = set()
        self.counted = 0
        self.value: object = None
        self.began = 0

    def ask(self, body: Any) -> tuple[Any, ...] | Rejected:
        message = Message(body, "default", "p/s", f"c{len(self.log)}", len(self.log))
        decision: tuple[Any, ...] | Rejected = AGGREGATE.decide(message, self.state)
        if isinstance(decision, tuple):
            for event in decision:
                self.state = AGGREGATE.evolve(self.state, event)
                self.log.append(event)
        return decision

    @rule(run=RUNS, attempt=ATTEMPTS, topic=st.sampled_from(["t1", "t1", "t1", "t2"]), full=st.booleans())
    def begin(self, run: str, attempt: int, topic: str, full: bool) -> None:
        """An attempt takes the bookmark, unless another run holds it or a newer attempt came before."""
        self.began += 1
        before = self.state
        body = Begin(run, attempt, f"{run}/{attempt}", f"g{self.began}", topic, {"0": self.began}, full)
        facts = self.ask(body)
        free = self.holder is None or self.holder[0] == run
        older = before.run == run and attempt < before.attempt
        assert isinstance(facts, tuple) == (free and not older and run not in self.over)
        if isinstance(facts, Rejected):
            assert facts.reason in ("held", "stale_attempt")
            return
        self.holder = (run, attempt)
        if any(isinstance(event, GenerationStarted) for event in facts):
            assert full or before.reset or not before.exists or topic != before.topic_id
            self.counted, self.value = 0, None
        else:
            assert before.exists
            assert topic == before.topic_id
            assert not before.reset
        text = AGGREGATE.reply(body, self.state)
        assert text is not None
        assert json.loads(text)["bookmark"] == self.value

    @rule(run=RUNS, attempt=ATTEMPTS, count=st.integers(0, 3), value=st.integers(0, 2), final=st.booleans())
    def advance(self, run: str, attempt: int, count: int, value: int, final: bool) -> None:
        """Only the holder moves it."""
        facts = self.ask(Advance(run, attempt, f"{run}/{attempt}", str(value), {"0": count}, 0, final))
        assert isinstance(facts, tuple) == (self.holder == (run, attempt))
        if isinstance(facts, tuple):
            self.counted += count
            self.value = value
            if final:
                self.holder = None

    @rule(run=RUNS, really=st.integers(0, 5))
    def end_run(self, run: str, really: int) -> None:
        """Now and then: there are only three runs."""
        if really == 0:
            assert isinstance(self.ask(ReleaseBookmark(run)), tuple)
            self.over.add(run)
            if self.holder is not None and self.holder[0] == run:
                self.holder = None

    @rule(value=st.integers(0, 2), reset=st.booleans())
    def by_hand(self, value: int, reset: bool) -> None:
        """An operator moves it, when nobody holds it."""
        facts = self.ask(ResetBookmark() if reset else SetBookmark(str(value)))
        assert isinstance(facts, tuple) == (self.holder is None and self.state.exists)
        if isinstance(facts, tuple):
            self.value = None if reset else value

    @invariant()
    def has_the_recorded_holder(self) -> None:
        """One, or none."""
        held = (self.state.run, self.state.attempt) if self.state.held else None
        assert held == self.holder

    @invariant()
    def counts_what_was_counted(self) -> None:
        """Totals are of this generation, and the log says the same."""
        assert self.state.records == self.counted
        total = 0
        for event in self.log:
            if isinstance(event, GenerationStarted):
                total = 0
            elif isinstance(event, BookmarkAdvanced):
                total += sum(event.counts.values())
                assert event.records == total

    @invariant()
    def is_the_fold_of_its_log(self) -> None:
        """Nothing else is kept."""
        state = AGGREGATE.initial
        for event in self.log:
            state = AGGREGATE.evolve(state, event)
        assert state == self.state


TestBookmarkMachine = BookmarkMachine.TestCase
TestBookmarkMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
