"""Who does what in a cluster, and the connections to its brokers. Blocking, for one thread at a time."""

import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from streams.protocol import messages
from streams.protocol.connection import Connection
from streams.protocol.messages import Partition
from streams.protocol.security import Security

# One broker that says nothing must not keep us from asking another.
CALL_S_MAX = 3.0
_PORT = 9092


class Cluster:
    """Leaders and coordinators as they were last heard of. Whoever finds one of them wrong says so by :meth:`lost`."""

    def __init__(self, bootstrap: str, security: Security, client_id: str) -> None:
        """``bootstrap`` is librdkafka's ``bootstrap.servers``."""
        self._client_id = client_id
        self._security = security
        servers = (one.strip().rpartition("://")[2] for one in bootstrap.split(","))
        self._bootstrap = [_address(one) for one in servers if one]
        self._brokers: dict[int, tuple[str, int]] = {}
        self._connections: dict[int, Connection] = {}
        self._leaders: dict[Partition, int] = {}
        self._coordinators: dict[tuple[int, str], int] = {}

    def close(self) -> None:
        """Close every connection."""
        while self._connections:
            self._connections.popitem()[1].close()

    def lost(self, node: int | None = None) -> None:
        """Forget who does what, and the connection to a broker that failed."""
        self._leaders.clear()
        self._coordinators.clear()
        if node is not None and (connection := self._connections.pop(node, None)) is not None:
            connection.close()

    def leaders(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, int]:
        """Return who leads the partitions; those without a leader are left out."""
        wanted = list(partitions)
        if any(one not in self._leaders for one in wanted):
            answer = self._ask(messages.metadata({topic for topic, _ in wanted}), timeout_s)
            self._brokers = {one.node_id: (one.host, one.port) for one in answer.brokers}
            for topic in answer.topics:
                for one in topic.partitions:
                    if one.leader_id >= 0 and not one.error_code:
                        self._leaders[str(topic.name), one.partition_index] = one.leader_id
        return {one: self._leaders[one] for one in wanted if one in self._leaders}

    def coordinator(self, kind: int, key: str, timeout_s: float) -> int:
        """Return the broker that coordinates a group or transactional id. Raises ``KafkaException`` while there is none."""
        if (kind, key) not in self._coordinators:
            found = self._ask(messages.find_coordinator(kind, key), timeout_s).coordinators[0]
            if found.error_code:
                text = found.error_message or f"no coordinator of {key}"
                raise failure(int(found.error_code), text, retriable=found.error_code.retriable)
            self._brokers[found.node_id] = (found.host, found.port)
            self._coordinators[kind, key] = found.node_id
        return self._coordinators[kind, key]

    def connection(self, node: int, timeout_s: float) -> Connection:
        """Return the connection to a broker; made if there is none, and anew when it was idle for long."""
        connection = self._connections.get(node)
        if connection is not None and connection.fresh:
            return connection
        address = self._brokers.get(node)
        try:
            if address is None:
                raise failure(KafkaError._TRANSPORT, f"broker {node} is not there any more", retriable=True)
            made = Connection(*address, self._security, self._client_id, min(timeout_s, CALL_S_MAX))
        except KafkaException:
            self.lost(node)
            raise
        if connection is not None:
            connection.close()
        self._connections[node] = made
        return made

    def _ask(self, request: tuple[Any, Any], timeout_s: float) -> Any:
        """Ask any broker that answers. Raises what the last one said."""
        deadline = time.monotonic() + timeout_s
        said: KafkaException | None = None
        for node, connection in list(self._connections.items()):
            if connection.busy or not connection.fresh:
                continue
            try:
                return connection.call(request, min(deadline - time.monotonic(), CALL_S_MAX))
            except KafkaException as error:
                said = error
                self._connections.pop(node).close()
        for host, port in [*self._brokers.values(), *self._bootstrap]:
            if said is not None and time.monotonic() > deadline:
                break
            try:
                one = Connection(host, port, self._security, self._client_id, min(timeout_s, CALL_S_MAX))
                try:
                    return one.call(request, min(timeout_s, CALL_S_MAX))
                finally:
                    one.close()
            except KafkaException as error:
                said = error
        assert said is not None, "there is a bootstrap server"
        raise said


def failure(
    code: int, text: str, *, retriable: bool = False, abort: bool = False, fatal: bool = False
) -> KafkaException:
    """Return an error as librdkafka would raise it; ``abort``: the transaction may be aborted, and the producer lives."""
    return KafkaException(KafkaError(code, text, fatal=fatal, retriable=retriable, txn_requires_abort=abort))


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return (host.strip("[]"), int(port)) if host else (server, _PORT)
