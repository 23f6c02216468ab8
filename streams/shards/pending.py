"""Commands fetched and not yet decided."""

from collections import deque
from collections.abc import Sequence

from streams.protocol.record import Record


class Batch:
    """Records of one partition in order, fetched in ``epoch``; ``reached`` is the end of the partition, if it was met. ``size``
    are the bytes of their values. Read only.
    """

    def __init__(
        self, topic: str, partition: int, epoch: int, records: list[Record], reached: int | None = None
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.epoch = epoch
        self.records = records
        self.reached = reached
        self.size = sum(map(len, records))

    def followed_by(self, other: "Batch") -> "Batch":
        """Return both as one; the epoch is that of the other."""
        reached = self.reached if other.reached is None else other.reached
        return Batch(self.topic, self.partition, other.epoch, self.records + other.records, reached)


class Pending:
    """A queue of one slice's records, which knows its size: fetching pauses by records and by bytes. Event loop only;
    ``len`` and ``bytes`` may be read from any thread.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._records: deque[Record] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def extend(self, records: Sequence[Record]) -> None:
        """Add records that were fetched, in their order."""
        self._records.extend(records)
        self.bytes += sum(map(len, records))

    def take(self, records_max: int, bytes_max: int) -> tuple[list[Record], int]:
        """Take the oldest, and tell their bytes; the last one may go beyond ``bytes_max``."""
        taken: list[Record] = []
        size = 0
        while self._records and len(taken) < records_max and size < bytes_max:
            record = self._records.popleft()
            taken.append(record)
            size += len(record)
        self.bytes -= size
        return taken, size

    def put_back(self, records: Sequence[Record]) -> None:
        """Put back what was taken last and is to be decided first."""
        self._records.extendleft(reversed(records))
        self.bytes += sum(map(len, records))

    def drop(self, kind: type) -> None:
        """Drop the records of a kind of their own."""
        kept = [record for record in self._records if not isinstance(record, kind)]
        self.clear()
        self.extend(kept)

    def clear(self) -> None:
        """Drop everything; it is fetched again."""
        self._records.clear()
        self.bytes = 0
