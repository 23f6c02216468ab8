"""Writing a step's dataset: records, rejects and the bookmark that covers them, together."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from connectors.runners.bookmark import Begun, BookmarkHolder, Headers, Lease, Place
from connectors.runners.topic import DatasetTopics, TopicFacts
from connectors.sdk.errors import BadOutput
from connectors.sdk.record import StreamSchema
from schemas.topics import GENERATION, REDRIVEN

_DUE_S = 1.0
_DUE_RECORDS = 10_000
_FORCED_S = 5.0
_FORCED_RECORDS = 50_000


@dataclass(slots=True)
class Counts:
    """Records of one attempt. ``read`` came in, ``written`` went out, ``size`` is bytes written."""

    read: int = 0
    written: int = 0
    rejected: int = 0
    size: int = 0


class DatasetWriter:
    """Writes one step's dataset topic (and its rejects topic) for one attempt.

    Order of use: :meth:`open`, then records with :meth:`write` and :meth:`reject`, :meth:`commit` whenever a bookmark
    covers all that was written, :meth:`finish` once. Uncommitted records are seen by nobody. Blocks; not thread-safe.
    Raises what :class:`BookmarkHolder` raises.
    """

    def __init__(self, place: Place, lease: Lease, counts: Counts) -> None:
        self._place = place
        self._lease = lease
        self.counts = counts
        self._holder = BookmarkHolder(place, lease)
        self._topics = DatasetTopics(place.kafka, place.client_id)
        self._name = place.topics.dataset(place.tenant, place.pipeline, place.step)
        self._rejects = place.topics.rejects(place.tenant, place.pipeline, place.step)
        self._rejects_made = False
        self._headers: dict[str, Headers] = {}
        self._streams: dict[str, StreamSchema] = {}
        self._keys: dict[str, tuple[str, ...]] = {}
        self._uncommitted: dict[int, int] = {}
        self._uncommitted_records = 0
        self._uncommitted_rejects = 0
        self._next_partition = 0
        self.facts: TopicFacts
        self.begun: Begun

    def open(self, full_refresh: bool) -> Begun:
        """Fence earlier attempts, take the bookmark, and tell where to go on."""
        self.facts = self._topics.ensure(self._name)
        self._holder.fence()
        return self.begin(full_refresh)

    def begin(self, full_refresh: bool) -> Begun:
        """Take the bookmark; with ``full_refresh`` a new generation of the dataset begins here."""
        self.begun = self._holder.begin(self.facts.topic_id, self._topics.ends(self.facts), full_refresh)
        self._headers.clear()
        return self.begun

    def declare(self, schema: StreamSchema) -> None:
        """Tell what the following records of a stream look like."""
        self._streams[schema.stream] = schema
        self._keys[schema.stream] = tuple(schema.key_properties)

    def key_of(self, stream: str, data: Mapping[str, Any]) -> bytes:
        """Return the record's key in the dataset. Raise BadOutput when a part of its primary key is missing."""
        names = self._keys[stream]
        try:
            return record_key(stream, [data[name] for name in names])
        except KeyError as error:
            raise BadOutput(
                f"a record of stream {stream} lacks {error.args[0]!r}, which is part of its primary key: {_shown(data)}"
            ) from error

    def write(self, stream: str, key: bytes, value: bytes) -> None:
        """Add a record. The partition follows from the key; records without primary key are spread evenly."""
        if self._keys[stream]:
            partition = zlib.crc32(key) % len(self.facts.partitions)
        else:
            self._next_partition = partition = (self._next_partition + 1) % len(self.facts.partitions)
        headers = self._headers.get(stream)
        if headers is None:
            headers = self._headers[stream] = [("stream", stream), (GENERATION, self.begun.generation)]
        self._holder.produce(self._name, key, value, partition, headers)
        self._uncommitted[partition] = self._uncommitted.get(partition, 0) + 1
        self._uncommitted_records += 1
        self.counts.written += 1
        self.counts.size += len(value)

    def reject(
        self,
        stream: str,
        key: bytes,
        value: bytes,
        cause: str,
        detail: str,
        source: tuple[str, int, int] | None,
    ) -> None:
        """Put a record that cannot go on into the rejects topic, with its cause and where it came from."""
        if not self._rejects_made:
            self._topics.ensure(self._rejects)
            self._rejects_made = True
        topic, partition, offset = source or ("", -1, -1)
        headers: Headers = [
            ("stream", stream), ("cause", cause), ("detail", detail[:2_000]), ("source-topic", topic),
            ("source-partition", str(partition)), ("source-offset", str(offset)), ("run", self._lease.run),
            ("step", self._place.step), ("attempt", str(self._lease.attempt)), (GENERATION, self.begun.generation),
        ]  # fmt: skip
        self._holder.produce(self._rejects, key, value, zlib.crc32(key) % len(self.facts.partitions), headers)
        self._uncommitted_rejects += 1
        self.counts.rejected += 1

    def redriven(self, key: bytes, partition: int, offset: int) -> None:
        """Mark the reject at this place: it was taken up, in the transaction that makes its records visible."""
        headers: Headers = [(REDRIVEN, f"{partition}/{offset}"), ("run", self._lease.run)]
        self._holder.produce(self._rejects, key, b"", partition, headers)

    @property
    def due(self) -> bool:
        """Whether the next bookmark should be committed: 1 s, or 10,000 records, since the last commit."""
        waiting = self._uncommitted_records + self._uncommitted_rejects
        return waiting >= _DUE_RECORDS or self._holder.open_for_s() >= _DUE_S

    @property
    def forced(self) -> bool:
        """Whether to commit even without a newer bookmark, because the transaction may not stay open longer."""
        waiting = self._uncommitted_records + self._uncommitted_rejects
        return waiting >= _FORCED_RECORDS or self._holder.open_for_s() >= _FORCED_S

    def commit(self, bookmark: Any) -> None:
        """Make everything written so far visible, together with the bookmark that covers it."""
        self._holder.advance(bookmark, self._uncommitted, self._uncommitted_rejects)
        self._committed()

    def finish(self, bookmark: Any) -> dict[str, Any]:
        """Commit, give the bookmark back, and return the step's output object."""
        self._holder.finish(bookmark, self._uncommitted, self._uncommitted_rejects)
        self._committed()
        ends = self._topics.ends(self.facts)
        return {
            "dataset": self._place.bookmark_id,
            "topic": self._name,
            "topic_id": self.facts.topic_id,
            "generation": self.begun.generation,
            "starts": {str(partition): offset for partition, offset in self.begun.starts.items()},
            "ends": {str(partition): offset for partition, offset in ends.items()},
            "records": self.counts.written,
            "rejected": self.counts.rejected,
            "streams": {
                name: {"schema": schema.schema, "key_properties": list(schema.key_properties)}
                for name, schema in self._streams.items()
            },
            "bookmark": bookmark,
        }

    def close(self) -> None:
        """Leave; what was not committed is dropped."""
        self._holder.close()

    def _committed(self) -> None:
        self._uncommitted.clear()
        self._uncommitted_records = self._uncommitted_rejects = 0


def record_key(stream: str, values: Sequence[Any]) -> bytes:
    """Return ``<stream>/<primary key values joined by />``; ``/`` and ``%`` inside a value are escaped."""
    return f"{stream}/{'/'.join(map(_part, values))}".encode()


def _part(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text.replace("%", "%25").replace("/", "%2F") if "/" in text or "%" in text else text


def _shown(data: Mapping[str, Any]) -> str:
    return orjson.dumps(data, default=str)[:200].decode("utf-8", "replace")
