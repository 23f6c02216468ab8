"""Records set aside: the original bytes and headers, and why."""

from datetime import UTC, datetime

from streams.shards.record import Record
from streams.writer.encoding import Produced

_HEADER_BYTES_MAX = 4096


class Quarantine:
    """Makes the entries of one aggregate's quarantine topic; nothing of the original is lost."""

    def __init__(self, topic: str, node: str) -> None:
        self._topic = topic
        self._node = node.encode()

    def entry(self, record: Record, cause: str, detail: str, fingerprint: str) -> Produced:
        """Return the quarantine record: same partition, key ``topic/partition/offset``, original value unchanged."""
        topic, partition, offset = record.topic(), record.partition(), record.offset()
        original = [(f"original-{name}", raw or b"") for name, raw in record.headers() or ()]
        at = datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC).isoformat(timespec="milliseconds")
        headers = [
            ("cause", cause.encode()),
            ("detail", detail.encode()[:_HEADER_BYTES_MAX]),
            ("fingerprint", fingerprint.encode()),
            ("source-topic", topic.encode()),
            ("source-partition", b"%d" % partition),
            ("source-offset", b"%d" % offset),
            ("original-key", record.key() or b""),
            ("command-id", dict(record.headers() or ()).get("command-id") or b""),
            ("at", at.encode()),
            ("node", self._node),
            *original,
        ]
        key = f"{topic}/{partition}/{offset}".encode()
        return (self._topic, record.value() or b"", key, partition, headers)
