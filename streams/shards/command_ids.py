"""Command ids by the hundred million: which chunks of the index name an id, in 12 bytes an id, most of them on disk.

Ids are kept as their 64-bit hashes, each with the number of its chunk, in *levels*: sorted runs, each eight times as
long as the one before at most. New ids are merged into the first level, a level that is full into the next one: a log-structured
merge tree (O'Neil et al. 1996), so a look-up searches a few runs and nothing is ever moved far at one go. Runs that are
long are merged by a thread, into files; the kernel keeps of them what is looked at, and may drop it.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from operator import itemgetter
from pathlib import Path
from struct import Struct
from tempfile import TemporaryFile
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)
COMMAND_ID_BYTES: Final = 16
_LEVEL_IDS: Final = 1 << 14  # of the first level
_FACTOR: Final = 8
_IN_MEMORY: Final = 2  # levels: 130,000 ids, merged in a few milliseconds
_PART_IDS: Final = 1 << 16  # of each run, merged at one go into a file: memory that is needed meanwhile
_ALL: Final = (1 << 64) - 1
_ONE, _THREE, _SEVEN = np.uint8(1), np.uint64(3), np.uint64(7)
_Ids = tuple[NDArray[np.uint64], NDArray[np.uint32]]
_ids: Final = Struct(f"{COMMAND_ID_BYTES}s").iter_unpack


@dataclass(frozen=True, slots=True)
class _Run:
    """Hashes in their order, and the number of each one's chunk; numbers of equal hashes rise. Never changed.

    ``bits`` is a filter: the one that the first bits of a hash name, ``64 - shift`` of them, is set for each. There are eight to
    sixteen for each hash, so it answers for nine in ten that are not there.
    """

    hashes: NDArray[np.uint64]
    numbers: NDArray[np.uint32]
    bits: NDArray[np.uint8]
    shift: np.uint64

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> "_Run":
        """Return a run with its filter."""
        bits, shift = _room(len(hashes))
        _flag(bits, shift, hashes)
        return cls(hashes, numbers, bits, shift)

    def __len__(self) -> int:
        return len(self.hashes)

    def known(self, hashes: NDArray[np.uint64]) -> list[int]:
        """Return the places of those of some hashes that are here."""
        slots = hashes >> self.shift
        at = ((self.bits[slots >> _THREE] >> (slots & _SEVEN).astype(np.uint8)) & _ONE).nonzero()[0]
        if at.size:
            some = hashes[at]
            at = at[self.hashes.take(self.hashes.searchsorted(some), mode="clip") == some]
        found: list[int] = at.tolist()
        return found

    def of_hash(self, wanted: int) -> list[int]:
        """Return the numbers of a hash."""
        key = np.uint64(wanted)
        first, last = self.hashes.searchsorted(key), self.hashes.searchsorted(key, "right")
        found: list[int] = self.numbers[first:last].tolist()
        return found

    def merged(self, newer: "_Run", oldest: int) -> "_Run":
        """Return both as one, without chunks before ``oldest``."""
        return _Run.of(*_merged((self.hashes, self.numbers), (newer.hashes, newer.numbers), oldest))

    def parts(self, newer: "_Run", oldest: int) -> "Iterator[_Ids]":
        """Yield what :meth:`merged` has, a part of it at a time; equal hashes are in one part."""
        here = there = 0
        while here < len(self) or there < len(newer):
            here_end, there_end = len(self), len(newer)
            # Either may be the longer one: of the first run of a level the older has nothing.
            ends = [
                run.hashes[at + _PART_IDS]
                for run, at in ((self, here), (newer, there))
                if at + _PART_IDS < len(run)
            ]
            if ends:
                last = min(ends)
                here_end, there_end = (int(one.hashes.searchsorted(last, "right")) for one in (self, newer))
            mine, other = slice(here, here_end), slice(there, there_end)
            ours, theirs = (
                (self.hashes[mine], self.numbers[mine]),
                (newer.hashes[other], newer.numbers[other]),
            )
            yield _merged(ours, theirs, oldest)
            here, there = here_end, there_end


def _merged(older: _Ids, newer: _Ids, oldest: int) -> _Ids:
    at = older[0].searchsorted(newer[0], side="right")
    hashes, numbers = np.insert(older[0], at, newer[0]), np.insert(older[1], at, newer[1])
    kept = numbers >= oldest
    return (hashes, numbers) if kept.all() else (hashes[kept], numbers[kept])


def _room(count: int) -> tuple[NDArray[np.uint8], np.uint64]:
    """Return an empty filter for so many hashes, and its shift."""
    size = (8 * max(count, 1) - 1).bit_length()
    return np.zeros(1 << size - 3, np.uint8), np.uint64(64 - size)


def _flag(bits: NDArray[np.uint8], shift: np.uint64, hashes: NDArray[np.uint64]) -> None:
    """Set the bits of hashes, which are in their order."""
    if not len(hashes):
        return
    slots = hashes >> shift
    first = slots[0] & ~_SEVEN
    flags = np.zeros(int(slots[-1] - first) + 1, np.bool_)
    flags[slots - first] = True
    packed, at = np.packbits(flags, bitorder="little"), int(first >> _THREE)
    bits[at : at + len(packed)] |= packed


_NONE: Final = _Run.of(np.empty(0, np.uint64), np.empty(0, np.uint32))


class Spill:
    """Merges long runs into files of a folder, in a thread, one after the other. Any thread.

    The files have no names: when a run is dropped, or the process ends, however, they are gone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "command-ids")

    def merge(self, older: _Run, newer: _Run, oldest: int) -> "Future[_Run]":
        """Begin to merge two runs; returns at once. Without room on the disk the result is in memory."""
        return self._thread.submit(self._merged, older, newer, oldest)

    def _merged(self, older: _Run, newer: _Run, oldest: int) -> _Run:
        try:
            return self._in_files(older, newer, oldest)
        except OSError as error:
            _log.warning("%d command ids stay in memory: %s", len(older) + len(newer), error)
            return older.merged(newer, oldest)

    def _in_files(self, older: _Run, newer: _Run, oldest: int) -> _Run:
        bits, shift = _room(len(older) + len(newer))
        with self._file() as hashes, self._file() as numbers, self._file() as flags:
            for part in older.parts(newer, oldest):
                hashes.write(part[0].data)
                numbers.write(part[1].data)
                _flag(bits, shift, part[0])
            if not hashes.tell():
                return _NONE
            flags.write(bits.data)
            return _Run(
                _mapped(hashes, np.uint64), _mapped(numbers, np.uint32), _mapped(flags, np.uint8), shift
            )

    def _file(self) -> IO[bytes]:
        return TemporaryFile(dir=self._folder)


