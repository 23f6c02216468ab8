"""Records read from Kafka on request: the beginning or end of a dataset, the output of a run. Always bounded."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from app.adapters import view_cursor
from app.errors import problem
from app.ports import Row
from schemas.partitioning import partition_of
from schemas.topics import GENERATION, REDRIVEN, RUN_LOGS, Topics, key_of

T = TypeVar("T")
Wanted = Callable[[Record], Row | None]

_TIMEOUT_S = 5.0
_SCANNED_MAX = 200_000
_CHUNK = 1_000
_AT_ONCE_MAX = 4
_WAITING_MAX = 32
# Lines are sent behind the events of their step: look a little beyond on both sides.
_SLACK_MS = 60_000
_PARTITION_EOF = -191


class RecordReader:
    """Reads committed records with consumers of its own, in threads, four requests at once. Joins no group.

    Beyond 32 that wait, requests are refused (``overloaded``).
    """

    def __init__(self, kafka: Mapping[str, str], topics: Topics, shards: int) -> None:
        self._kafka = dict(kafka)
        self._topics = topics
        self._shards = shards
        self._free = asyncio.Semaphore(_AT_ONCE_MAX)
        self._waiting = 0

    def dataset(self, tenant: str, pipeline: str, step: str) -> str:
        """Return the name of a dataset's topic."""
        return self._topics.dataset(tenant, pipeline, step)

    def rejects(self, tenant: str, pipeline: str, step: str) -> str:
        """Return the name of the topic of a dataset's rejected records."""
        return self._topics.rejects(tenant, pipeline, step)

    async def ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return first and end offset of each partition; nothing when there is no such topic."""
        return await self._in_thread(lambda consumer: _ranges(consumer, topic))

    async def first(self, topic: str, starts: Mapping[int, int], limit: int) -> list[Row]:
        """Return the first ``limit`` records from ``starts`` on (or from the beginning), partition by partition."""
        return await self._in_thread(lambda consumer: _first(consumer, topic, starts, limit))

    async def last(self, topic: str, starts: Mapping[int, int], limit: int) -> list[Row]:
        """Return the last ``limit`` records by time, none from before ``starts``."""
        return await self._in_thread(lambda consumer: _last(consumer, topic, starts, limit))

    async def waiting(
        self, tenant: str, pipeline: str, step: str, generation: str
    ) -> tuple[dict[str, int], bool]:
        """Return how many rejects of the generation nobody has taken up, by run, the newest run last.

        And whether these are all: of each partition 200,000 records are looked at.
        """
        topic = self.rejects(tenant, pipeline, step)
        return await self._in_thread(lambda consumer: _waiting(consumer, topic, generation))

    async def logs(
        self,
        tenant: str,
        run_id: str,
        which: tuple[str | None, str],
        span: tuple[int, int | None],
        limit: int,
        cursor: str | None,
    ) -> tuple[list[Row], str | None]:
        """Return what the programs of a run printed, in order, and where to go on when there is more.

        ``which``: only of this step, and only lines with this text in them, in capitals or not.
        ``span``: when the run was created and when it ended (ms; None: not yet).
        """
        partition = partition_of(key_of(tenant, run_id), self._shards)
        at = TopicPartition(self._topics.named(RUN_LOGS), partition)
        begin = view_cursor.decode(cursor, [int])[0] if cursor else None
        step, text = which[0], which[1].casefold()

        def wanted(record: Record) -> Row | None:
            if record.key() != run_id.encode():
                return None
            line = _line(record)
            mine = line["tenant"] == tenant and step in (None, line["step"])
            return line if mine and text in line["line"].casefold() else None

        def read(consumer: Consumer) -> tuple[list[Row], str | None]:
            start = begin if begin is not None else _offset_at(consumer, at, span[0] - _SLACK_MS)
            until = span[1] + _SLACK_MS if span[1] is not None else None
            lines, position = _scan(
                consumer, TopicPartition(at.topic, partition, start), wanted, limit, until
            )
            return lines, view_cursor.encode([position]) if position is not None else None

        return await self._in_thread(read)

    async def _in_thread(self, work: Callable[[Consumer], T]) -> T:
        if self._waiting >= _WAITING_MAX:
            raise problem(
                "overloaded",
                f"{self._waiting} requests wait for records from Kafka already.",
                headers={"Retry-After": "1"},
            )
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            return await asyncio.to_thread(self._work, work)
        finally:
            self._free.release()

    def _work(self, work: Callable[[Consumer], T]) -> T:
        consumer = Consumer(
            {
                **self._kafka,
                "group.id": "flexcore.reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,  # its end is what is waited for
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.sparse.connections": "false",
                "log_level": 2,
            }
        )
        with closing(consumer):
            try:
                return work(consumer)
            except KafkaException as error:
                raise problem("unavailable", f"Kafka does not answer: {error.args[0].str()}.") from error


def _ranges(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    known = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics.get(topic)
    if known is None or known.error is not None:
        return {}
    found: dict[int, tuple[int, int]] = {}
    for partition in sorted(known.partitions):
        offsets: Any = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)
        if offsets is None:
            raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT, "no offsets in time"))
        found[partition] = offsets
    return found


def _first(consumer: Consumer, topic: str, starts: Mapping[int, int], limit: int) -> list[Row]:
    rows: list[Row] = []
    for partition, (low, end) in _ranges(consumer, topic).items():
        start = max(low, starts.get(partition, low))
        if start < end and len(rows) < limit:
            spot = TopicPartition(topic, partition, start)
            rows += _scan(consumer, spot, _record, limit - len(rows), None)[0]
    return rows


def _waiting(consumer: Consumer, topic: str, generation: str) -> tuple[dict[str, int], bool]:
    found: dict[tuple[int, int], tuple[int, str]] = {}
    complete = True

    def seen(record: Record) -> None:
        headers = _headers(record)
        if REDRIVEN in headers:
            partition, _, offset = headers[REDRIVEN].partition("/")
            found.pop((int(partition), int(offset)), None)
        elif headers.get(GENERATION) == generation:
            place = (record.partition() or 0, record.offset() or 0)
            found[place] = (record.timestamp()[1], headers["run"])

    for partition, (low, end) in _ranges(consumer, topic).items():
        if low < end:
            _, left = _scan(consumer, TopicPartition(topic, partition, low), seen, 1, None)
            complete = complete and left is None
    counts: dict[str, int] = {}
    for _, run in sorted(found.values(), reverse=True):
        counts[run] = counts.get(run, 0) + 1
    return dict(reversed(counts.items())), complete


def _last(consumer: Consumer, topic: str, starts: Mapping[int, int], limit: int) -> list[Row]:
    rows: list[Row] = []
    for partition, (low, end) in _ranges(consumer, topic).items():
        first = max(low, starts.get(partition, low))
        # Markers take offsets too: step further back until enough records are found.
        back, found = limit, list[Row]()
        while first < end:
            start = max(first, end - back)
            found = _scan(consumer, TopicPartition(topic, partition, start), _record, _SCANNED_MAX, None)[0]
            if len(found) >= limit or start == first or back >= _SCANNED_MAX:
                break
            back *= 4
        rows += found[-limit:]
    return sorted(rows, key=lambda row: (row["at"], row["partition"], row["offset"]))[-limit:]


def _scan(
    consumer: Consumer, spot: TopicPartition, wanted: Wanted, limit: int, until_ms: int | None
) -> tuple[list[Row], int | None]:
    """Return wanted records and where to go on; None when the end of the partition (or of the time) was reached."""
    consumer.assign([spot])
    rows: list[Row] = []
    scanned, position, deadline = 0, spot.offset, time.monotonic() + _TIMEOUT_S
    while scanned < _SCANNED_MAX and time.monotonic() < deadline:
        first = consumer.poll(0.5)
        if first is None:
            continue
        for record in [first, *consumer.consume(_CHUNK, 0)]:
            error = record.error()
            if error is not None:
                if error.code() == _PARTITION_EOF:
                    return rows, None
                raise KafkaException(error)
            if until_ms is not None and record.timestamp()[1] > until_ms:
                return rows, None
            scanned, position = scanned + 1, (record.offset() or 0) + 1
            row = wanted(record)
            if row is not None:
                rows.append(row)
                if len(rows) >= limit:
                    return rows, position
    return rows, position


def _offset_at(consumer: Consumer, spot: TopicPartition, at_ms: int) -> int:
    found = consumer.offsets_for_times(
        [TopicPartition(spot.topic, spot.partition, max(0, at_ms))], timeout=_TIMEOUT_S
    )
    return found[0].offset  # after the last record it is the "end" mark, and nothing is found there


def _record(record: Record) -> Row | None:
    headers = _headers(record)
    if REDRIVEN in headers:
        return None
    return {
        "partition": record.partition(),
        "offset": record.offset(),
        "at": record.timestamp()[1],
        "key": _text(record.key()),
        "headers": headers,
        "value": _value(record.value()),
    }


def _line(record: Record) -> Row:
    headers = _headers(record)
    attempt = headers.get("attempt", "")
    return {
        "at": record.timestamp()[1],
        "tenant": headers.get("tenant", ""),
        "step": headers.get("step", ""),
        "attempt": int(attempt) if attempt.isdigit() else 0,
        "stream": headers.get("stream", ""),
        "line": _text(record.value()),
    }


def _headers(record: Record) -> dict[str, str]:
    pairs: Any = record.headers() or []
    return {name: _text(value) for name, value in pairs}


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw or ""


def _value(raw: Any) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, TypeError, RecursionError):
        return _text(raw)
