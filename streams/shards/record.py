"""A consumed Kafka record as the write path sees it: the client's own object, typed by what a record without error has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import KafkaError


class Record(Protocol):
    """``confluent_kafka.Message`` after its error was looked at: topic, partition, offset and timestamp are there."""

    def topic(self) -> str:
        """Return the topic's name."""

    def partition(self) -> int:
        """Return the partition."""

    def offset(self) -> int:
        """Return the offset."""

    def key(self) -> bytes | None:
        """Return the key, or None."""

    def value(self) -> bytes | None:
        """Return the value, or None."""

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Return the headers in order, or None."""

    def timestamp(self) -> tuple[int, int]:
        """Return kind and milliseconds since the epoch."""

    def error(self) -> KafkaError | None:
        """Return what this is instead of a record: an error, or the end of the partition."""

    def __len__(self) -> int:
        """Return the size of the value in bytes."""


@dataclass(frozen=True, slots=True)
class Made:
    """A record that was put together here and not fetched: at no offset of its own, and at no time."""

    topic_: str
    partition_: int
    key_: bytes
    value_: bytes
    headers_: Sequence[tuple[str, bytes]]

    def topic(self) -> str:
        """Return the topic's name."""
        return self.topic_

    def partition(self) -> int:
        """Return the partition."""
        return self.partition_

    def offset(self) -> int:
        """Return 0."""
        return 0

    def key(self) -> bytes:
        """Return the key."""
        return self.key_

    def value(self) -> bytes:
        """Return the value."""
        return self.value_

    def headers(self) -> list[tuple[str, bytes | None]]:
        """Return the headers in order."""
        return [*self.headers_]

    def timestamp(self) -> tuple[int, int]:
        """Return that no time is known."""
        return (0, 0)

    def error(self) -> None:
        """Return None."""

    def __len__(self) -> int:
        return len(self.value_)
