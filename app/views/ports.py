"""What the handlers of reads need of the world, as Protocols."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.ports import Limits, Memory, Peers, Place, Row
from connectors.lineage.naming import Names

Page = tuple[list[Row], str | None]
Positions = dict[tuple[str, int], int]


class ViewReader(Protocol):
    """Rows of views. Lists return a page and the cursor of the next one. Raises ``Problem`` ``unavailable``."""

    async def wait_for(self, aggregate: str, shard: int, sequence: int, timeout_s: float) -> bool:
        """Wait until rows of ``aggregate`` reflect ``sequence``; False when they do not in time."""

    async def positions(self) -> Positions:
        """Return the last event sequence that every view has folded, by aggregate and shard."""

    async def changed(self, seen: Positions, timeout_s: float) -> bool:
        """Wait until the positions differ from ``seen``; False when they did not in time."""

    async def require(self, name: str) -> None:
        """Raise ``unavailable`` while the view is being filled."""

    async def status(self) -> list[Row]:
        """Return each view with its table and how far it is."""

    async def pipeline(self, tenant: str, name: str) -> Row | None:
        """Return the pipeline, deleted or not."""

    async def run(self, tenant: str, run_id: str) -> Row | None:
        """Return the run."""

    async def schedule(self, tenant: str, pipeline: str) -> Row | None:
        """Return the schedule of a pipeline."""

    async def alert(self, tenant: str, pipeline: str) -> Row | None:
        """Return the rules and incidents of a pipeline."""

    async def limit(self, tenant: str, name: str) -> Row | None:
        """Return the limit."""

    async def bookmark(self, tenant: str, pipeline: str, step: str) -> Row | None:
        """Return the bookmark of a step."""

    async def command(self, tenant: str, command_id: str) -> Row | None:
        """Return the outcome of a command."""

    async def event(self, tenant: str, event_id: str) -> Row | None:
        """Return the event."""

    async def quarantined(self, tenant: str, places: Sequence[Place]) -> list[Row]:
        """Return the records that came from these places, as far as they are the tenant's or nobody's."""

    async def pipelines(self, tenant: str, status: str | None, limit: int, cursor: str | None) -> Page:
        """Return pipelines by name; deleted ones only when that status is asked for."""

    async def runs(
        self,
        tenant: str,
        pipeline_name: str | None,
        status: str | None,
        limit: int,
        cursor: str | None,
        since: int | None = None,
    ) -> Page:
        """Return runs, the newest first; ``since``: those created at this time (ms) or later."""

    async def schedules(self, tenant: str, limit: int, cursor: str | None) -> Page:
        """Return schedules by pipeline."""

    async def alerts(self, tenant: str, unresolved: bool, limit: int, cursor: str | None) -> Page:
        """Return alerts by pipeline; ``unresolved``: only those with an incident that is not resolved."""

    async def limits(self, tenant: str, limit: int, cursor: str | None) -> Page:
        """Return limits by name."""

    async def bookmarks(
        self, tenant: str, pipeline_name: str | None, with_dataset: bool, limit: int, cursor: str | None
    ) -> Page:
        """Return bookmarks by pipeline and step."""

    async def quarantine(
        self, tenant: str, filters: Mapping[str, str | None], limit: int, cursor: str | None
    ) -> Page:
        """Return quarantined records, the newest first; ``filters`` as the view store says."""

    async def events(
        self,
        tenant: str,
        filters: Mapping[str, Any],
        limit: int,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> Page:
        """Return events by time; ``filters`` as :meth:`app.adapters.view_store.ViewStore.events` says."""

    async def events_between(
        self,
        tenant: str,
        filters: Mapping[str, Any],
        shard: tuple[str, int],
        after: int,
        upto: int,
        limit: int,
    ) -> list[Row]:
        """Return events of one shard in their order, after one sequence up to another."""


class Records(Protocol):
    """Records that are read from Kafka on request."""

    def dataset(self, tenant: str, pipeline: str, step: str) -> str:
        """Return the name of a dataset's topic."""

    def rejects(self, tenant: str, pipeline: str, step: str) -> str:
        """Return the name of the topic of a dataset's rejected records."""

    async def ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return first and end offset of each partition; nothing when there is no such topic."""

    async def first(self, topic: str, starts: Mapping[int, int], limit: int) -> list[Row]:
        """Return the first ``limit`` records from ``starts`` on."""

    async def last(self, topic: str, starts: Mapping[int, int], limit: int) -> list[Row]:
        """Return the last ``limit`` records by time, none from before ``starts``."""

    async def logs(
        self,
        tenant: str,
        run_id: str,
        which: tuple[str | None, str],
        span: tuple[int, int | None],
        limit: int,
        cursor: str | None,
    ) -> Page:
        """Return what the programs of a run printed between two times (ms): of one step, with a text in it."""


class History(Protocol):
    """The state of any aggregate, now or then."""

    async def state(
        self, tenant: str, kind: str, aggregate_id: str, version: int | None, at: int | None
    ) -> Row:
        """Return the state up to a version or a time (ms), with the place of its last event."""


Rebuild = Callable[[str], Awaitable[bool]]


async def unread(_row: Row) -> Row | None:
    """Return None: here nobody can decode commands."""
    return None


@dataclass(frozen=True, slots=True)
class ViewDependencies:
    """What the handlers of reads are given.

    ``command`` returns ``type`` and ``data`` of the command in a quarantined row, or None where there is none to be had.
    ``rebuild`` folds a view anew and answers True, or False when it goes on in the background after a while; None
    where this node cannot. It raises ``Problem``. ``names`` are those of lineage. ``members`` returns what every node said last.
    """

    store: ViewReader
    records: Records
    history: History
    memory: Memory
    peers: Peers
    command: Callable[[Row], Awaitable[Row | None]] = unread
    rebuild: Rebuild | None = None
    limits: Limits = field(default_factory=Limits)
    names: Names = field(default_factory=Names)
    members: Callable[[], Sequence[Mapping[str, Any]]] = tuple
