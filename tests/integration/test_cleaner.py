"""The log cleaner really runs over an events topic: what is left proves itself, and folds to the same states."""

import os
import random
import time
import uuid
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.catalogue import Catalogue
from schemas.chain import REDACTED, VALUE_HASH
from schemas.codec import Codec
from schemas.partitioning import partition_of
from schemas.registry import MemoryRegistry
from schemas.topics import AUDIT, Topics
from streams.checkpoints import CheckpointEncoder, Signer
from streams.proof.record import Findings, LogRecord
from streams.proof.verifier import Verifier
from streams.provision import provision
from streams.recovery.load import Loader, Loading
from streams.recovery.offsets import Broker
from streams.settings import WorkerSettings
from streams.shards.shard import Slice
from streams.translation import from_record
from streams.writer.checkpoints import Checkpoints
from streams.writer.decide import Decider
from streams.writer.decoding import Decoder
from streams.writer.encoding import EffectEncoder, Encoder
from streams.writer.quarantine import Quarantine
from streams.writer.staged import Staged
from tests.performance.account import AGGREGATE, SCHEMAS, Deposited
from tests.support.records import deposit
from tests.support.services import KafkaService
from tests.support.topic_settings import set_config
from tests.support.truth import Seen, read
from tests.support.workers import eventually

SHARDS = 2
EVENTS = int(os.environ.get("FLEXCORE_TEST_CLEANER_EVENTS", "20000"))
BATCH = EVENTS // 40
REDACTED_EVENTS = 300
NOW_MS = 1_700_000_000_000


