"""Records of a snapshots topic as bytes: states, chunks of the index, and the mark that says where the tail begins.

``<aggregate>.snapshots`` is compacted: the newest record of each key counts. A state's key is the aggregate's,
``tenant/aggregate-id``; the other keys have no slash, so no aggregate can have them. Every value begins with the hash
of the fold that made it: one made by other rules, or from another log, is as if it were not there.
"""

import inspect
import zlib
from dataclasses import astuple
from hashlib import blake2b
from typing import Any

import msgspec

from schemas.catalogue import Catalogue
from schemas.parsing import canonical, wordless
from streams.domain.aggregate import Aggregate
from streams.shards.entry import Entry, Packed
from streams.shards.saved import Chunk, Mark, Named
from streams.translation import fullname

MARK_KEY = b"mark"
_CHUNK_PREFIX = b"index-"
_FORMAT = 4


class Unusable(ValueError):
    """A state that cannot be snapshotted, or a snapshot that cannot be read."""


class State(msgspec.Struct, array_like=True, frozen=True):
    """The state of one aggregate after its event number ``version``; ``chain`` is the hash of its events so far.

    A state at rest is ``packed`` (zlib) instead: a reader with many of them need not open those that nobody asks for.
    """

    fold: bytes
    version: int
    chain: bytes
    state: msgspec.Raw
    packed: bytes = b""


class _Mark(msgspec.Struct, array_like=True, frozen=True):
    fold: bytes
    mark: tuple[int, int, int, int, int, bytes]


class _Chunk(msgspec.Struct, array_like=True, frozen=True):
    fold: bytes
    outcomes: int
    first: int
    last: int
    at: int
    count: int
    ids: bytes


_NOTHING = msgspec.Raw(b"\xc0")
_QUICK = 1  # of zlib's levels; more takes longer and gains little
_encode = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(State).decode
_decode_mark = msgspec.msgpack.Decoder(_Mark).decode
_decode_chunk = msgspec.msgpack.Decoder(_Chunk).decode


def chunk_key(number: int) -> bytes:
    """Return the key of a chunk of the index."""
    return _CHUNK_PREFIX + b"%08d" % number


def chunk_number(key: bytes) -> int | None:
    """Return the number of the chunk that a key belongs to, None for another key."""
    number = key.removeprefix(_CHUNK_PREFIX)
    return int(number) if len(number) < len(key) and b"/" not in key else None


def fold_hash(aggregate: Aggregate, catalogue: Catalogue, log: str) -> bytes:
    """Return what changes when the same events could give another state: schemas, types of the state, rules.

    ``log`` identifies the log itself (its topic ids). Of the rules the text of ``evolve``'s module is looked at; a
    change elsewhere that matters must raise ``Aggregate.fold``.
    """
    said = [str(_FORMAT), log, aggregate.name, str(aggregate.fold)]
    for kind in aggregate.events:
        said.append(canonical(wordless(catalogue.schema(fullname(aggregate.name, kind)))))
    said.append(repr(_shape(type(aggregate.initial), set())))
    module = inspect.getmodule(aggregate.evolve)
    try:
        said.append("" if module is None else inspect.getsource(module))
    except OSError:
        said.append("")  # installed without its text
    return blake2b("\0".join(said).encode(), digest_size=8).digest()


def _shape(kind: Any, seen: set[type]) -> Any:
    """Return the names and types of a state's fields, those of its fields' types included."""
    declared = hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__struct_fields__")
    if not isinstance(kind, type) or kind in seen or not declared:
        return [_shape(inner, seen) for inner in getattr(kind, "__args__", ())] or str(kind)
    seen.add(kind)
    hints = inspect.get_annotations(kind, eval_str=True)
    return kind.__qualname__, [(name, str(hint), _shape(hint, seen)) for name, hint in hints.items()]


class StateCodec:
    """Encodes and decodes what one aggregate has on its snapshots topic. Thread-safe.

    States are MessagePack by the names of their fields and read back by their types.
    """

    def __init__(self, aggregate: Aggregate, fold: bytes) -> None:
        """Raises ``TypeError`` when the state is of a type that cannot be read back."""
        self.fold = fold
        self._decode = msgspec.msgpack.Decoder(type(aggregate.initial)).decode
        self._rests = aggregate.rests

    def state(self, version: int, state: Any, chain: bytes) -> bytes:
        """Return a snapshot. Raises :class:`Unusable` for a state that would not be read back as it is."""
        try:
            raw = _encode(state)
            if self._decode(raw) != state:
                raise Unusable(
                    "it holds what MessagePack does not keep, such as a tuple where any type is allowed"
                )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Unusable(f"{type(state).__name__} cannot be snapshotted: {error}") from error
        if self._rests(state):
            return _encode(State(self.fold, version, chain, _NOTHING, zlib.compress(raw, _QUICK)))
        return _encode(State(self.fold, version, chain, msgspec.Raw(raw)))

    def mark(self, mark: Mark) -> bytes:
        """Return the record of a mark."""
        return _encode(_Mark(self.fold, astuple(mark)))

    def chunk(self, named: Named) -> bytes:
        """Return the record of a chunk of the index."""
        chunk = named.chunk
        record = _Chunk(self.fold, chunk.outcomes, chunk.first, chunk.last, chunk.at, chunk.count, named.ids)
        return _encode(record)

    def entry(self, value: bytes) -> Entry | None:
        """Return what a snapshot says, or None when another fold made it. Raises :class:`Unusable` if damaged.

        A state at rest stays packed: whether that one is damaged shows when it is opened.
        """
        try:
            found = _decode_state(value)
            if found.fold != self.fold:
                return None
            kept = Packed(found.packed, self._open) if found.packed else self._decode(found.state)
        except msgspec.DecodeError as error:
            raise Unusable(f"a damaged snapshot: {error}") from error
        return Entry(found.version, kept, found.chain)

    def resting(self, value: bytes) -> Entry | None:
        """Return what is kept of a state at rest once it has this snapshot, one of this fold; None of any other state."""
        found = _decode_state(value)
        return Entry(found.version, Packed(found.packed, self._open), found.chain) if found.packed else None

    def read_state(self, value: bytes) -> tuple[int, Any, bytes] | None:
        """Return version, state and chain; the rest as :meth:`entry`, but a damaged state at rest is found, too."""
        entry = self.entry(value)
        return None if entry is None else (entry.version, entry.state, entry.chain)

    def _open(self, packed: bytes) -> Any:
        try:
            return self._decode(zlib.decompress(packed))
        except (zlib.error, msgspec.DecodeError) as error:
            raise Unusable(f"a damaged snapshot: {error}") from error

    def read_version(self, value: bytes) -> int:
        """Return the version that a snapshot holds, 0 when another fold made it. Raises :class:`Unusable` if damaged."""
        try:
            found = _decode_state(value)
        except msgspec.DecodeError as error:
            raise Unusable(f"a damaged snapshot: {error}") from error
        return found.version if found.fold == self.fold else 0

    def read_mark(self, value: bytes | None) -> Mark | None:
        """Return the mark, or None when there is none of this fold."""
        try:
            found = _decode_mark(value or b"")
        except msgspec.DecodeError:
            return None
        return Mark(*found.mark) if found.fold == self.fold else None

    def read_chunk(self, number: int, value: bytes) -> Named | None:
        """Return the chunk, or None when it is not of this fold."""
        try:
            found = _decode_chunk(value)
        except msgspec.DecodeError:
            return None
        chunk = Chunk(number, found.outcomes, found.first, found.last, found.at, found.count)
        return Named(chunk, found.ids) if found.fold == self.fold else None
