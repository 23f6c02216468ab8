"""A consumed Kafka record as the write path sees it: the client's own object, typed by what a record without error has."""

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
