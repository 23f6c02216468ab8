"""What of a slice stands in its snapshots topic, and what does not yet."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mypy_extensions import mypyc_attr

from streams.shards.command_ids import CommandIds
from streams.shards.entry import Entry

ANSWERS_KEPT = 10_000  # in memory, of those that are in chunks


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Remembered:
    """The answer once given to a command id: the hash of the body it had, and the outcome's sequence and bytes.
    ``command_uuid`` is the id as 16 bytes, where it is at hand.
    """

    body_hash: str
    sequence: int
    outcome: bytes
    command_uuid: bytes

    # There is one for every command: written out, so that it is compiled.
    def __init__(self, body_hash: str, sequence: int, outcome: bytes, command_uuid: bytes = b"") -> None:
        self.body_hash = body_hash
        self.sequence = sequence
        self.outcome = outcome
        self.command_uuid = command_uuid


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

    The answers are all that are kept of the sequences from ``first`` to ``last``, ``count`` of them, and stand at or after
    the offset ``outcomes``; the newest is from ``at`` (ms since the epoch).
    """

    number: int
    outcomes: int
    first: int
    last: int
    at: int
    count: int = 0


@dataclass(frozen=True, slots=True)
class Named:
    """A chunk as it stands on the topic: with its ids, 16 bytes each. In memory they are in :class:`CommandIds` only."""

    chunk: Chunk
    ids: bytes = b""


@dataclass(slots=True)
class Sweep:
    """A sweep under way: the mark it ends with, and the aggregates and answers (keys of the index) not yet written."""

    mark: Mark
    states: list[bytes]
    answers: Iterator[bytes]


@dataclass(slots=True)
class Written:
    """What one transaction adds to a slice's snapshots topic; true once it is committed. ``last`` ends the sweep.
    ``resting``: of the states, those at rest, as they are kept from then on.
    """

    states: list[bytes] = field(default_factory=list)
    resting: dict[bytes, Entry] = field(default_factory=dict)
    chunk: Named | None = None
    expired: list[int] = field(default_factory=list)
    mark: Mark | None = None
    last: bool = False


@dataclass(slots=True)
class Saved:
    """Bookkeeping of one slice.

    ``mark`` is the one on the topic, None when there is none of this fold. ``dirty`` are the aggregates with events
    after their last snapshot. ``older`` tells the chunks of a command id: there may be several, because an id counts
    within its aggregate only. Of the answers in the slice's index the first ``chunked`` are in chunks too.
    ``recalled`` holds the answers read back, by chunk. ``cut`` are offsets of events and outcomes below which everything
    is decided and known here: a sweep may begin. ``asked``: the broker is being asked for them. ``stuck``: a state
    cannot be written, so nothing more is.
    """

    mark: Mark | None = None
    dirty: set[bytes] = field(default_factory=set)
    chunks: dict[int, Chunk] = field(default_factory=dict)
    older: CommandIds = field(default_factory=CommandIds)
    chunked: int = 0
    recalled: dict[int, dict[bytes, Remembered]] = field(default_factory=dict)
    sweep: Sweep | None = None
    cut: tuple[int, int] | None = None
    asked: bool = False
    stuck: bool = False

    @property
    def sweeping(self) -> bool:
        """Tell whether a sweep is under way or may begin."""
        return self.sweep is not None or self.cut is not None

    def restart(self) -> None:
        """Drop a sweep under way: the transaction that went on with it may have been aborted."""
        self.sweep = self.cut = None

    def remember(self, named: Named) -> None:
        """Note a chunk that is on the topic."""
        self.chunks[named.chunk.number] = named.chunk
        self.older.add(named.chunk.number, named.ids)

    def forget(self, number: int) -> None:
        """Drop a chunk that is out of date."""
        self.recalled.pop(number, None)
        gone = self.chunks.pop(number)
        self.older.forget(gone.count, next(iter(self.chunks), number + 1))

    def last(self) -> int:
        """Return the sequence of the last answer that is in a chunk: all before it are, too."""
        return max((chunk.last for chunk in self.chunks.values()), default=0)

    def missing(self, command_id: bytes) -> tuple[int, ...]:
        """Return the chunks that must be read back before it is known whether this id was used before."""
        return tuple(
            number
            for number in self.older.chunks(command_id)
            if number in self.chunks and number not in self.recalled
        )

    def answer(self, key: bytes, command_id: bytes) -> Remembered | None:
        """Return an answer that was read back; ``key`` is its key in the index."""
        for number in self.older.chunks(command_id):
            if (found := self.recalled.get(number, {}).get(key)) is not None:
                return found
        return None
