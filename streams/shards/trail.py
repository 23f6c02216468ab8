"""What of a slice no checkpoint vouches for yet, hashed as it is committed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from schemas.chain import START, framed, root_after

_EVENTS_MAX = 10_000
_AGE_MAX_MS = 60_000


@dataclass(frozen=True, slots=True)
class Vouched:
    """The last checkpoint of a slice: its number (0: there is none), the last sequence it covers, its root."""

    number: int = 0
    to: int = 0
    root: bytes = START

    def __str__(self) -> str:
        return f"{self.number}.{self.to}.{self.root.hex()}"

    @classmethod
    def read(cls, text: str) -> "Vouched":
        """Return what ``str`` has written."""
        number, to, root = text.split(".")
        return cls(int(number), int(to), bytes.fromhex(root))


@dataclass(slots=True)
class Trail:
    """The hashes since the last checkpoint, and how many events and outcomes they hold. ``since`` is the time (ms) of
    the first of them, 0 when there is none.
    """

    vouched: Vouched = field(default_factory=Vouched)
    events: int = 0
    outcomes: int = 0
    since: int = 0
    _events_hash: Any = field(default_factory=sha256)
    _outcomes_hash: Any = field(default_factory=sha256)

    def add(self, chains: Sequence[bytes], outcomes: Sequence[bytes], now_ms: int) -> None:
        """Take over what a transaction has committed: chains of events and values of outcomes, each in order."""
        if not (chains or outcomes):
            return
        self.events += len(chains)
        self.outcomes += len(outcomes)
        self._events_hash.update(b"".join(chains))
        self._outcomes_hash.update(framed(outcomes))
        self.since = self.since or now_ms

    def due(self, now_ms: int) -> bool:
        """Tell whether a checkpoint should be written: after 10,000 events or a minute."""
        return self.events >= _EVENTS_MAX or 0 < self.since <= now_ms - _AGE_MAX_MS

    def hashes(self) -> tuple[bytes, bytes]:
        """Return the hash of the events and of the outcomes."""
        return self._events_hash.digest(), self._outcomes_hash.digest()

    def next(self, to: int) -> Vouched:
        """Return the checkpoint that covers everything up to the sequence ``to``, the newest one committed."""
        return Vouched(self.vouched.number + 1, to, root_after(self.vouched.root, *self.hashes()))


@dataclass(slots=True)
class Tail:
    """What a fold reads of events and outcomes that may belong into the next checkpoint: those after ``after``."""

    after: int = 0
    chains: list[tuple[int, bytes]] = field(default_factory=list)
    outcomes: list[tuple[int, bytes]] = field(default_factory=list)

    def forget(self, to: int) -> None:
        """A checkpoint covers everything up to the sequence ``to``."""
        if to > self.after:
            self.after = to
            self.chains = [found for found in self.chains if found[0] > to]
            self.outcomes = [found for found in self.outcomes if found[0] > to]

    def again(self, sequence: int, chain: bytes) -> None:
        """Take an event that may have been read already."""
        if sequence > self.after and (sequence, chain) not in self.chains:
            self.chains.append((sequence, chain))

    def trail(self, vouched: Vouched, now_ms: int) -> Trail:
        """Return what comes after the last checkpoint. A redacted event may have been read later than its successors."""
        self.forget(vouched.to)
        trail = Trail(vouched)
        trail.add([chain for _, chain in sorted(self.chains)], [value for _, value in self.outcomes], now_ms)
        return trail
