"""Kafka records without Kafka, and a decider of accounts, for the tests of the hot path."""

import json
import uuid
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from fastavro.io.binary_decoder import BinaryDecoder

from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.registry import MemoryRegistry
from schemas.topics import Topics
from streams.domain.aggregate import Aggregate
from streams.domain.redaction import redactable
from streams.protocol.record import Record
from streams.protocol.record_batch import headers_of
from streams.shards.shard import Slice
from streams.writer.decide import Decider, Reactor
from streams.writer.decoding import Decoder
from streams.writer.encoding import EffectEncoder, Encoder
from streams.writer.quarantine import Quarantine
from streams.writer.redaction import Redactor
from streams.writer.staged import Staged
from tests.performance.account import AGGREGATE, SCHEMAS

ACCOUNT = redactable(AGGREGATE)
CATALOGUE = Catalogue.load().merged(Catalogue.load(SCHEMAS))
"""Read once: it takes longer than most tests."""


def record_of(
    value: bytes | None,
    key: bytes | None = b"default/a",
    offset: int = 0,
    headers: Iterable[tuple[str, bytes]] = (),
    topic: str = "account.commands",
    at: int = 1_700_000_000_000,
) -> Record:
    """Return a record as it is fetched."""
    return Record(topic, 0, offset, at, key, value, headers_of(headers))


def deposit(
    amount: int, offset: int = 0, command_id: str | None = None, key: bytes = b"default/a", **headers: bytes
) -> Record:
    """Return a deposit as JSON."""
    said = [
        ("command-id", (command_id or str(uuid.uuid4())).encode()), ("command-type", b"Deposit")
    ]  # fmt: skip
    said += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return record_of(b'{"amount": %d}' % amount, key, offset, said)


def redact(sequence: int, *fields: str, key: bytes = b"default/a", **more: Any) -> Record:
    """Return ada's wish to redact an event; ``more`` are fields of the command."""
    body = {"sequence": sequence, "fields": fields, "reason": "asked for", **more}
    headers = [
        ("command-id", str(uuid.uuid4()).encode()), ("command-type", b"RedactEvent"), ("actor", b"ada")
    ]  # fmt: skip
    return record_of(json.dumps(body).encode(), key, 0, headers)


class Bench:
    """A slice and its decider; :meth:`decide` stages and merges, as if the transaction had been committed."""

    def __init__(
        self,
        aggregate: Aggregate = ACCOUNT,
        shards: int = 1,
        reactors: dict[type, Reactor] | None = None,
        command_ids_max: int = 1000,
    ) -> None:
        self.catalogue = CATALOGUE
        self.codec = Codec(MemoryRegistry(), self.catalogue)
        topics = Topics()
        self.decider = Decider(
            aggregate,
            Decoder(aggregate, self.catalogue, self.codec, 1 << 20),
            Encoder(aggregate, self.catalogue, self.codec, topics, "c", "c/node/n"),
            EffectEncoder((aggregate,), self.catalogue, self.codec, topics, shards),
            Quarantine("account.quarantine", "n"),
            Redactor(aggregate, self.catalogue, self.codec, topics),
            reactors or {},
            command_ids_max,
        )
        self.slice = Slice(aggregate, 0)

    def decide(self, *records: Any, condemned: frozenset[int] = frozenset()) -> Staged:
        """Decide the records in one batch and take the result over."""
        staged = Staged.on(self.slice, None)
        self.decider.stage(staged, list(records), condemned)
        piece = self.slice
        piece.next, piece.sequence, piece.position = staged.next, staged.sequence, staged.position
        piece.merge(staged.states, staged.index)
        piece.park(staged.parked)
        return staged

    def on(self, staged: Staged, topic: str) -> list[dict[str, Any]]:
        """Return the decoded records that a batch put on a topic."""
        return [self.codec.decode(value or b"")[1] for name, value, *_ in staged.out if name == topic]


def told(raw: bytes) -> list[tuple[str, Any]]:
    """Return the headers of a record that is to be produced."""
    decoder: Any = BinaryDecoder
    data = decoder(BytesIO(raw))  # Kafka's lengths are Avro's
    return [(data.read_utf8(), data.read_bytes()) for _ in range(data.read_long())]