class CommandIds:
    """Which chunks an id may be in. It forgets none it was given; it takes another id for one of its own with a
    probability of one in 10^11 at 100 million ids. Single-threaded; nothing blocks.

    Its hashes are this process's own, so that nobody outside can choose ids that meet.
    """

    def __init__(self, spill: Spill | None = None) -> None:
        """``spill`` takes what is long; None: everything stays in memory, and is merged at once."""
        self._spill = spill
        self._levels = [_NONE]
        self._moving = _NONE  # on its way into a level, by a thread
        self._merging: tuple[int, Future[_Run]] | None = None  # into which
        self._count = 0
        self._oldest = 0

    def __len__(self) -> int:
        """How many ids there are, of chunks that are not forgotten; one that a chunk names twice counts twice."""
        return self._count

    def among(self, command_ids: Sequence[bytes]) -> Collection[bytes]:
        """Return those of some ids that were added; there may be ids of forgotten chunks. A few µs for each level, so it
        is to be asked for many at a time.
        """
        if not self._count:
            return ()
        hashes = _hashes(command_ids, len(command_ids))
        return {command_ids[at] for run in self._runs() for at in run.known(hashes)}

    def chunks(self, command_id: bytes) -> list[int]:
        """Return the numbers of the chunks that an id is in, as they were added; some may be forgotten already."""
        wanted = hash(command_id) & _ALL
        return sorted(number for run in self._runs() for number in run.of_hash(wanted))

    def add(self, number: int, ids: bytes) -> None:
        """Note that the chunk ``number`` names ``ids``, 16 bytes each. Numbers rise."""
        count = len(ids) // COMMAND_ID_BYTES
        self._count += count
        self._take_merged()
        hashes = np.unique(_hashes(map(itemgetter(0), _ids(ids)), count))
        self._merge(0, _Run.of(hashes, np.full(len(hashes), number, np.uint32)))

    def forget(self, count: int, oldest: int) -> None:
        """Forget ``count`` ids of chunks; none with a number below ``oldest`` is left. They go when runs are merged."""
        self._count -= count
        self._oldest = oldest
        if not self._count:
            CommandIds.__init__(self, self._spill)

    def _runs(self) -> Iterator[_Run]:
        return (run for run in (*self._levels, self._moving) if len(run))

    def _merge(self, level: int, run: _Run) -> None:
        """Merge a run into a level, and what is full into the next one."""
        if level == len(self._levels):
            self._levels.append(_NONE)
        if level >= _IN_MEMORY and self._spill is not None:
            self._moving = run
            self._merging = level, self._spill.merge(self._levels[level], run, self._oldest)
        else:
            self._put(level, self._levels[level].merged(run, self._oldest))

    def _put(self, level: int, run: _Run) -> None:
        # While a thread merges, what would be next for it may become longer than its level.
        if len(run) > _LEVEL_IDS * _FACTOR**level and (level + 1 < _IN_MEMORY or self._merging is None):
            self._levels[level] = _NONE
            self._merge(level + 1, run)
        else:
            self._levels[level] = run

    def _take_merged(self) -> None:
        if self._merging is not None and self._merging[1].done():
            level, found = self._merging
            self._moving, self._merging = _NONE, None
            self._put(level, found.result())


def _hashes(command_ids: Iterable[bytes], count: int) -> NDArray[np.uint64]:
    return np.fromiter(map(hash, command_ids), np.int64, count).view(np.uint64)


def _mapped(file: IO[bytes], kind: type[Any]) -> NDArray[Any]:
    file.flush()
    return np.frombuffer(mmap(file.fileno(), 0, access=ACCESS_READ), kind)
