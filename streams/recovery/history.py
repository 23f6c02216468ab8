"""The whole history of some aggregates, read back from the log: each event with the body it has now.

Where an event was redacted, its first body may still stand in its old place, and the new one behind later events.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.codec import Codec
from streams.domain.aggregate import Aggregate
from streams.protocol.record import Record
from streams.translation import from_record, vocabulary

History = Mapping[int, Record]
"""Version -> the newest record of that event."""


class Histories:
    """Picks the histories of aggregates out of the records of their events partition."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self.found: dict[bytes, dict[int, Record]] = {key: {} for key in keys}

    def events(self, records: Sequence[Record]) -> None:
        """Take records, in order."""
        for record in records:
            key, version, _ = (record.key or b"//").rsplit(b"/", 2)
            if (history := self.found.get(key)) is not None:
                history[int(version)] = record


def refold(aggregate: Aggregate, codec: Codec, values: Mapping[int, bytes], version: int) -> Any:
    """Return the aggregate's state at ``version``, from the values of its events. Raises ``KeyError`` when one is not there."""
    kinds, state = vocabulary(aggregate).events, aggregate.initial
    for number in range(1, version + 1):
        name, body = codec.decode(values[number])
        del body["envelope"]
        state = aggregate.evolve(state, from_record(kinds[name.rpartition(".")[2]], body))
    return state
