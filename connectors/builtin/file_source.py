"""Reading CSV and JSON Lines files."""

import csv
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson

from connectors.sdk.errors import BadOutput, InvalidSpec
from connectors.sdk.record import SourceItem, SourceRecord, State, StreamSchema
from connectors.sdk.schema import ObservedSchema

_FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_REMEMBERED_MAX = 20_000
_KEYS = ("path", "format", "stream", "primary_key", "replication_key", "delimiter", "encoding")


@dataclass(frozen=True, slots=True)
class FileConfig:
    """What to read: ``path`` may hold wildcards; ``replication_key`` names the field by which rows are newer."""

    path: str
    format: str
    stream: str
    primary_key: tuple[str, ...]
    replication_key: str | None
    delimiter: str
    encoding: str

    @staticmethod
    def parse(config: Mapping[str, Any]) -> "FileConfig":
        """Raise InvalidSpec for a setting that is missing, unknown, or means nothing."""
        unknown = sorted(set(config) - set(_KEYS))
        if unknown:
            raise InvalidSpec(f"source file does not know {unknown[0]!r}; it knows {', '.join(_KEYS)}")
        path = config.get("path")
        if not isinstance(path, str) or not path:
            raise InvalidSpec("source file needs path: the file to read, or a pattern like data/*.jsonl")
        kind = config.get("format") or _FORMATS.get(Path(path).suffix.lower())
        if kind not in {"csv", "jsonl"}:
            raise InvalidSpec(f"source file cannot tell what {path} is: add format: csv or format: jsonl")
        keys = config.get("primary_key", ())
        return FileConfig(
            path=path,
            format=kind,
            stream=config.get("stream") or Path(path.replace("*", "")).stem.strip("-_.") or "file",
            primary_key=(keys,) if isinstance(keys, str) else tuple(keys),
            replication_key=config.get("replication_key"),
            delimiter=config.get("delimiter", ","),
            encoding=config.get("encoding", "utf-8"),
        )


class FileSource:
    """Reads files of one format as one stream.

    With ``replication_key``: rows whose value there is not below the greatest one seen; rows that were seen with
    exactly that value are left out. Without: everything, unless every file is byte for byte what it was. The state is
    yielded at the end, because rows may be in any order.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        self._config = FileConfig.parse(config)
        self._folder = folder

    def read(self, bookmark: Any | None) -> Iterator[SourceItem]:
        """Yield the schema, the rows, the schema as learned, and the state."""
        config, known = self._config, bookmark or {}
        files = self._files()
        digests = {str(path): _digest(path) for path in files}
        observed = ObservedSchema(known.get("schema"), keep=True)
        yield StreamSchema(config.stream, observed.schema(), config.primary_key)
        if digests == known.get("files"):
            yield State(known)
            return
        newest = _Newest(config.replication_key, known.get("newest"))
        for path in files:
            for row in self._rows(path):
                observed.see(row)
                if newest.wants(row, path):
                    yield SourceRecord(config.stream, row)
        yield StreamSchema(config.stream, observed.schema(), config.primary_key)
        yield State({"files": digests, "schema": observed.schema(), "newest": newest.state()})

    def close(self) -> None:
        """Nothing stays open between rows of different files."""

    def _files(self) -> list[Path]:
        path = Path(self._config.path)
        base, pattern = (
            (Path(path.anchor), str(path.relative_to(path.anchor)))
            if path.anchor
            else (self._folder, str(path))
        )
        found = sorted(file for file in base.glob(pattern) if file.is_file())
        if not found:
            raise InvalidSpec(f"source file finds no file {self._config.path} (looked in {base})")
        return found

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        if self._config.format == "csv":
            with path.open(encoding=self._config.encoding, newline="") as text:
                yield from _csv_rows(text, path, self._config.delimiter)
        else:
            with path.open("rb") as lines:
                yield from _json_rows(lines, path)


class _Newest:
    """Which rows are new by the replication key, and what has been seen of the newest value."""

    def __init__(self, key: str | None, state: Mapping[str, Any] | None) -> None:
        self._key = key
        state = state if state is not None and state.get("key") == key else {}
        self._floor: Any = state.get("value")
        self._at_floor = frozenset(state.get("rows", ()))
        self._greatest: Any = self._floor
        self._at_greatest: set[str] = set(self._at_floor)

    def wants(self, row: Mapping[str, Any], path: Path) -> bool:
        if self._key is None:
            return True
        value = row.get(self._key)
        if value is None:
            raise BadOutput(
                f"a row of {path} has no {self._key!r}, its replication_key: {orjson.dumps(row)[:200]!r}"
            )
        try:
            if self._floor is not None and value < self._floor:
                return False
            if self._greatest is None or value > self._greatest:
                self._greatest, self._at_greatest = value, set()
        except TypeError as error:
            raise BadOutput(f"values of {self._key!r} in {path} cannot be compared: {error}") from error
        if value not in (self._greatest, self._floor):
            return True
        seen = hashlib.blake2b(orjson.dumps(row, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
        if value == self._greatest and len(self._at_greatest) < _REMEMBERED_MAX:
            self._at_greatest.add(seen)
        return value != self._floor or seen not in self._at_floor

    def state(self) -> dict[str, Any] | None:
        if self._key is None:
            return None
        return {"key": self._key, "value": self._greatest, "rows": sorted(self._at_greatest)}


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _csv_rows(text: TextIO, path: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    reader = csv.reader(text, delimiter=delimiter)
    header = next(reader, None)
    if header is None:
        return
    try:
        for row in reader:
            if len(row) != len(header):
                if not row:
                    continue
                raise BadOutput(
                    f"line {reader.line_num} of {path} has {len(row)} fields; its header has {len(header)}"
                )
            yield dict(zip(header, row, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadOutput(f"line {reader.line_num + 1} of {path} is not CSV: {error}") from error


def _json_rows(lines: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadOutput(f"line {number} of {path} is not JSON ({error}): {line[:200]!r}") from error
        if not isinstance(row, dict):
            raise BadOutput(f"line {number} of {path} is no JSON object: {line[:200]!r}")
        yield row
