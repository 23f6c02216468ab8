"""The work itself, for the contestants that are not the product: the same codec, records and checks, in a dict."""

from typing import Any

from schemas.outcome import ACCEPTED, Answer
from schemas.topics import Topics
from streams.domain.aggregate import Message
from streams.writer.command import Command, body_hash
from streams.writer.encoding import Encoder, Produced
from tests.performance.account import AGGREGATE, Account, Deposit, decide, evolve
from tests.performance.load import codec_of_all


class Job:
    """Decides commands one by one: dedupe by id, state by key, an event with envelope and headers, an outcome."""

    def __init__(self, prefix: str, writer: str, shards: int) -> None:
        self._codec, catalogue = codec_of_all()
        self._encoder = Encoder(AGGREGATE, catalogue, self._codec, Topics(prefix), prefix, writer)
        self._states: dict[bytes, tuple[int, Account]] = {}
        self._seen: set[bytes] = set()
        self._sequences = dict.fromkeys(range(shards), 0)

    def do(
        self, key: bytes, value: bytes, headers: Any, part: int, offset: int, at_ms: int
    ) -> list[Produced]:
        """Return what a command causes; nothing for one that was there before."""
        command_id = dict(headers)["command-id"].decode()
        _, body = self._codec.decode(value)
        if key + command_id.encode() in self._seen:
            return []
        self._seen.add(key + command_id.encode())
        tenant, _, name = key.decode().partition("/")
        message = Message(Deposit(**body), tenant, name, command_id, at_ms, "anonymous", command_id)
        raw_id = command_id.encode()
        digest = body_hash("Deposit", message.body)
        command = Command(message, "Deposit", digest, None, raw_id, b"", raw_id, b"anonymous", None)
        cause = self._encoder.cause(command, key, offset)
        version, state = self._states.get(key) or (0, Account())
        decided = decide(message, state)
        out: list[Produced] = []
        sequence = self._sequences[part] + 1
        first = version + 1
        for index, event in enumerate(decided if isinstance(decided, tuple) else ()):
            version += 1
            sequence += 1
            state = evolve(state, event)
            out.append(self._encoder.event(event, key, part, version, sequence, index, cause)[1])
        self._states[key] = (version, state)
        self._sequences[part] = sequence
        refused = None if isinstance(decided, tuple) else decided
        answer = Answer("rejected", refused.reason, refused.detail) if refused else ACCEPTED
        out.append(self._encoder.outcome(cause, command, (first, version, part, sequence, sequence), answer))
        return out
