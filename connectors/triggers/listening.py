"""Which pipelines listen to which events of users: what the events of pipelines say up to now."""

import json
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from connectors.follower import event_of
from connectors.sdk.errors import Unavailable
from schemas.clients import watched
from schemas.codec import Codec
from schemas.offsets import OFFSET_END, offsets

_log = logging.getLogger(__name__)
_BATCH = 500
_TIMEOUT_S = 15.0
_TOLD = {b"PipelineApplied", b"PipelineDeleted"}


@dataclass(frozen=True, slots=True)
class Listener:
    """A pipeline that the events of a name start, since ``since`` (ms), if ``filter`` (as the file has it) holds."""

    tenant: str
    pipeline: str
    filter: str | None
    since: int


class Listeners:
    """Who listens: name of events -> (tenant, pipeline) -> :class:`Listener`, as far as pipelines' events were taken."""

    def __init__(self, codec: Codec) -> None:
        self.by_name: dict[str, dict[tuple[str, str], Listener]] = {}
        self._codec = codec

    def take(self, record: Message) -> None:
        """Take an event of a pipeline: a new version, or its end."""
        pairs: Any = record.headers() or []
        if not any(name == "ce_type" and said in _TOLD for name, said in pairs):
            return
        if (found := event_of(self._codec, record)) is None:
            return
        name, event = found
        envelope = event["envelope"]
        who = (envelope["tenant"], envelope["aggregate_id"])
        spec = json.loads(event["definition"])["spec"] if name.endswith("Applied") else {}
        self._listen(who, [one["event"] for one in spec.get("triggers", ()) if "event" in one], event["at"])

    def _listen(self, who: tuple[str, str], blocks: Iterable[Mapping[str, Any]], at: int) -> None:
        wanted = {block["name"]: block.get("filter") for block in blocks}
        for name in [
            name for name, listeners in self.by_name.items() if who in listeners and name not in wanted
        ]:
            del self.by_name[name][who]
            if not self.by_name[name]:
                del self.by_name[name]
        for name, text in wanted.items():
            known = self.by_name.setdefault(name, {})
            since = known[who].since if who in known else at
            known[who] = Listener(*who, text, since)


class ListeningReader:
    """Gives listeners all events of pipelines, from their beginning. For one thread."""

    def __init__(self, client: Mapping[str, Any], topic: str, shards: int, listeners: Listeners) -> None:
        """``client`` are the settings of a Kafka client, with its ``client.id``."""
        self._listeners = listeners
        self._records: deque[Message] = deque()
        self._reached: dict[tuple[str, int], int] = {(topic, number): 0 for number in range(shards)}
        common = {**client, "group.id": client["client.id"], "enable.auto.commit": False}
        followed = {**common, "isolation.level": "read_committed", "enable.partition.eof": True}
        self._consumer = Consumer(watched(followed))
        # What was answered may have its transaction marked on this topic a moment later: the end is the high watermark.
        self._ends = Consumer({**common, "isolation.level": "read_uncommitted"})
        self._consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in self._reached])

    def read(self, timeout_s: float = 0.0) -> bool:
        """Take what has come, and return whether there was any; wait for the first of it, at most so long."""
        if not self._records and (first := self._consumer.poll(timeout_s)) is not None:
            self._records.extend([first, *self._consumer.consume(_BATCH, 0)])
        some = bool(self._records)
        while self._records:
            self._reach(self._records[0])
            self._records.popleft()
        return some

    def _reach(self, record: Message) -> None:
        place, offset = (record.topic() or "", record.partition() or 0), record.offset() or 0
        error = record.error()
        if error is None:
            self._listeners.take(record)
            self._reached[place] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            self._reached[place] = offset
        else:
            # It goes on by itself; who needs to know waits in catch_up.
            _log.warning("the events of pipelines: %s", error.str())

    def catch_up(self) -> None:
        """Read all that had been written when this was called. Raises Unavailable when nothing comes for 15 s."""
        ends = offsets(self._ends, self._reached, OFFSET_END, _TIMEOUT_S)
        deadline = time.monotonic() + _TIMEOUT_S
        while any(self._reached[place] < end for place, end in ends.items()):
            if self.read(0.2):
                deadline = time.monotonic() + _TIMEOUT_S
            elif time.monotonic() > deadline:
                raise Unavailable("the events of pipelines cannot be read up to their end")

    def close(self) -> None:
        """End both clients. Blocking, for a moment."""
        self._consumer.close()
        self._ends.close()
