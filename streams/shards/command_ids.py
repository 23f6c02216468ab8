"""Command ids by the ten million: which chunks of the index name an id, in some 19 bytes of memory an id.

Ids are kept as their 64-bit hashes, in buckets of packed entries (hash, number of the chunk). There are as many buckets as
the ids need: a full table splits one bucket after the other (linear hashing), so growing never stops the owner for long.
Most ids that are asked for are new. A filter, one bit set for each id, answers for nine in ten of them without a look
into a bucket (decisions.md has the figures).
"""

from itertools import repeat
from struct import Struct
from typing import Final, cast

_pack: Final = Struct("<qI").pack  # one entry: the hash of the id, the number of its chunk
_hash_bytes: Final = Struct("<q").pack
_number_at: Final = Struct("<I").unpack_from
_entries: Final = Struct("12s").iter_unpack
_low_halves: Final = Struct("<I8x").iter_unpack
_ids: Final = Struct("16s").iter_unpack
COMMAND_ID_BYTES: Final = 16
_ENTRY_BYTES: Final = 12
_HASH_BYTES: Final = 8
_PER_BUCKET: Final = 64
_FLAGS_PER_BUCKET: Final = 256  # bytes; a power of two
_LOW: Final = 0x3FFFFFFF  # what of a hash says where it goes: one digit of Python's integers, so it is reckoned with fast
_BIT_SHIFT: Final = 27
_BITS: Final = bytes(1 << bit for bit in range(8))


class CommandIds:
    """Which chunks an id may be in. It forgets none it was given; it takes another id for one of its own with a
    probability of one in 10^11 at 20 million ids. Single-threaded; nothing blocks.

    Its hashes are this process's own, so that nobody outside can choose ids that meet in one bucket.
    """

    def __init__(self) -> None:
        self._buckets = [bytearray()]
        self._mask = 0  # buckets before the table began to split again, less one
        self._split = 0  # how many of these are split since; their lower and upper halves are told apart by one bit more
        self._flags = bytearray(_FLAGS_PER_BUCKET)
        self._flags_mask = _FLAGS_PER_BUCKET - 1
        self._count = 0
        self._dead = 0  # entries of forgotten chunks that are still there
        self._oldest = 0

    def __len__(self) -> int:
        """How many ids there are, of chunks that are not forgotten; one that a chunk names twice counts twice."""
        return self._count

    def __contains__(self, command_id: bytes) -> bool:
        """Tell whether an id was added; it may be one of a forgotten chunk. Once per command."""
        low = hash(command_id) & _LOW
        if not self._flags[low & self._flags_mask] & _BITS[low >> _BIT_SHIFT]:
            return False
        at = low & self._mask
        if at < self._split:
            at = low & (2 * self._mask + 1)
        return _hash_bytes(hash(command_id)) in self._buckets[at]

    def chunks(self, command_id: bytes) -> list[int]:
        """Return the numbers of the chunks that an id is in, as they were added; some may be forgotten already."""
        wanted, found = _hash_bytes(hash(command_id)), list[int]()
        bucket = self._buckets[self._bucket(hash(command_id) & _LOW)]
        at = bucket.find(wanted)
        while at >= 0:
            if at % _ENTRY_BYTES == 0:
                found.append(_number_at(bucket, at + _HASH_BYTES)[0])
            at = bucket.find(wanted, at + 1)
        return found

    def reserve(self, count: int) -> None:
        """Make room for ``count`` ids in all while there are none yet: they are added twice as fast then."""
        if self._buckets == [bytearray()]:
            while 2 * _PER_BUCKET * len(self._buckets) <= count:
                self._buckets += [bytearray() for _ in self._buckets]
                self._double()

    def add(self, number: int, ids: bytes) -> None:
        """Note that the chunk ``number`` names ``ids``, 16 bytes each. Numbers rise. About 2 µs an id."""
        hashes = {hash(command_id) for (command_id,) in _ids(ids)}
        self._count += len(ids) // COMMAND_ID_BYTES
        if self._dead:
            self._trim(hashes)
        while self._count + self._dead > _PER_BUCKET * len(self._buckets):
            self._split_next()
        buckets, mask, split = self._buckets, self._mask, self._split
        flags, flags_mask, wide = self._flags, self._flags_mask, 2 * mask + 1
        lows = [value & _LOW for value in hashes]
        for low, entry in zip(lows, map(_pack, hashes, repeat(number)), strict=True):
            at = low & mask
            if at < split:
                at = low & wide
            buckets[at] += entry
        for low in lows:  # a loop of its own: each then works on less memory at a time
            flags[low & flags_mask] |= _BITS[low >> _BIT_SHIFT]

    def forget(self, count: int, oldest: int) -> None:
        """Forget ``count`` ids of chunks; none with a number below ``oldest`` is left. Their memory is used for new ids."""
        self._count -= count
        self._dead += count
        self._oldest = oldest
        if not self._count:
            self.clear()

    def clear(self) -> None:
        """Forget everything, and give the memory back."""
        CommandIds.__init__(self)

    def _bucket(self, low: int) -> int:
        at = low & self._mask
        return low & (2 * self._mask + 1) if at < self._split else at

    def _double(self) -> None:
        """Begin to split again from the first bucket on. The filter says the same as before, at twice the length."""
        self._mask = 2 * self._mask + 1
        self._split = 0
        self._flags *= 2
        self._flags_mask = len(self._flags) - 1

    def _split_next(self) -> None:
        """Share a bucket's entries with a new one."""
        at, upper = self._split, self._mask + 1
        old, keep, go = self._buckets[at], bytearray(), bytearray()
        for (entry,), (low,) in zip(_entries(old), _low_halves(old), strict=True):
            if low & upper:
                go += cast(bytes, entry)
            else:
                keep += cast(bytes, entry)
        self._buckets[at] = keep
        self._buckets.append(go)
        self._split += 1
        self._flag(at, upper, old)
        if self._split == upper:
            self._double()

    def _flag(self, at: int, step: int, entries: bytearray) -> None:
        """Write the filter's bytes of the buckets at ``at``, ``at + step``, …: those of ``entries`` and no others."""
        flags, flags_mask = self._flags, self._flags_mask
        flags[at::step] = bytes(len(flags) // step)
        for (low,) in _low_halves(entries):
            flags[low & flags_mask] |= _BITS[(low & _LOW) >> _BIT_SHIFT]

    def _trim(self, hashes: set[int]) -> None:
        """Of the buckets that get ids now, clean those whose first quarter is of forgotten chunks: entries are in order."""
        for at in {self._bucket(value & _LOW) for value in hashes}:
            bucket, first = self._buckets[at], 0
            quarter = len(bucket) // _ENTRY_BYTES // 4 * _ENTRY_BYTES
            if _number_at(bucket, quarter + _HASH_BYTES)[0] >= self._oldest if bucket else True:
                continue
            while first < len(bucket) and _number_at(bucket, first + _HASH_BYTES)[0] < self._oldest:
                first += _ENTRY_BYTES
            del bucket[:first]
            self._dead -= first // _ENTRY_BYTES
            divided = at < self._split or at > self._mask
            self._flag(at, (2 if divided else 1) * (self._mask + 1), bucket)
