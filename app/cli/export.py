"""``flexcore event export``, and the reading of what it has written."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.failure import Failed
from app.cli.log import Log, progress
from app.cli.output import is_terminal, say, show_one
from app.cli.proof import registry_of, trusted_keys
from app.cli.session import Session
from app.errors import EXIT_OK
from schemas.codec import Codec
from schemas.errors import FlexcoreSchemaError
from schemas.topics import AUDIT, Topics
from streams.checkpoints import AUDIT_KEY, CHECKPOINT
from streams.proof.export import (
    FORMAT,
    Manifest,
    RawRecord,
    Schemas,
    Unreadable,
    chosen,
    described,
    file_of,
    line_of,
    of_place,
    place,
    read_manifest,
    record_of,
    topic_of,
)
from streams.proof.record import LogRecord
from streams.proof.verifier import Verifier
from streams.recovery.offsets import sequence_in

if TYPE_CHECKING:
    from collections.abc import Iterable

MANIFEST_FILE = "manifest.json"
SCHEMAS_FILE = "schemas.jsonl"


# ---------------------------------------------------------------- out
def export(session: Session, registry_url: str | None, folder: Path, at: Path | None) -> int:
    """Write the log into ``folder``, up to where it is now or to the positions of another export's manifest."""
    session.config.require_kafka()
    if folder.exists() and any(folder.iterdir()):
        raise Failed(f"{folder} is not empty", hint="give a folder that does not exist yet")
    log = Log(session.config.kafka, Codec(registry_of(session, registry_url)))
    topics = Topics(session.config.get("TOPIC_PREFIX"))
    wanted = None if at is None else _manifest_in(at).positions
    manifest = Exporter(log, topics, session.config.get("CLUSTER"), folder, wanted).run()
    records = sum(int(file["lines"]) for file in manifest.files.values())
    told = {"folder": str(folder), "records": records, "positions": manifest.positions}
    show_one(session.output, {**told, "redacted": len(manifest.redacted)}, ("folder", "records", "redacted"))
    return EXIT_OK


class Exporter:
    """Reads partition after partition; one of them is in memory at a time."""

    def __init__(
        self, log: Log, topics: Topics, cluster: str, folder: Path, wanted: Mapping[str, int] | None = None
    ) -> None:
        self._log, self._topics, self._cluster, self._folder = log, topics, cluster, folder
        self._wanted = wanted
        self._all_topics = log.topics()
        self._schemas = Schemas()
        self._tell, self._count = progress(is_terminal(), say), 0
        shards = log.aggregates(topics, self._all_topics)
        self._manifest = Manifest(FORMAT, cluster, shards, {}, {})

    def run(self) -> Manifest:
        """Write all files, the manifest last."""
        self._folder.mkdir(parents=True, exist_ok=True)
        manifest = self._manifest
        for name, position in sorted(self._positions().items()):
            aggregate, shard = of_place(name)
            if position:
                manifest.positions[name] = position
                self._events(aggregate, shard, position)
                self._outcomes(aggregate, shard, position)
        self._audit()
        manifest.files[SCHEMAS_FILE] = self._write(SCHEMAS_FILE, self._schemas.lines())
        manifest.redacted.sort()
        (self._folder / MANIFEST_FILE).write_bytes(manifest.encoded())
        return manifest

    def _positions(self) -> dict[str, int]:
        """Return up to which sequence each shard is exported: what its owner has committed by now."""
        spots = {
            (self._topics.commands(aggregate), shard): place(aggregate, shard)
            for aggregate, count in self._manifest.shards.items()
            for shard in range(count)
        }
        found = self._log.committed(f"{self._cluster}.worker", list(spots))
        committed = {spots[spot]: sequence_in(metadata) for spot, metadata in found.items()}
        if self._wanted is None:
            return committed
        for name, position in self._wanted.items():
            if committed.get(name, 0) < position:
                raise Failed(f"{name} has come to {committed.get(name, 0)} only, and {position} is asked for")
        return dict(self._wanted)

    def _events(self, aggregate: str, shard: int, position: int) -> None:
        def number(record: LogRecord) -> int | None:
            sequence = int((record.body.get("envelope") or {}).get("sequence", 0))
            return sequence if sequence <= position else None

        records = self._partition(self._topics.events(aggregate), shard, number)
        self._manifest.redacted += [one.key.decode() for one in records if "redacted" in one.headers]
        self._file(f"{aggregate}.events", shard, records)

    def _outcomes(self, aggregate: str, shard: int, position: int) -> None:
        def number(record: LogRecord) -> int | None:
            sequence = int(record.body.get("sequence", 0))
            return sequence if sequence <= position and "replayed" not in record.headers else None

        topic = self._topics.outcomes(aggregate)
        records = self._partition(topic, shard, number)
        if self._log.starts([(topic, shard)])[topic, shard] > 0 and records:
            self._manifest.firsts[place(aggregate, shard)] = int(records[0].body["sequence"])
        self._file(f"{aggregate}.outcomes", shard, records)

    def _audit(self) -> None:
        """Write the checkpoints over what is exported, after the keys that have signed them."""
        topic, positions = self._topics.named(AUDIT), self._manifest.positions
        signed: dict[int, set[str]] = {}

        def covered(record: LogRecord) -> int | None:
            body = record.body
            if record.name != CHECKPOINT or body["to"] > positions.get(
                place(body["aggregate"], body["shard"]), 0
            ):
                return None
            signed.setdefault(record.partition, set()).add(body["key_id"])
            return int(body["number"])

        for shard in range(self._all_topics.get(topic, 0)):
            found = list(self._log.partition(topic, shard))
            checkpoints = sorted(chosen(found, covered), key=lambda one: one.key)
            keys = chosen(found, partial(_of_keys, signed.get(shard, set())))
            if checkpoints:
                self._file(AUDIT, shard, [*sorted(keys, key=lambda one: one.key), *checkpoints])

    def _partition(
        self, topic: str, shard: int, number: "Callable[[LogRecord], int | None]"
    ) -> list[LogRecord]:
        return chosen(self._log.partition(topic, shard), number)

    def _file(self, topic: str, shard: int, records: "Iterable[LogRecord]") -> None:
        name = file_of(topic, shard)
        self._manifest.files[name] = self._write(name, self._lines(records))

    def _lines(self, records: "Iterable[LogRecord]") -> Iterator[bytes]:
        for record in records:
            self._schemas.note(record.value, self._log.codec)
            raw = RawRecord(record.key, record.value, list(record.headers.items()))
            try:
                yield line_of(raw, self._log.codec)
            except FlexcoreSchemaError as error:
                raise Failed(
                    f"{record.place} cannot be decoded: {error}", hint="flexcore event verify"
                ) from None
            self._count += 1
            self._tell(self._count)

    def _write(self, name: str, lines: "Iterable[bytes]") -> dict[str, int | str]:
        with (self._folder / name).open("wb") as out:

            def written() -> Iterator[bytes]:
                for line in lines:
                    out.write(line)
                    yield line

            return described(written())


