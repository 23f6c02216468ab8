"""What an owner keeps of one aggregate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mypy_extensions import mypyc_attr


class Packed(NamedTuple):
    """A state at rest as bytes, and who opens them."""

    packed: bytes
    open: Callable[[bytes], Any]


@mypyc_attr(acyclic=True)
@dataclass(init=False, slots=True)
class Entry:
    """The newest state of one aggregate, its version (number of its events), and the chain of the last of them.

    ``kept`` is the state, or, once it rests and is snapshotted, a :class:`Packed` one: less than a fourth of the memory.
    """

    version: int
    kept: Any
    chain: bytes

    # There is one for every command: written out, so that it is compiled.
    def __init__(self, version: int, kept: Any, chain: bytes) -> None:
        self.version = version
        self.kept = kept
        self.chain = chain

    @property
    def state(self) -> Any:
        """The state; opened anew each time if it is packed."""
        kept = self.kept
        return kept.open(kept.packed) if type(kept) is Packed else kept
