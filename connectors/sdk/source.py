"""What a source is: something that can be read from where the last reading ended."""

from collections.abc import Iterator
from typing import Any, Protocol

from connectors.sdk.record import SourceItem


class Source(Protocol):
    """Reads records for one attempt of an extract step, in the attempt's own process.

    Delivery: what is yielded before a ``State`` is written together with that state in one Kafka transaction; after a
    failure reading begins again at the newest state written. A source that never yields a state is read from its
    beginning every time. Errors: raise a member of ``connectors.sdk.errors``.
    """

    def read(self, bookmark: Any | None) -> Iterator[SourceItem]:
        """Yield schemas, records and states, from ``bookmark`` (the newest state) or from the beginning.

        A ``StreamSchema`` comes before the first record of its stream. May block while the source has nothing, but
        should yield ``Idle`` every second or so.
        """
        ...

    def close(self) -> None:
        """Free everything. Called once, also after an error."""
        ...