def _of_keys(used: set[str], record: LogRecord) -> int | None:
    return 0 if record.name == AUDIT_KEY and record.body["key_id"] in used else None


# ---------------------------------------------------------------- in
def _manifest_in(path: Path) -> Manifest:
    file = path / MANIFEST_FILE if path.is_dir() else path
    try:
        return read_manifest(file.read_bytes())
    except (OSError, Unreadable) as error:
        raise Failed(f"{path} is no export: {error}") from None


class Export:
    """A folder that :func:`export` has written. What it is made of is checked against the manifest while it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _manifest_in(folder)
        try:
            self.schemas = Schemas.read((folder / SCHEMAS_FILE).read_bytes().splitlines(keepends=True))
        except (OSError, Unreadable) as error:
            raise Failed(f"{folder} is no whole export: {error}") from None
        self.codec = Codec(self.schemas)
        self.complaints: list[str] = []

    def files(self, kind: str) -> list[tuple[str, str, int]]:
        """Return file, topic and shard of all partitions of a kind: ``events``, ``outcomes`` or ``audit``."""
        named = [(file, *topic_of(file)) for file in self.manifest.files if file != SCHEMAS_FILE]
        return sorted(one for one in named if one[1].rpartition(".")[2] == kind)

    def raw(self, file: str) -> Iterator[tuple[int, RawRecord | None, str]]:
        """Yield the number of each line and its record; None and why, for a line that holds none."""
        with (self.folder / file).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield number, record_of(line, self.codec), ""
                except Unreadable as error:
                    yield number, None, str(error)

    def records(self, file: str, topic: str, shard: int) -> Iterator[LogRecord]:
        """Yield the records of a file; the number of its line stands for an offset."""
        for number, raw, error in self.raw(file):
            if raw is None:
                yield LogRecord(topic, shard, number, b"", b"", {}, error, {})
                continue
            name, body = self.codec.decode(raw.value)
            yield LogRecord(topic, shard, number, raw.key, raw.value, dict(raw.headers), name, body)

    def verify(self, trusted: Mapping[str, bytes] | None, evolve: Callable[..., object]) -> Verifier:
        """Check every law that holds without a broker, and every file against the manifest."""
        verifier = Verifier(evolve, self.manifest.shards, trusted)
        for file, topic, shard in self.files(AUDIT):
            for record in self.records(file, topic, shard):
                verifier.audit(record)
        verifier.arrange()
        for name, position in self.manifest.positions.items():
            verifier.promise(*of_place(name), position)
            if name in self.manifest.firsts:
                verifier.forgotten(*of_place(name))
        for kind, take in (("outcomes", verifier.outcome), ("events", verifier.event)):
            for file, topic, shard in self.files(kind):
                for record in self.records(file, topic, shard):
                    take(topic.rpartition(".")[0], record)
        verifier.judge(verifier.ceilings())
        self._compare()
        return verifier

    def _compare(self) -> None:
        for name, told in self.manifest.files.items():
            try:
                with (self.folder / name).open("rb") as lines:
                    if described(lines) != told:
                        self.complaints.append(f"{name} is not the file that the manifest describes")
            except OSError as error:
                self.complaints.append(f"{name} cannot be read: {error.strerror}")


def verify_export(session: Session, folder: Path, keys: Path | None) -> int:
    """Check an export with nothing but its folder, and the keys that are trusted."""
    from app.cli.proof import show, todays_fold

    found = Export(folder)
    verifier = found.verify(trusted_keys(keys), todays_fold())
    return show(session, verifier, found.complaints)
