"""Records set aside: the original bytes and headers, and why."""

from datetime import UTC, datetime

from schemas import topics as names
from streams.protocol.record import Record
from streams.protocol.record_batch import Headers, Produced, headers_of

_HEADER_BYTES_MAX = 4096


class Quarantine:
    """Makes the entries of one aggregate's quarantine topic; nothing of the original is lost."""

    def __init__(self, topic: str, node: str) -> None:
        self._topic = topic
        self._node = node.encode()

    def entry(
        self,
        record: Record,
        cause: str,
        detail: str,
        fingerprint: str,
        place: bytes = b"",
        parked: Headers | None = None,
    ) -> Produced:
        """Return the quarantine record: same partition, key ``topic/partition/offset``, original value unchanged.

        ``place`` is the key of a record that was there before; ``parked`` says what waits with it.
        """
        place = place or place_of(record)
        topic, partition, offset = place.rsplit(b"/", 2)
        original = [(names.as_original(name), raw or b"") for name, raw in record.header_list()]
        told = [
            ("cause", cause.encode()),
            ("detail", detail.encode()[:_HEADER_BYTES_MAX]),
            ("fingerprint", fingerprint.encode()),
            ("source-topic", topic),
            ("source-partition", partition),
            ("source-offset", offset),
            (names.ORIGINAL_KEY, record.key or b""),
            ("command-id", record.headers().get("command-id") or b""),
            ("at", time_of(record)),
            ("node", self._node),
            *(parked or ()),
            *original,
        ]
        return (self._topic, record.value or b"", place, record.partition, headers_of(told))

    def release(self, record: Record, place: bytes, parked: Headers, deed: Headers) -> Produced:
        """Return the note that the record from ``place`` no longer waits, or holds up others; and what was done."""
        return (
            self._topic,
            b"",
            place,
            record.partition,
            headers_of([(names.ORIGINAL_KEY, record.key or b""), *parked, *deed]),
        )


def place_of(record: Record) -> bytes:
    """Return where a record came from: its id in quarantine."""
    return record.where.encode()


def time_of(record: Record) -> bytes:
    """Return when a record was written (RFC 3339)."""
    at = datetime.fromtimestamp(record.time_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").encode()
