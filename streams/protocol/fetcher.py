"""A consumer of partitions that somebody else has chosen: no group, no offsets committed, committed records only.

One request a broker is under way at a time, for all the partitions it leads: what has gathered meanwhile comes in one
answer, so the busier the reader, the fewer the requests.
"""

import select
import time
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from streams.protocol import messages, requests
from streams.protocol.batch_reader import read_batches
from streams.protocol.cluster import CALL_S_MAX, Cluster, failure
from streams.protocol.connection import Connection
from streams.protocol.messages import Partition
from streams.protocol.record import Record
from streams.protocol.security import Security

_ANSWER_BYTES_MAX: Final = 8 << 20
_PARTITION_BYTES_MAX: Final = 1 << 20
_PAUSE_S: Final = 0.05  # before what was refused is asked for again
_ANSWER_S_MAX: Final = 10.0  # for an answer to come, once it has begun


class Fetched(NamedTuple):
    """What came of a partition: records in order, the offset that comes ``after`` them (and after markers and what was
    aborted), and whether that was the end: nothing decided stood behind it when the broker answered.
    """

    partition: Partition
    records: list[Record]
    after: int
    end: bool


class _Asked(NamedTuple):
    connection: Connection
    request: tuple[Any, Any]
    at: dict[Partition, int]
    until: float


class Fetcher:
    """Blocking, for one thread at a time. ``at`` says which partitions are read, each from which offset on; it moves with what
    is returned, and may be changed between two calls.

    A broker that fails, or leads no more, is looked for until it is found: ``problem`` is what it said last. An offset that the
    log has no more goes on at the first one that it has.
    """

    def __init__(
        self,
        bootstrap: str,
        security: Security,
        client_id: str,
        bytes_min: int = 1,
    ) -> None:
        """``bootstrap`` is librdkafka's ``bootstrap.servers``; nothing connects before there is something to read."""
        self.at: dict[Partition, int] = {}
        self.problem: KafkaException | None = None
        self._cluster = Cluster(bootstrap, security, client_id)
        self._bytes = bytes_min, _ANSWER_BYTES_MAX, _PARTITION_BYTES_MAX
        self._broken: KafkaException | None = None
        self._asked: dict[int, _Asked] = {}
        self._ask_at = 0.0

    def close(self) -> None:
        """Close all connections."""
        self._asked.clear()
        self._cluster.close()

    def read(self, timeout_s: float, wait_s: float, *, ahead: bool = True) -> list[Fetched]:
        """Return what has come, as soon as something has. Brokers hold an answer back for ``wait_s`` while there is nothing. What
        follows is asked for at once if ``ahead``, otherwise by the next call.

        Raises ``KafkaException`` for what does not mend itself, such as a topic that may not be read, and for records that are
        damaged; but first returns what else has come, since ``at`` has moved with it.
        """
        self._ask(wait_s)
        waiting = select.poll()
        nodes = {asked.connection.fileno(): node for node, asked in self._asked.items()}
        for number in nodes:
            waiting.register(number, select.POLLIN)
        found: list[Fetched] = []
        for number, _ in waiting.poll(1000 * timeout_s):
            found += self._receive(nodes[number])
        now = time.monotonic()
        for node in [node for node, asked in self._asked.items() if asked.until < now]:
            self._failed(
                node, failure(KafkaError._TIMED_OUT, f"broker {node} does not answer", retriable=True)
            )
        if ahead:
            self._ask(wait_s)
        # What holds no records is told again.
        if self._broken is not None and not any(one.records for one in found):
            broken, self._broken = self._broken, None
            raise broken
        return found

    def _ask(self, wait_s: float) -> None:
        """Ask every leader that owes no answer."""
        if not self.at or time.monotonic() < self._ask_at:
            return
        try:
            leaders = self._cluster.leaders(self.at, CALL_S_MAX)
        except KafkaException as error:
            self._failed(None, error)
            return
        if len(leaders) < len(self.at):
            self._failed(
                None, failure(KafkaError.LEADER_NOT_AVAILABLE, "a partition has no leader", retriable=True)
            )
        wanted: dict[int, dict[Partition, int]] = {}
        for part, offset in self.at.items():
            if (node := leaders.get(part)) is not None and node not in self._asked:
                wanted.setdefault(node, {})[part] = offset
        for node, at in wanted.items():
            request = requests.fetch(at, wait_s, *self._bytes)
            try:
                connection = self._cluster.connection(node, CALL_S_MAX)
                connection.send(request, CALL_S_MAX)
            except KafkaException as error:
                self._failed(node, error)
                continue
            until = time.monotonic() + wait_s + CALL_S_MAX
            self._asked[node] = _Asked(connection, request, at, until)

    def _receive(self, node: int) -> list[Fetched]:
        asked = self._asked[node]
        try:
            answer = asked.connection.receive(asked.request, _ANSWER_S_MAX)
        except KafkaException as error:
            self._failed(node, error)
            return []
        del self._asked[node]
        if answer.error_code:
            self._refused(str(node), answer.error_code)
            return []
        found: list[Fetched] = []
        for topic in answer.responses:
            for data in topic.partitions:
                part = (str(topic.topic), int(data.partition_index))
                if (
                    self.at.get(part) == asked.at[part]
                    and (one := self._fetched(node, part, data)) is not None
                ):
                    found.append(one)
        return found

    def _fetched(self, node: int, part: Partition, data: Any) -> Fetched | None:
        topic, partition = part
        at = self.at[part]
        if data.error_code == KafkaError.OFFSET_OUT_OF_RANGE:
            self.at[part] = self._earliest(node, part)
            return None
        if data.error_code:
            self._refused(f"{topic} {partition}", data.error_code)
            return None
        self.problem = None
        records: list[Record] = []
        after = at
        if data.records:
            aborted = [
                (int(one.producer_id), int(one.first_offset)) for one in data.aborted_transactions or ()
            ]
            try:
                records, after = read_batches(data.records, topic, partition, at, aborted)
            except (ValueError, IndexError) as error:
                text = f"{topic} {partition} from {at} on: {error}"
                self._failed(None, failure(KafkaError.INVALID_MSG, text))
                return None
            # To the end: of the first partition that has anything the answer holds a batch of any size.
            del self.at[part]
            self.at[part] = after
        return Fetched(part, records, after, after >= data.last_stable_offset)

    def _earliest(self, node: int, part: Partition) -> int:
        """Return the first offset that is left, or where the reader is if that cannot be told now."""
        try:
            connection = self._cluster.connection(node, CALL_S_MAX)
            answer = connection.call(messages.earliest(*part), CALL_S_MAX).topics[0].partitions[0]
        except KafkaException as error:
            self._failed(node, error)
            return self.at[part]
        if answer.error_code:
            self._refused(f"{part[0]} {part[1]}", answer.error_code)
            return self.at[part]
        return int(answer.offset)

    def _refused(self, what: str, error: Any) -> None:
        text = f"{what}: {KafkaError(int(error)).str()}"
        self._failed(None, failure(int(error), text, retriable=error.retriable))

    def _failed(self, node: int | None, error: KafkaException) -> None:
        """Look anew for who leads what, in a while; an error that will not mend itself is raised by :meth:`read`."""
        if not error.args[0].retriable():
            self._broken = error
        self.problem = error
        self._ask_at = time.monotonic() + _PAUSE_S
        self._cluster.lost(node)
        if node is not None:
            self._asked.pop(node, None)
