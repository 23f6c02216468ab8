"""Avro's rules of schema resolution: who can read what whom has written, and what to change if not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.errors import Incompatible
from schemas.parsing import NAMED, Schema, full_name, named_types, parse

_WIDER: Mapping[str, frozenset[str]] = {
    "int": frozenset({"int", "long", "float", "double"}),
    "long": frozenset({"long", "float", "double"}),
    "float": frozenset({"float", "double"}),
    "string": frozenset({"string", "bytes"}),
    "bytes": frozenset({"bytes", "string"}),
}


class Mode(StrEnum):
    """What a new version must be to the earlier ones; without TRANSITIVE, to the newest of them only."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def transitive(self) -> bool:
        """All earlier versions count, not only the newest."""
        return self.name.endswith("TRANSITIVE")

    @property
    def backward(self) -> bool:
        """The new schema must read what the earlier ones wrote."""
        return self.name.startswith(("BACKWARD", "FULL"))

    @property
    def forward(self) -> bool:
        """The earlier schemas must read what the new one writes."""
        return self.name.startswith(("FORWARD", "FULL"))


@dataclass(frozen=True, slots=True)
class Break:
    """One place that cannot be read: ``path`` in the reader's schema, what is wrong, and how to mend it."""

    path: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}; {self.fix}"


def breaks(reader: Schema, writer: Schema) -> tuple[Break, ...]:
    """Return why ``reader`` cannot read records of ``writer``; nothing means it can read all of them."""
    read, written = parse(reader), parse(writer)
    return tuple(_Resolution(named_types(read), named_types(written)).walk(read, written, full_name(read)))


def broken(new: Schema, earlier: Sequence[Schema], mode: Mode) -> tuple[Break, ...]:
    """Return what ``mode`` forbids about ``new`` after ``earlier`` (oldest first)."""
    compared = earlier if mode.transitive else earlier[-1:]
    found: dict[Break, None] = {}
    for old in compared:
        if mode.backward:
            found.update(dict.fromkeys(breaks(new, old)))
        if mode.forward:
            found.update(dict.fromkeys(breaks(old, new)))
    return tuple(found)


def check(subject: str, new: Schema, earlier: Sequence[Schema], mode: Mode) -> None:
    """Raise :class:`Incompatible` when ``mode`` forbids ``new`` after ``earlier`` (oldest first)."""
    if found := broken(new, earlier, mode):
        reasons = "; ".join(str(one) for one in found)
        raise Incompatible(f"The schema breaks {mode} compatibility of {subject}: {reasons}")


class _Resolution:
    """One comparison. Recursive types end it where the same pair of names comes again."""

    def __init__(self, reader_types: Mapping[str, Any], writer_types: Mapping[str, Any]) -> None:
        self._reader_types = reader_types
        self._writer_types = writer_types
        self._begun: set[tuple[str, str]] = set()

    def walk(self, reader: Schema, writer: Schema, path: str) -> Iterator[Break]:
        reader = self._reader_types.get(reader, reader) if isinstance(reader, str) else reader
        writer = self._writer_types.get(writer, writer) if isinstance(writer, str) else writer
        if isinstance(writer, list):
            for branch in writer:
                yield from self.walk(reader, branch, path)
        elif isinstance(reader, list):
            yield from self._into_union(reader, writer, path)
        else:
            yield from self._single(reader, writer, path)

    def _into_union(self, reader: list[Schema], writer: Schema, path: str) -> Iterator[Break]:
        # A failed try must leave no trace, or a recursive type would pass in the next branch.
        before = set(self._begun)
        for branch in reader:
            self._begun = set(before)
            if not list(self.walk(branch, writer, path)):
                return
        self._begun = before
        name = full_name(writer)
        yield Break(path, f"the union has no branch for {name}", f"keep {name} in the union")

    def _single(self, reader: Schema, writer: Schema, path: str) -> Iterator[Break]:
        kind, written = _kind(reader), _kind(writer)
        if kind == written and kind in NAMED:
            yield from self._named(reader, writer, path)
        elif kind == written and kind in ("array", "map"):
            inner = "items" if kind == "array" else "values"
            yield from self.walk(reader[inner], writer[inner], f"{path}.{inner}")
        elif kind != written and kind not in _WIDER.get(written, ()):
            yield Break(
                path, f"{written} cannot be read as {kind}", f"keep {written}, or add a field of another name"
            )
        else:
            yield from _decimal(reader, writer, path)

    def _named(self, reader: Any, writer: Any, path: str) -> Iterator[Break]:
        name = writer["name"]
        if name != reader["name"] and name not in _aliases(reader):
            yield Break(
                path, f"{name} has become {reader['name']}", f"keep the name, or add the alias {name}"
            )
            return
        if (reader["name"], name) in self._begun:
            return
        self._begun.add((reader["name"], name))
        if reader["type"] == "enum":
            yield from _symbols(reader, writer, path)
        elif reader["type"] == "fixed":
            if reader["size"] != writer["size"]:
                yield Break(path, f"{writer['size']} bytes have become {reader['size']}", "keep the size")
            yield from _decimal(reader, writer, path)
        else:
            yield from self._fields(reader, writer, path)

    def _fields(self, reader: Any, writer: Any, path: str) -> Iterator[Break]:
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            place = f"{path}.{field['name']}"
            names = [field["name"], *field.get("aliases", ())]
            source = next((written[name] for name in names if name in written), None)
            if source is not None:
                yield from self.walk(field["type"], source["type"], place)
            elif "default" not in field:
                yield Break(
                    place, "records without this field exist and it has no default", "give it a default"
                )


def _kind(schema: Schema) -> str:
    kind = schema if isinstance(schema, str) else schema["type"]
    if not isinstance(kind, str):
        return _kind(kind)
    return "record" if kind == "error" else kind


def _aliases(schema: Any) -> set[str]:
    namespace = schema["name"].rpartition(".")[0]
    return {
        alias if "." in alias or not namespace else f"{namespace}.{alias}"
        for alias in schema.get("aliases", ())
    }


def _symbols(reader: Any, writer: Any, path: str) -> Iterator[Break]:
    gone = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if gone and "default" not in reader:
        yield Break(path, f"the symbols {', '.join(gone)} are gone", "keep them, or give the enum a default")


def _decimal(reader: Schema, writer: Schema, path: str) -> Iterator[Break]:
    sides = [side if isinstance(side, Mapping) else {} for side in (reader, writer)]
    if all(side.get("logicalType") == "decimal" for side in sides):
        shapes = [(side.get("precision"), side.get("scale", 0)) for side in sides]
        if shapes[0] != shapes[1]:
            yield Break(path, f"decimal{shapes[1]} has become decimal{shapes[0]}", "keep precision and scale")
