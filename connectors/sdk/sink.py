"""What a sink is: something that takes batches of a dataset and knows, or is told, where it stopped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from connectors.sdk.record import Batch, StreamSchema


@dataclass(frozen=True, slots=True)
class Load:
    """What one attempt of a load step is about.

    ``topic_id`` and ``generation`` name the dataset beyond its name: a position belongs to both. ``starts`` and
    ``ends`` are offsets by partition: the generation begins at ``starts``, this load ends before ``ends``.
    """

    tenant: str
    pipeline: str
    step: str
    run: str
    attempt: int
    topic_id: str
    generation: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    streams: Mapping[str, StreamSchema]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where records go, named as OpenLineage names data sets (``postgres://host:port``, ``database.schema.table``).

    It is kept in events: no user, no password.
    """

    namespace: str
    name: str


class Sink(Protocol):
    """Writes the batches of one attempt of a load step, in the attempt's own process.

    Delivery: exactly once when ``keeps_position`` (the sink stores ``Batch.end`` with the rows, in one transaction of
    its own, and moves it by compare-and-set). Otherwise the host keeps the position, after ``write`` has returned: a
    batch may come twice, with the same ``start`` and ``end``. Errors: raise a member of ``connectors.sdk.errors``.
    """

    keeps_position: bool

    def open(self, load: Load) -> Mapping[int, int]:
        """Connect and return the stored positions (partition -> next offset); a missing one means from the start."""
        ...

    def destinations(self) -> Mapping[str, Destination]:
        """Return where the records of each stream go. Called after :meth:`open`."""
        ...

    def write(self, batch: Batch) -> int:
        """Make the batch durable and return how many records were written. Blocks. Batches of a partition are in
        order and without holes.
        """
        ...

    def finish(self) -> None:
        """All batches are written: make them visible if they are not yet. Not called after an error."""
        ...

    def close(self) -> None:
        """Free everything. Called once, also after an error."""
        ...
