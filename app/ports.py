"""What the handlers need of the world, as Protocols: Kafka and PostgreSQL stand behind them, or memory in tests."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = dict[str, Any]
Ping = Callable[[], Awaitable[str | None]]
"""Asks one dependency; answers what is wrong with it in one sentence, or None."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command as somebody at the edge wants it: to which aggregate, under which id, in whose name."""

    aggregate: str
    aggregate_id: str
    type: str
    body: dict[str, Any]
    command_id: str
    tenant: str = "default"
    actor: str = "anonymous"
    expected_version: int | None = None
    traceparent: str | None = None


class CommandBus(Protocol):
    """Brings commands to their aggregates. Refuses by raising :class:`app.errors.Problem`."""

    async def ask(self, order: Order, timeout_s: float) -> Row | None:
        """Send, and return the outcome record, or None when it has not come in time (the command is on its way).

        With ``timeout_s`` 0 it returns None as soon as the command is kept.
        """


class Resources(Protocol):
    """What a write answers with: the newest rows of the read store. Each is None when there is no such row."""

    async def wait_for(self, aggregate: str, shard: int, sequence: int, timeout_s: float) -> bool:
        """Wait until rows of ``aggregate`` reflect ``sequence``; False when they do not in time."""

    async def pipeline(self, tenant: str, name: str) -> Row | None:
        """Return the pipeline, deleted or not."""

    async def users(self, tenant: str, name: str) -> list[str]:
        """Return what uses the pipeline, in words: some runs of it that have not ended, and others that name it."""

    async def run(self, tenant: str, run_id: str) -> Row | None:
        """Return the run."""

    async def schedule(self, tenant: str, pipeline: str) -> Row | None:
        """Return the schedule of a pipeline."""

    async def alert(self, tenant: str, pipeline: str) -> Row | None:
        """Return the rules and incidents of a pipeline."""

    async def bookmark(self, tenant: str, pipeline: str, step: str) -> Row | None:
        """Return the bookmark of a step."""


Place = tuple[str, int, int]
"""Topic, partition and offset that a quarantined record came from: its id."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a command shall say instead; ``type`` None: the type it has."""

    type: str | None
    data: Mapping[str, Any]


class Quarantine(Protocol):
    """The records that were set aside, and what people do about them. Every deed is kept as a record beside them."""

    async def find(self, tenant: str, places: Sequence[Place]) -> list[Row]:
        """Return the rows of the records from these places, as far as they are the tenant's or nobody's."""

    async def redrive(self, rows: Sequence[Row], actor: str, edit: Edit | None = None) -> list[str | None]:
        """Send the records again in this order, and note by whom; return their new command ids.

        The id follows from the record and how often it was redriven: repeating a call that was not noted sends no
        second command. None stands for a record that Kafka keeps no longer. Raises :class:`app.errors.Problem`
        ``invalid`` before anything is sent, when the edited command could not be decided, and ``unavailable``.
        """

    async def drop(self, rows: Sequence[Row], actor: str, reason: str) -> None:
        """Note that nobody will send these records again, by whom and why. Raises ``unavailable``."""


class Rejects(Protocol):
    """The records that steps rejected."""

    async def waiting(
        self, tenant: str, pipeline: str, step: str, generation: str
    ) -> tuple[dict[str, int], bool]:
        """Return how many rejects of a dataset's generation nobody has taken up, by run, the newest run last.

        And whether these are all: only so many are looked at. Raises ``unavailable``, ``overloaded``.
        """


@dataclass(frozen=True, slots=True)
class UserEvent:
    """A CloudEvent for the topic ``user-events.<name>``; attributes as text, ``datacontenttype`` among them."""

    name: str
    attributes: Mapping[str, str]
    data: bytes | None


class EventSink(Protocol):
    """Takes events of users' own."""

    async def publish(self, tenant: str, events: Sequence[UserEvent]) -> list[Row]:
        """Write all, and return ``id``, ``name``, ``topic``, ``partition``, ``offset`` of each, in their order.

        At least once: raises ``unavailable``, ``overloaded`` or ``too_large`` when not all were taken, some may be.
        """


class Cluster(Protocol):
    """What the nodes say about themselves."""

    def members(self) -> Sequence[Mapping[str, Any]]:
        """Return the newest word of every node that has not left."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a node holds of an aggregate, as of ``position``.

    ``stale``: the node does not own the shard yet; there may be newer, and version 0 may mean not loaded.
    """

    version: int
    position: int
    stale: bool
    state: Any


class Memory(Protocol):
    """The states of the shards that this node owns, is taking over, or follows as a standby."""

    @property
    def node(self) -> str:
        """Return the name of this node."""

    def shard_of(self, tenant: str, kind: str, aggregate_id: str) -> int:
        """Return the aggregate's shard; raises ``not_found`` for an unknown kind."""

    def held(self, tenant: str, kind: str, aggregate_id: str) -> Held | None:
        """Return what is held, or None when the shard is not this node's. ``state`` is the domain's own value."""

    def shown(self, state: Any) -> Any:
        """Return a state as JSON data."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What another node answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Peers(Protocol):
    """The nodes by what they say, and the others asked."""

    def owners(self, shard: int) -> Sequence[tuple[str, str]]:
        """Return name and URL of the nodes that say they own the shard, the newest word first."""

    async def get(self, url: str, path: str, headers: Mapping[str, str], timeout_s: float) -> Reply | None:
        """Read ``path`` there; None when that node does not answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the edge: requests beyond them are refused, never queued."""

    in_flight_max: int = 1_000
    reads_max: int = 1_000
    streams_max: int = 100
    body_bytes_max: int = 1 << 20
    wait_default_s: float = 5.0
    wait_max_s: float = 60.0
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True)
class WriteDependencies:
    """What the handlers of writes are given. ``vocabulary``: aggregate → command name → its dataclass."""

    bus: CommandBus
    resources: Resources
    quarantine: Quarantine
    rejects: Rejects
    events: EventSink
    vocabulary: Mapping[str, Mapping[str, type]]
    limits: Limits = field(default_factory=Limits)
