"""``flexcore event import``: an export becomes a log again, record by record, in topics that hold nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from app.cli.export import Export
from app.cli.failure import Failed
from app.cli.log import Log, progress
from app.cli.output import is_terminal, say, show_one
from app.cli.proof import todays_fold
from app.cli.session import Session
from app.errors import EXIT_CONFLICT, EXIT_OK
from connectors.sdk.producer import IDEMPOTENT
from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.errors import UnknownSchema
from schemas.parsing import canonical
from schemas.registry import HttpRegistry, SchemaRegistry
from schemas.topics import AUDIT, SCHEMAS, Topics
from streams.aggregates import builtin
from streams.checkpoints import CHECKPOINT
from streams.proof.export import RawRecord, of_place, place
from streams.provision import provision
from streams.shards.trail import Vouched
from streams.translation import subjects

_TIMEOUT_S = 60.0


def import_(session: Session, registry_url: str | None, folder: Path) -> int:
    """Write an export's records where there are none, or where an import was broken off; a second time changes nothing."""
    config = session.config
    config.require_kafka()
    found = Export(folder)
    verifier = found.verify(None, todays_fold())
    if verifier.findings.faults or found.complaints:
        raise Failed(f"{folder} is not whole", hint=f"flexcore event verify --export {folder}")
    provision(config.worker_settings("import"), builtin())
    topics, cluster = Topics(config.get("TOPIC_PREFIX")), config.get("CLUSTER")
    with _registry(session, registry_url, topics) as registry:
        written = Importer(Log(config.kafka, Codec(registry)), topics, cluster, found).run()
    show_one(session.output, {"folder": str(folder), "written": written}, ("folder", "written"))
    return EXIT_OK


@contextmanager
def _registry(session: Session, url: str | None, topics: Topics) -> Iterator[SchemaRegistry]:
    """Yield the schema registry. The one that nodes bring along is away while they are stopped: its topic is read."""
    config = session.config
    if url := url or config.get("REGISTRY_URL"):
        yield HttpRegistry(url)
        return
    from app.registry.store import RegistryStore

    store = RegistryStore(
        config.kafka, topics.named(SCHEMAS), config.get("CLUSTER"), config.get("REPLICATION")
    )
    store.start()
    try:
        # What a node does first: in a fresh cluster of the same version the schemas get the same ids.
        store.register_all(subjects(builtin(), Catalogue.load()))
        yield store
    finally:
        store.stop()


