"""What a transaction adds to a slice, before it is true."""

from dataclasses import dataclass, field

from streams.protocol.record_batch import Produced
from streams.shards.entry import Entry
from streams.shards.parked import Parked
from streams.shards.saved import Remembered, Written
from streams.shards.shard import Slice
from streams.shards.trail import Vouched


@dataclass(slots=True)
class Staged:
    """What one slice adds in a transaction: an overlay over its states, dropped whole if the transaction aborts.

    ``under`` is the overlay of the transaction before, while that one is being committed; or, for a draft, the overlay of
    its transaction. ``chains`` and ``answers`` are what the next checkpoints vouch for: of events and outcomes, in order. ``written`` is what the transaction adds to the
    snapshots, ``vouched`` its checkpoint over everything before it. ``failed`` counts errors of rules, ``failure`` names the
    last one and where it was raised. ``missing`` are the chunks of old answers, ``unread`` is the
    aggregate whose events must be read back before the next command can be decided. ``redacted`` are aggregates whose
    states were folded anew.

    ``parked`` are the aggregates that wait, never changed in place: what is below may be the same object. ``releasing``:
    those that waited behind a record are to be decided before anything else. ``passed`` counts records that were no
    commands to be decided.
    """

    slice: Slice
    next: int
    sequence: int
    position: int
    under: "Staged | None" = None
    states: dict[bytes, Entry] = field(default_factory=dict)
    index: dict[bytes, Remembered] = field(default_factory=dict)
    out: list[Produced] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    commands: int = 0
    events: int = 0
    duplicates: int = 0
    rejected: int = 0
    quarantined: int = 0
    forwarded: int = 0
    timers: int = 0
    failed: int = 0
    failure: str = ""
    written: Written | None = None
    vouched: Vouched | None = None
    missing: tuple[int, ...] = ()
    unread: bytes | None = None
    redacted: list[bytes] = field(default_factory=list)
    parked: dict[bytes, Parked] = field(default_factory=dict)
    releasing: bool = False
    passed: int = 0

    @classmethod
    def on(cls, piece: Slice, under: "Staged | None") -> "Staged":
        """Return an empty overlay on a slice, or on what is being committed of it."""
        base = under or piece
        return cls(piece, base.next, base.sequence, base.position, under, parked=base.parked)

    @property
    def judged(self) -> int:
        """How many commands the rules have looked at."""
        return self.commands - self.duplicates - self.forwarded - self.passed - self.quarantined + self.failed

    def park(self, key: bytes, parked: Parked) -> None:
        """Note how it is now with a parked aggregate."""
        if self.parked is (self.under or self.slice).parked:
            self.parked = dict(self.parked)
        if parked.over:
            self.parked.pop(key, None)
        else:
            self.parked[key] = parked

    def entry(self, key: bytes) -> Entry | None:
        """Return the newest state of an aggregate, decided or committed."""
        found = self.states.get(key)
        if found is not None:
            return found
        return self.slice.states.get(key) if self.under is None else self.under.entry(key)

    def remembered(self, key: bytes) -> Remembered | None:
        """Return the answer that a command id already has."""
        found = self.index.get(key)
        if found is not None:
            return found
        return self.slice.index.get(key) if self.under is None else self.under.remembered(key)

    def absorb(self, draft: "Staged") -> None:
        """Take over what a draft adds, which was decided on this overlay."""
        self.next, self.sequence, self.position = draft.next, draft.sequence, draft.position
        self.states.update(draft.states)
        self.index.update(draft.index)
        self.out += draft.out
        self.chains += draft.chains
        self.answers += draft.answers
        self.commands += draft.commands
        self.events += draft.events
        self.duplicates += draft.duplicates
        self.rejected += draft.rejected
        self.quarantined += draft.quarantined
        self.forwarded += draft.forwarded
        self.timers += draft.timers
        self.failed += draft.failed
        self.failure = draft.failure or self.failure
        self.redacted += draft.redacted
        self.parked = draft.parked
        self.releasing = self.releasing or draft.releasing
        self.passed += draft.passed