class Written:
    """A log of accounts, decided, chained and vouched for by the writer's own code, in real transactions.

    Some of them are aborted and written again, as after a fault; some commands come twice.
    """

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        self.bootstrap, self.topics = bootstrap, Topics(prefix)
        self.catalogue = Catalogue.load().merged(Catalogue.load(SCHEMAS))
        self.codec = Codec(MemoryRegistry(), self.catalogue)
        settings = WorkerSettings(
            {"bootstrap.servers": bootstrap}, prefix, "a", folder, prefix=prefix, shards=SHARDS
        )
        provision(settings, [AGGREGATE])
        self.decider = Decider(
            AGGREGATE,
            Decoder(AGGREGATE, self.catalogue, self.codec, 1 << 20),
            Encoder(AGGREGATE, self.catalogue, self.codec, self.topics, prefix, f"{prefix}/node/a"),
            EffectEncoder((AGGREGATE,), self.catalogue, self.codec, self.topics, SHARDS),
            Quarantine(self.topics.quarantine("account"), "a"),
            {},
            SHARDS,
            1 << 30,
        )
        signer = Signer.own(folder / "audit-key.pem")
        encoder = CheckpointEncoder(signer, self.catalogue, self.codec)
        self.checkpoints = Checkpoints(self.topics.named(AUDIT), encoder, f"{prefix}/node/a")
        self.slices = [Slice(AGGREGATE, shard) for shard in range(SHARDS)]
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": f"{prefix}/node/a", "linger.ms": 20,
             "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000}
        )  # fmt: skip
        self.producer.init_transactions(30)

    def write(self) -> None:
        """Write all events."""
        chance, sent = random.Random(7), list[Any]()
        for number in range(EVENTS // BATCH):
            records = [self._command(chance) for _ in range(BATCH)]
            again = chance.sample(sent, min(len(sent), 50))
            parts = self._decided([*records, *again])
            if number % 8 == 3:
                self._transact(parts, commit=False)
            self._transact(parts, commit=True)
            for part in parts:
                piece = part.slice
                piece.next, piece.sequence, piece.position = part.next, part.sequence, part.position
                piece.merge(part.states, part.index)
                self.checkpoints.committed(part, NOW_MS)
            sent = records

    def _command(self, chance: random.Random) -> Any:
        command_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        return deposit(chance.randint(1, 9), 0, command_id, b"default/a%d" % chance.randrange(2_000))

    def _decided(self, records: list[Any]) -> list[Staged]:
        parts = [Staged.on(piece, None) for piece in self.slices]
        for record in records:
            self.decider.stage(parts[partition_of(record.key_, SHARDS)], [record])
        for part in parts:
            self.checkpoints.stage(part, NOW_MS, closing=False)
        return parts

    def _transact(self, parts: list[Staged], *, commit: bool) -> None:
        self.producer.begin_transaction()
        for part in parts:
            for topic, value, key, partition, headers in part.out:
                told: Any = headers
                self.producer.produce(topic, value, key, partition, headers=told)
        if commit:
            self.producer.commit_transaction(30)
        else:
            self.producer.flush(30)
            self.producer.abort_transaction(30)

    def redact(self, event: Seen) -> None:
        """Put a record without its content under the key of an event, as a redactor does."""
        schema = self.catalogue.schema("flexcore.account.Deposited")
        encode = self.codec.encoder("account.events-flexcore.account.Deposited", schema)
        value = encode({**self.codec.decode(event.value)[1], "amount": 0, "sent_at": 0})
        certificate = {REDACTED: b"ada: asked for by the customer", VALUE_HASH: sha256(event.value).digest()}
        headers: Any = list({**event.headers, **certificate}.items())
        topic = self.topics.events("account")
        self.producer.begin_transaction()
        self.producer.produce(topic, value, event.key, event.partition, headers=headers)
        self.producer.commit_transaction(30)

    def nudge(self) -> None:
        """Append something that nobody sees: an idle partition rolls no segment, and what is not rolled is not cleaned."""
        self.producer.begin_transaction()
        for shard in range(SHARDS):
            self.producer.produce(self.topics.events("account"), b"", b"nudge", shard)
        self.producer.flush(30)
        self.producer.abort_transaction(30)

    # ---------------------------------------------------------------- as others see it
    def events(self) -> list[Seen]:
        return read(self.bootstrap, self.topics.events("account"), SHARDS)

    def judged(self) -> tuple[Findings, dict[Any, Any]]:
        """Return what the proof finds, and the states it has folded."""
        verifier = Verifier(_evolve, {"account": SHARDS})
        for record in self._records(self.topics.named(AUDIT)):
            verifier.audit(record)
        verifier.arrange()
        for record in self._records(self.topics.outcomes("account")):
            verifier.outcome("account", record)
        for record in self._records(self.topics.events("account")):
            verifier.event("account", record)
        verifier.judge(verifier.ceilings())
        return verifier.findings, verifier._states

    def _records(self, topic: str) -> Iterator[LogRecord]:
        for one in read(self.bootstrap, topic, SHARDS):
            name, body = self.codec.decode(one.value)
            yield LogRecord(topic, one.partition, one.offset, one.key, one.value, one.headers, name, body)

    def loaded(self) -> list[Any]:
        """Return every shard as the next owner would load it."""
        broker = Broker({"bootstrap.servers": self.bootstrap}, f"{self.topics.prefix}worker", "test", 0.3, 10)
        loader = Loader(broker, [AGGREGATE], self.catalogue, self.codec, self.topics)
        told = []
        for shard in range(SHARDS):
            found = loader.load(shard, {}, lambda: True, Loading())
            assert found is not None
            piece = found[0]["account"]
            states = {key: (entry.version, entry.state, entry.chain) for key, entry in piece.states.items()}
            told.append((states, piece.sequence, piece.position, piece.trail.vouched, piece.trail.hashes()))
        broker.close()
        return told


def _evolve(_aggregate: str, state: Any, body: Any, _kind: str) -> Any:
    fields = {name: value for name, value in body.items() if name != "envelope"}
    return AGGREGATE.evolve(state or AGGREGATE.initial, from_record(Deposited, fields))


@pytest.mark.timeout(300)
def test_what_the_cleaner_leaves_proves_itself_and_folds_to_the_same_states(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path
) -> None:
    """Transactions aborted and written again, commands sent twice, 300 events redacted."""
    log = Written(kafka.bootstrap, topic_prefix, tmp_path)
    start = time.monotonic()
    log.write()
    written_s = time.monotonic() - start
    events = log.events()
    assert len(events) == EVENTS
    redacted = [*random.Random(8).sample(events, REDACTED_EVENTS - 1), events[-1]]
    for event in redacted:
        log.redact(event)
    findings, states = log.judged()
    loaded = log.loaded()
    assert findings.faults == []
    assert len(findings.redacted) == REDACTED_EVENTS

    hurried = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.001", "min.compaction.lag.ms": "0"}
    set_config(kafka.bootstrap, log.topics.events("account"), hurried)
    start = time.monotonic()

    def cleaned() -> bool:
        log.nudge()
        return len(log.events()) == EVENTS

    eventually(cleaned, 120, 2.0)
    print(f"written in {written_s:.1f} s, cleaned after {time.monotonic() - start:.1f} s")
    left = {(one.partition, one.offset) for one in log.events()}
    assert not any((one.partition, one.offset) in left for one in redacted)
    assert {(one.partition, one.offset) for one in events} - left == {
        (one.partition, one.offset) for one in redacted
    }

    after, states_after = log.judged()
    assert after.faults == []
    assert sorted(after.redacted) == sorted(findings.redacted)
    assert states_after == states
    assert log.loaded() == loaded
    own = {
        key: (entry.version, entry.state, entry.chain)
        for piece in log.slices
        for key, entry in piece.states.items()
    }
    assert {key: told for found in loaded for key, told in found[0].items()} == own