class Importer:
    """Checks everything first, then writes partition after partition, and at last where each shard stands."""

    def __init__(self, log: Log, topics: Topics, cluster: str, export: Export) -> None:
        self._log, self._topics, self._export = log, topics, export
        self._group = f"{cluster}.worker"
        self._writer = f"{cluster}/import"
        self._producer = Producer(
            {
                **log.kafka,
                **IDEMPOTENT,
                "compression.type": "lz4",
                "message.max.bytes": 5 << 20,
            }
        )
        self._last: dict[str, Vouched] = {}
        self._tell, self._count = progress(is_terminal(), say), 0

    def run(self) -> int:
        """Return how many records were written. Raises :class:`Failed` before anything is, when the target does not fit."""
        self._check_schemas()
        self._check_shards()
        self._check_idle()
        files = [one for kind in ("events", "outcomes", AUDIT) for one in self._export.files(kind)]
        missing = {one: self._missing(*one) for one in files}
        for (file, topic, shard), count in missing.items():
            self._fill(file, topic, shard, count)
        self._stand()
        return sum(missing.values())

    # ---------------------------------------------------------------- does it fit?
    def _check_schemas(self) -> None:
        for schema_id, schema in self._export.schemas.found.items():
            try:
                same = canonical(self._log.codec.registry.schema(schema_id)) == canonical(schema)
            except UnknownSchema:
                same = False
            if not same:
                raise Failed(
                    f"the registry here does not have the export's schema {schema_id} under that id",
                    hint="records keep their ids: use the registry they were written with, or a fresh one of its version",
                    exit_code=EXIT_CONFLICT,
                )

    def _check_shards(self) -> None:
        known = self._log.topics()
        for aggregate, count in self._export.manifest.shards.items():
            here = known.get(self._topics.events(aggregate))
            if here != count:
                raise Failed(
                    f"{aggregate} has {count} shards in the export, and {here or 'none'} here",
                    hint="set FLEXCORE_SHARDS before the topics are made",
                    exit_code=EXIT_CONFLICT,
                )

    def _check_idle(self) -> None:
        members = (
            self._log.admin.describe_consumer_groups([self._group])[self._group].result(_TIMEOUT_S).members
        )
        if members:
            raise Failed(
                f"{len(members)} workers are at work", hint="stop all nodes first", exit_code=EXIT_CONFLICT
            )

    def _missing(self, file: str, topic: str, shard: int) -> int:
        """Return how many records, the last ones of the file, are not there yet."""
        here = (
            self._digest(one.key, one.value)
            for one in self._log.partition(f"{self._topics.prefix}{topic}", shard)
        )
        theirs = [self._digest(record.key, record.value) for record in self._records(file)]
        there = list(dict.fromkeys(here))
        if there != theirs[: len(there)]:
            raise Failed(
                f"{self._topics.prefix}{topic}/{shard} holds other records than {file}",
                hint="import into a cluster, or under a FLEXCORE_TOPIC_PREFIX, that has no log of its own",
                exit_code=EXIT_CONFLICT,
            )
        return len(theirs) - len(there)

    @staticmethod
    def _digest(key: bytes, value: bytes) -> bytes:
        return sha256(len(key).to_bytes(4, "big") + key + value).digest()

    def _records(self, file: str) -> Iterator[RawRecord]:
        for number, record, error in self._export.raw(file):
            if record is None:
                raise Failed(f"{file}, line {number}: {error}")
            yield record

    # ---------------------------------------------------------------- write
    def _fill(self, file: str, topic: str, shard: int, count: int) -> None:
        lines = int(self._export.manifest.files[file]["lines"])
        name, aggregate = f"{self._topics.prefix}{topic}", topic.rpartition(".")[0]
        cut = topic.endswith(".outcomes") and place(aggregate, shard) in self._export.manifest.firsts
        for number, record in enumerate(self._records(file)):
            if topic == AUDIT:
                self._note(record)
            if number < lines - count:
                continue
            if number == 0 and cut:
                # Who loads the shard must see that the beginning is gone: this copy is deleted again.
                self._produce(name, record, shard)
            self._produce(name, record, shard)
        self._flush()
        if cut and self._log.starts([(name, shard)])[name, shard] == 0:
            for future in self._log.admin.delete_records([TopicPartition(name, shard, 1)]).values():
                future.result(_TIMEOUT_S)

    def _produce(self, name: str, record: RawRecord, shard: int) -> None:
        while True:
            try:
                self._producer.produce(name, record.value, record.key, shard, headers=[*record.headers])
                break
            except BufferError:
                self._producer.poll(0.1)
        self._count += 1
        self._tell(self._count)

    def _flush(self) -> None:
        if self._producer.flush(_TIMEOUT_S):
            raise Failed(
                "Kafka does not take the records", hint="run the import again: it goes on where it stopped"
            )

    def _note(self, record: RawRecord) -> None:
        name, body = self._export.codec.decode(record.value)
        if name == CHECKPOINT:
            self._last[place(body["aggregate"], body["shard"])] = Vouched(
                body["number"], body["to"], bytes.fromhex(body["root"])
            )

    def _stand(self) -> None:
        """Commit where each shard stands, as its owner would have; the commands here begin after it."""
        offsets = []
        for name, position in self._export.manifest.positions.items():
            aggregate, shard = of_place(name)
            topic = self._topics.commands(aggregate)
            end = self._log.ends([(topic, shard)])[topic, shard]
            vouched = self._last.get(name, Vouched())
            offsets.append(TopicPartition(topic, shard, end, f"{self._writer}|{position}|{vouched}"))
        consumer = Consumer({**self._log.kafka, "group.id": self._group, "enable.auto.commit": False})
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise Failed(f"where the shards stand could not be committed: {error.args[0].str()}") from None
        finally:
            consumer.close()
