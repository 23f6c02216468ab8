"""The records that have been released: every version of every schema, with bytes that were written by it.

``released/records.jsonl`` holds one line for each: name, schema (complete in itself), a record, its framed bytes (hex,
schema id 1). Lines are added, never changed: the bytes they hold may lie in somebody's topic.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.parsing import Schema, bare, full_name, parse, wordless
from schemas.registry import MemoryRegistry

FILE = Path(__file__).parent / "released" / "records.jsonl"


class Release(NamedTuple):
    """One version of one record."""

    name: str
    schema: Schema
    record: dict[str, Any]
    data: bytes


@cache
def catalogue() -> Catalogue:
    """The committed schemas, read once."""
    return Catalogue.load()


@cache
def released() -> list[Release]:
    """All versions, oldest first."""
    lines = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [
        Release(line["name"], parse(line["schema"]), line["record"], bytes.fromhex(line["hex"]))
        for line in lines
    ]


def line_for(schema: Schema) -> str:
    """The line to add for a schema that is new or has changed."""
    record = sample(schema, "")
    data = Codec(MemoryRegistry()).encoder("released", schema)(record)
    line = {"name": full_name(schema), "schema": wordless(bare(schema)), "record": record, "hex": data.hex()}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def sample(schema: Schema, name: str) -> Any:
    """A value of a schema in which every field differs from its neighbours and from its default."""
    if isinstance(schema, list):
        return sample(schema[-1], name)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        fields = [(field["name"], field["type"], field.get("default")) for field in schema["fields"]]
        return {
            name: default is not True if kind == "boolean" else sample(kind, name)
            for name, kind, default in fields
        }
    if kind == "map":
        return {f"{name}-é": sample(schema["values"], name)}
    if kind == "array":
        return [sample(schema["items"], name)]
    number = sum(name.encode())
    return {
        "string": f"{name} ✓",
        "long": number << 30,
        "int": -number,
        "boolean": True,
        "double": number / 8,
    }[kind]
