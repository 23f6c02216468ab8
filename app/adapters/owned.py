"""The states in this node's own memory, as the edge sees them."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from app.adapters.time_travel import plain
from app.errors import not_found
from app.ports import Held
from schemas.partitioning import partition_of
from schemas.topics import key_of

if TYPE_CHECKING:
    from streams.worker import Worker


class OwnedStates:
    """A :class:`app.ports.Memory`. ``worker`` answers None where there is none (yet)."""

    def __init__(
        self, node: str, shards: int, kinds: Iterable[str], worker: "Callable[[], Worker | None]"
    ) -> None:
        self.node = node
        self._shards = shards
        self._kinds = frozenset(kinds)
        self._worker = worker

    def shard_of(self, tenant: str, kind: str, aggregate_id: str) -> int:
        """Return the aggregate's shard; raises ``not_found`` for an unknown kind."""
        if kind not in self._kinds:
            raise not_found("kind of aggregate", kind)
        return partition_of(key_of(tenant, aggregate_id), self._shards)

    def held(self, tenant: str, kind: str, aggregate_id: str) -> Held | None:
        """Return what is committed here, of an owned or a followed shard; None for another shard."""
        if (worker := self._worker()) is None:
            return None
        key = key_of(tenant, aggregate_id)
        shard = partition_of(key, self._shards)
        if (read := worker.engine.ownership.state(kind, key, shard)) is not None:
            return Held(read.version, read.position, read.stale, read.state)
        if (piece := worker.standbys.piece(kind, shard)) is None:
            return None
        position, entry = piece.position, piece.states.get(key)  # in this order: the state is at least so new
        return Held(entry.version, position, True, entry.state) if entry else Held(0, position, True, None)

    def shown(self, state: Any) -> Any:
        """Return a state as JSON data."""
        return plain(state)
