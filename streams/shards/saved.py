"""What of a slice stands in its snapshots topic, and what does not yet."""

from collections.abc import Iterator
from dataclasses import dataclass, field

COMMAND_ID_BYTES = 16
ANSWERS_KEPT = 10_000  # in memory, of those that are in chunks


@dataclass(slots=True)
class Remembered:
    """The answer once given to a command id: the hash of the body it had, and the outcome's bytes."""

    body_hash: str
    outcome: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the tail of the log begins.

    Every event before the offset ``events`` is in a snapshot, every answer before ``outcomes`` in a chunk of the index.
    Events and outcomes with a higher ``sequence`` stand at or after these offsets. ``position`` and ``next`` are the
    slice's at that sequence, ``chain`` is its running hash.
    """

    events: int = 0
    outcomes: int = 0
    sequence: int = 0
    position: int = 0
    next: int = -1
    chain: bytes = b""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Command ids whose answers are read back from the log when one of them comes again.

    The answers stand at or after the offset ``outcomes``; the newest is from ``at`` (ms since the epoch).
    """

    number: int
    outcomes: int
    at: int
    ids: bytes

    def each(self) -> list[bytes]:
        """Return the ids, 16 bytes each."""
        return [self.ids[at : at + COMMAND_ID_BYTES] for at in range(0, len(self.ids), COMMAND_ID_BYTES)]


@dataclass(slots=True)
class Sweep:
    """A sweep under way: the mark it ends with, and the aggregates and answers (keys of the index) not yet written."""

    mark: Mark
    states: list[bytes]
    answers: Iterator[bytes]


@dataclass(slots=True)
class Written:
    """What one transaction adds to a slice's snapshots topic; true once it is committed. ``last`` ends the sweep."""

    states: list[bytes] = field(default_factory=list)
    chunk: Chunk | None = None
    expired: list[int] = field(default_factory=list)
    mark: Mark | None = None
    last: bool = False


@dataclass(slots=True)
class Saved:
    """Bookkeeping of one slice.

    ``mark`` is the one on the topic, None when there is none of this fold. ``dirty`` are the aggregates with events
    after their last snapshot. ``older`` maps a command id to the numbers of its chunks: there may be several, because
    an id counts within its aggregate only. Of the answers in the slice's index the first ``chunked`` are in chunks too.
    ``recalled`` holds the answers read back, by chunk. ``cut`` are offsets of events and outcomes below which everything
    is decided and known here: a sweep may begin. ``asked``: the broker is being asked for them. ``stuck``: a state
    cannot be written, so nothing more is.
    """

    mark: Mark | None = None
    dirty: set[bytes] = field(default_factory=set)
    chunks: dict[int, Chunk] = field(default_factory=dict)
    older: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    chunked: int = 0
    recalled: dict[int, dict[bytes, Remembered]] = field(default_factory=dict)
    sweep: Sweep | None = None
    cut: tuple[int, int] | None = None
    asked: bool = False
    stuck: bool = False

    def restart(self) -> None:
        """Drop a sweep under way: the transaction that went on with it may have been aborted."""
        self.sweep = self.cut = None

    def remember(self, chunk: Chunk) -> None:
        """Note a chunk that is on the topic."""
        self.chunks[chunk.number] = chunk
        ids, number = chunk.each(), (chunk.number,)
        if self.older.keys().isdisjoint(ids):
            self.older.update(dict.fromkeys(ids, number))
            return
        for command_id in dict.fromkeys(ids):
            self.older[command_id] = self.older.get(command_id, ()) + number

    def forget(self, number: int) -> None:
        """Drop a chunk that is out of date."""
        self.recalled.pop(number, None)
        for command_id in self.chunks.pop(number).each():
            left = tuple(other for other in self.older.get(command_id, ()) if other != number)
            if left:
                self.older[command_id] = left
            else:
                self.older.pop(command_id, None)

    def missing(self, command_id: bytes) -> tuple[int, ...]:
        """Return the chunks that must be read back before it is known whether this id was used before."""
        return tuple(number for number in self.older.get(command_id, ()) if number not in self.recalled)

    def answer(self, key: bytes, command_id: bytes) -> Remembered | None:
        """Return an answer that was read back; ``key`` is its key in the index."""
        for number in self.older.get(command_id, ()):
            if (found := self.recalled[number].get(key)) is not None:
                return found
        return None
