"""The work itself, for the contestants in Python that are not the product: the same codec, records and checks."""

from datetime import UTC, datetime
from typing import Any

from schemas.chain import CHAIN, START
from schemas.outcome import ACCEPTED, Answer
from schemas.topics import Topics
from streams.domain.aggregate import Message
from streams.writer.command import Command, body_hash
from streams.writer.encoding import Encoder
from tests.performance.account import AGGREGATE, Account, Deposit, decide, evolve
from tests.performance.wire import codec_of_all

Headers = list[tuple[str, bytes]]
Produced = tuple[str, bytes, bytes, int, Headers]
"""A record as clients in Python take it: topic, value, key, partition, headers."""


class Job:
    """Decides commands one by one: an event with envelope and headers, and an outcome. Who calls it keeps the state."""

    def __init__(self, topics: Topics, cluster: str, writer: str) -> None:
        self._codec, catalogue = codec_of_all()
        self._encoder = Encoder(AGGREGATE, catalogue, self._codec, topics, cluster, writer)
        self._sequences: dict[int, int] = {}
        self._source, self._written_by = f"/{cluster}/account".encode(), ("writer", writer.encode())
        self._at_ms, self._time = -1, b""

    def do(
        self,
        key: bytes,
        value: bytes,
        command_id: bytes,
        source: tuple[int, int, int],
        version: int,
        state: Account,
    ) -> tuple[list[Produced], int, Account]:
        """Return what a command causes, and version and state after it. ``source``: partition, offset, append time."""
        part, offset, at_ms = source
        _, body = self._codec.decode(value)
        tenant, _, name = key.decode().partition("/")
        told_id = command_id.decode()
        message = Message(Deposit(**body), tenant, name, told_id, at_ms, "anonymous", told_id)
        digest = body_hash("Deposit", body)
        command = Command(message, digest, None, command_id, b"", command_id, b"anonymous", None)
        cause = self._encoder.cause(command, key, offset)
        decided = decide(message, state)
        out: list[Produced] = []
        own = sequence = self._sequences.get(part, 0) + 1
        first = version + 1
        for index, event in enumerate(decided if isinstance(decided, tuple) else ()):
            version += 1
            sequence += 1
            state = evolve(state, event)
            # The chain costs the same whatever it goes on from; here it goes on from nothing.
            numbers = (version, sequence, index)
            event_id, chain, (topic, written, record_key, *_) = self._encoder.event(
                event, key, part, numbers, cause, START
            )
            told = self._told(command_id, offset, at_ms)
            told += [
                ("ce_id", event_id),
                ("ce_subject", key),
                ("sequence", b"%d" % sequence),
                ("version", b"%d" % version),
                (CHAIN, chain),
            ]
            out.append((topic, written or b"", record_key, part, told))
        self._sequences[part] = sequence
        refused = None if isinstance(decided, tuple) else decided
        answer = Answer("rejected", refused.reason, refused.detail) if refused else ACCEPTED
        versions = (0, 0) if refused else (first, version)
        answered, (topic, *_) = self._encoder.outcome(
            cause, command, (*versions, part, own, sequence), answer
        )
        who = [("command-id", command_id), ("source-offset", b"%d" % offset), self._written_by]
        out.append((topic, answered, command_id, part, who))
        return out, version, state

    def _told(self, command_id: bytes, offset: int, at_ms: int) -> Headers:
        """Return the headers that say where an event comes from, as the product's own say it."""
        if at_ms != self._at_ms:  # records of a batch share their append time
            at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
            self._at_ms, self._time = at_ms, at.replace("+00:00", "Z").encode()
        return [
            ("ce_specversion", b"1.0"),
            ("ce_source", self._source),
            ("ce_type", b"Deposited"),
            ("content-type", b"application/avro"),
            self._written_by,
            ("command-id", command_id),
            ("causation-id", b""),
            ("correlation-id", command_id),
            ("actor", b"anonymous"),
            ("source-offset", b"%d" % offset),
            ("ce_time", self._time),
        ]


class Memory:
    """State and dedupe in this process: a dict of accounts, a set of command ids. Gone with the process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._states: dict[bytes, tuple[int, Account]] = {}
        self._seen: set[bytes] = set()

    def do(self, key: bytes, value: bytes, headers: Any, source: tuple[int, int, int]) -> list[Produced]:
        """Return what a command causes; nothing for one that was there before."""
        command_id = dict(headers)["command-id"]
        seen = key + command_id
        if seen in self._seen:
            return []
        self._seen.add(seen)
        version, state = self._states.get(key) or (0, Account())
        out, version, state = self._job.do(key, value, command_id, source, version, state)
        self._states[key] = (version, state)
        return out
