"""Records and what comes with them, as sources yield them and sinks are given them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """What the records of a stream look like. Yielded before the first record, and again when it changes.

    ``schema`` is a JSON schema of type object. ``key_properties`` name the primary key; without one a stream can only
    be appended.
    """

    stream: str
    schema: Mapping[str, Any]
    key_properties: tuple[str, ...] = ()


class SourceRecord(NamedTuple):
    """One record as read from a source."""

    stream: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """Everything yielded before this is covered by ``value`` (plain JSON data): reading may go on from here."""

    value: Any


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to read at the moment: the host may write what it has."""


SourceItem = StreamSchema | SourceRecord | State | Idle


class DatasetRecord(NamedTuple):
    """One record of a dataset: ``key`` is ``<stream>/<primary key>``, ``value`` the record as JSON.

    ``headers`` are there only where they were asked for.
    """

    offset: int
    stream: str
    key: bytes
    value: bytes
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one partition with offsets ``start <= offset < end``, in order.

    ``end`` is where reading goes on. Batches are cut by offsets only, so a batch that is read again is the same.
    """

    partition: int
    start: int
    end: int
    records: list[DatasetRecord] = field(default_factory=list)
