"""The log cleaner really runs over an events topic: what is left proves itself, and folds to the same states."""

import os
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.catalogue import Catalogue
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
from streams.writer.redaction import Redactor
from streams.writer.staged import Staged
from tests.performance.account import SCHEMAS, Deposited
from tests.support.records import ACCOUNT, deposit, record_of, redact, told
from tests.support.services import KafkaService
from tests.support.topic_settings import set_config
from tests.support.truth import Seen, read
from tests.support.workers import eventually

SHARDS = 2
EVENTS = int(os.environ.get("FLEXCORE_TEST_CLEANER_EVENTS", "8000"))
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
        provision(settings, [ACCOUNT])
        self.decider = Decider(
            ACCOUNT,
            Decoder(ACCOUNT, self.catalogue, self.codec, 1 << 20),
            Encoder(ACCOUNT, self.catalogue, self.codec, self.topics, prefix, f"{prefix}/node/a"),
            EffectEncoder((ACCOUNT,), self.catalogue, self.codec, self.topics, SHARDS),
            Quarantine(self.topics.quarantine("account"), "a"),
            Redactor(ACCOUNT, self.catalogue, self.codec, self.topics),
            {},
            1 << 30,
        )
        signer = Signer.own(folder / "audit-key.pem")
        encoder = CheckpointEncoder(signer, self.catalogue, self.codec)
        self.checkpoints = Checkpoints(self.topics.named(AUDIT), encoder, f"{prefix}/node/a")
        self.slices = [Slice(ACCOUNT, shard) for shard in range(SHARDS)]
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
            self._merge(parts)
            sent = records

    def _command(self, chance: random.Random) -> Any:
        command_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        return deposit(chance.randint(1, 9), 0, command_id, b"default/a%d" % chance.randrange(2_000))

    def _decided(self, records: list[Any]) -> list[Staged]:
        parts = [Staged.on(piece, None) for piece in self.slices]
        for record in records:
            self.decider.stage(parts[partition_of(record.key, SHARDS)], [record])
        for part in parts:
            self.checkpoints.stage(part, NOW_MS, closing=False)
        return parts

    def _transact(self, parts: list[Staged], *, commit: bool) -> None:
        self.producer.begin_transaction()
        for part in parts:
            for topic, value, key, partition, headers in part.out:
                self.producer.produce(topic, value, key, partition, headers=told(headers))
        if commit:
            self.producer.commit_transaction(30)
        else:
            self.producer.flush(30)
            self.producer.abort_transaction(30)

    def redact(self, events: list[Seen]) -> list[bytes]:
        """Redact events in one transaction, decided by the owner's own code; return the keys of those that say so."""
        histories: dict[bytes, dict[int, Any]] = {}
        for one in self.events():
            self._note(histories, one.key, one.value, list(one.headers.items()))
        parts, said = [Staged.on(piece, None) for piece in self.slices], list[bytes]()
        for event in events:
            part, key = parts[event.partition], event.key.rsplit(b"/", 2)[0]
            part.slice.history, before = (key, histories[key]), len(part.out)
            wanted = redact(int(event.headers["sequence"]), "balance", "sent_at", key=key)
            assert self.decider.stage(part, [wanted]) == 1
            for topic, value, its_key, _, headers in part.out[before:]:
                if topic == self.topics.events("account"):
                    self._note(histories, its_key, value or b"", told(headers))
                    said += [] if its_key == event.key else [its_key]
        for part in parts:
            self.checkpoints.stage(part, NOW_MS, closing=True)
        self._transact(parts, commit=True)
        self._merge(parts)
        return said

    @staticmethod
    def _note(histories: dict[bytes, dict[int, Any]], key: bytes, value: bytes, headers: list[Any]) -> None:
        whose, version, _ = key.rsplit(b"/", 2)
        histories.setdefault(whose, {})[int(version)] = record_of(value, key, 0, headers)

    def _merge(self, parts: list[Staged]) -> None:
        for part in parts:
            piece = part.slice
            piece.next, piece.sequence, piece.position = part.next, part.sequence, part.position
            piece.merge(part.states, part.index)
            self.checkpoints.committed(part, NOW_MS)

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
        loader = Loader(broker, [ACCOUNT], self.catalogue, self.codec, self.topics)
        told = []
        for shard in range(SHARDS):
            found = loader.load(shard, {}, lambda: True, Loading())
            assert found is not None
            piece = found[0]["account"]
            states = {key: (entry.version, entry.state, entry.chain) for key, entry in piece.states.items()}
            told.append((states, piece.sequence, piece.position, piece.trail.vouched, piece.trail.hashes()))
        broker.close()
        return told


def _evolve(_aggregate: str, state: Any, body: Any, kind: str) -> Any:
    fields = {name: value for name, value in body.items() if name != "envelope"}
    return state if kind == "EventRedacted" else ACCOUNT.evolve(state, from_record(Deposited, fields))


def _known(records: list[Seen], codec: Codec) -> dict[bytes, int]:
    """Return each account's balance as a reader knows it who takes the newest body of every event, whatever it is."""
    newest: dict[bytes, tuple[int, int]] = {}
    for one in records:
        name, body = codec.decode(one.value)
        key, version = one.key.rsplit(b"/", 2)[0], int(one.headers["version"])
        if name.endswith("Deposited") and version >= newest.get(key, (0, 0))[0]:
            newest[key] = (version, body["balance"])
    return {key: balance for key, (_, balance) in newest.items()}


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
    chance = random.Random(8)
    lasts = {event.key.rsplit(b"/", 2)[0]: event for event in events}
    # Any events, the last ones of accounts among them, whose values the states show; some twice; the very last one.
    redacted = [
        *chance.sample(events, REDACTED_EVENTS - 51),
        *chance.sample(list(lasts.values()), 50),
        events[-1],
    ]
    gone = {event.key for event in redacted}
    said = log.redact(redacted)
    again = log.redact([event for event in redacted[:20] if event.headers["version"] != b"1"])
    assert again == []  # nothing was left to be taken
    findings, _ = log.judged()
    loaded = log.loaded()
    assert findings.faults == []
    assert len(findings.redacted) == len(gone) == len(said)

    hurried = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.001", "min.compaction.lag.ms": "0"}
    set_config(kafka.bootstrap, log.topics.events("account"), hurried)
    start = time.monotonic()

    def cleaned() -> bool:
        log.nudge()
        return len(log.events()) == EVENTS + len(said)

    eventually(cleaned, 120, 2.0)
    print(f"written in {written_s:.1f} s, cleaned after {time.monotonic() - start:.1f} s")
    left = log.events()
    assert {one.key for one in left} == {one.key for one in events} | set(said)
    places = {(one.partition, one.offset) for one in left}
    assert {(one.partition, one.offset) for one in events if (one.partition, one.offset) not in places} == {
        (one.partition, one.offset) for one in redacted
    }
    for one in left:
        assert one.key not in gone or log.codec.decode(one.value)[1]["balance"] == 0

    after, states = log.judged()
    assert after.faults == []
    assert sorted(after.redacted) == sorted(findings.redacted)
    assert log.loaded() == loaded
    own = {
        key: (entry.version, entry.state, entry.chain)
        for piece in log.slices
        for key, entry in piece.states.items()
    }
    assert {key: told for found in loaded for key, told in found[0].items()} == own
    assert {key: state for (_, key), state in states.items()} == {key: told[1] for key, told in own.items()}
    assert {key: told[1].balance for key, told in own.items()} == _known(left, log.codec)
