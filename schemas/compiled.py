"""Encoders and decoders written for one schema: several times less work per record than walking the schema each time.

Covered: records, arrays, maps, ``["null", X]`` and all primitive types, as long as no type contains itself. For
everything else the functions here return None, and the general way (fastavro) is taken. Bytes are the same either way.
"""

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import groupby
from typing import Any

from librt.strings import BytesWriter

from schemas import numbers, rows
from schemas.parsing import Schema, named_types

Encode = Callable[[dict[str, Any]], bytes]
EncodeEvent = Callable[[BytesWriter, Any], None]
Decode = Callable[[bytes], dict[str, Any]]
Without = Mapping[str, frozenset[str]]
EVERYTHING: Without = {}


class _Unsupported(Exception):
    """The schema needs the general way."""


# ---------------------------------------------------------------- writing the functions
class _Source:
    """Lines of a function under construction, and names for its variables."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.indent = 1
        self._names = 0

    def name(self) -> str:
        self._names += 1
        return f"v{self._names}"

    def add(self, *lines: str) -> None:
        self.lines.extend("    " * self.indent + line for line in lines)

    def function(self, head: str, names: dict[str, Any]) -> Any:
        """Compile the lines and return the function."""
        scope = dict(names)
        text = "\n".join([f"def {head}:", *self.lines])
        exec(compile(text, "<avro>", "exec"), scope)  # noqa: S102  # the text holds only quoted names from the schema
        return scope[head.partition("(")[0]]


def encoder(schema: Schema, prefix: bytes) -> Encode | None:
    """Return the function that encodes a record after ``prefix``, or None when the schema is not covered.

    It raises for a missing field (defaults are not looked at) and for a value of a wrong type; which exception says
    nothing to a person: ask the general way for a better one.
    """
    source = _Source()
    try:
        parts = _encode(source, _acyclic(schema), "record")
    except _Unsupported:
        return None
    source.add(f"return join(({prefix!r}, {', '.join(parts)}))")
    made: Encode = source.function("encode(record)", _ENCODING)
    return made


def event_encoder(schema: Schema) -> EncodeEvent | None:
    """Return the function that appends an object's attributes as the fields of ``schema`` but its first, the envelope;
    half of them, if it raises. Otherwise as :func:`encoder`.
    """
    source = _Source()
    source.add("write = out.write")
    try:
        for field in _acyclic(schema)["fields"][1:]:
            value = f"event.{field['name']}"
            if _kind(field["type"]) == "long":
                source.add(f"put_long(out, {value})")
                continue
            for part in _encode_field(source, field["type"], value):
                source.add(f"write({part})")
    except _Unsupported:
        return None
    made: EncodeEvent = source.function("encode(out, event)", _ENCODING)
    return made


_ENCODING = {
    "join": b"".join,
    "size": numbers.LENGTHS,
    "long": numbers.zigzag,
    "put_long": numbers.put_long,
    "int_": numbers.zigzag_int,
    "boolean": numbers.boolean,
    "double": struct.Struct("<d").pack,
    "float_": struct.Struct("<f").pack,
}
_ENCODED = {
    "long": "long({})",
    "int": "int_({})",
    "boolean": "boolean({})",
    "double": "double({})",
    "float": "float_({})",
}


def _encode(source: _Source, schema: Schema, value: str) -> list[str]:
    """Add the statements that prepare ``value``; return the expressions of its bytes, in order."""
    kind = _kind(schema)
    if kind in _ENCODED:
        return [_ENCODED[kind].format(value)]
    if kind in ("string", "bytes"):
        name = source.name()
        source.add(f"{name} = {value}.encode()" if kind == "string" else f"{name} = {value}")
        return [f"size[len({name})]", name]
    if kind == "union":
        return _encode_optional(source, schema[1], value)
    if kind in ("array", "map"):
        return _encode_block(source, schema, kind, value)
    parts = []
    for field in schema["fields"]:
        parts += _encode_field(source, field["type"], f"{value}[{field['name']!r}]")
    return parts or ["b''"]


def _encode_field(source: _Source, schema: Schema, value: str) -> list[str]:
    if _kind(schema) not in ("record", "union", "array", "map"):
        return _encode(source, schema, value)
    name = source.name()
    source.add(f"{name} = {value}")
    return _encode(source, schema, name)


def _encode_optional(source: _Source, schema: Schema, value: str) -> list[str]:
    name = source.name()
    source.add(f"if {value} is None:", f"    {name} = b'\\0'", "else:")
    source.indent += 1
    parts = _encode(source, schema, value)
    source.add(f"{name} = b'\\2' + {' + '.join(parts)}")
    source.indent -= 1
    return [name]


def _encode_block(source: _Source, schema: Any, kind: str, value: str) -> list[str]:
    name, item = source.name(), source.name()
    source.add(f"{name} = [size[len({value})]]", f"if len({value}):")
    source.indent += 1
    if kind == "map":
        key = source.name()
        source.add(f"for {key}, {item} in {value}.items():")
        source.indent += 1
        parts = [*_encode(source, "string", key), *_encode(source, schema["values"], item)]
    else:
        source.add(f"for {item} in {value}:")
        source.indent += 1
        parts = _encode(source, schema["items"], item)
    source.add(f"{name} += ({', '.join(parts)},)")
    source.indent -= 1
    source.add(f"{name}.append(b'\\0')")
    source.indent -= 1
    return [f"join({name})"]


def decoder(schema: Schema, begin: int, without: Without = EVERYTHING) -> Decode | None:
    """Return the function that decodes the record at ``begin`` to the end of the data, or None when not covered.

    The fields named in ``without`` (of records by full name, at any depth) are passed over and left out.
    It raises IndexError or ValueError for bytes that are no such record, leftovers included.
    """
    source = _Source()
    source.add(f"i = {begin}")
    try:
        result = _decode(source, _acyclic(schema), without)
    except _Unsupported:
        return None
    source.add(
        "if i != len(d):",
        "    raise ValueError(f'the record ends at byte {i} of {len(d)}')",
        f"return {result}",
    )
    names = {
        "count": numbers.count,
        "no_branch": numbers.no_branch,
        "read_row": rows.read_row,
        "double": struct.Struct("<d").unpack_from,
        "float_": struct.Struct("<f").unpack_from,
    }
    made: Decode = source.function("decode(d)", names)
    return made


def _decode(source: _Source, schema: Schema, without: Without = EVERYTHING) -> str:
    """Add the statements that read a value at ``i`` and move on; return the expression of the value."""
    kind = _kind(schema)
    if kind == "record":
        unread = without.get(schema["name"], ())
        fields = []
        for simple, row in groupby(schema["fields"], lambda field: _simple(field["type"]) is not None):
            if simple:
                fields += _decode_row(source, list(row), unread)
                continue
            for field in row:
                value = _decode(source, field["type"], without)
                fields += [] if field["name"] in unread else [(field["name"], value)]
        return "{" + ", ".join(f"{name!r}: {value}" for name, value in fields) + "}"
    name = source.name()
    if (known := _simple(schema)) is not None:
        source.add(f"{name}, i = read_row(d, i, {bytes([known])!r})")
    elif kind in ("double", "float"):
        unpack, size = ("double", 8) if kind == "double" else ("float_", 4)
        source.add(f"if i + {size} > len(d):", "    raise IndexError('the record is cut off')")
        source.add(f"{name}, = {unpack}(d, i)", f"i += {size}")
    elif kind == "union":
        _decode_optional(source, schema[1], name)
    else:
        _decode_blocks(source, schema, kind, name)
    return name


def _decode_row(source: _Source, row: Any, unread: Collection[str]) -> list[tuple[str, str]]:
    """Add the statement that reads fields of simple types; return the names and expressions of those that are read."""
    kinds = bytes(
        (_simple(field["type"]) or 0) | (rows.LEFT_OUT if field["name"] in unread else 0) for field in row
    )
    read = [(field["name"], source.name()) for field in row if field["name"] not in unread]
    source.add(f"{''.join(f'{value}, ' for _, value in read)}i, = read_row(d, i, {kinds!r})")
    return read


def _simple(schema: Schema) -> int | None:
    """Return the kind of a value as :mod:`schemas.rows` knows it, if it does."""
    kind = _kind(schema)
    if kind == "union":
        inner = _simple(schema[1])
        return None if inner is None or inner & rows.OPTIONAL else inner | rows.OPTIONAL
    return _SIMPLE.get(kind)


_SIMPLE = {
    "bytes": rows.BYTES,
    "long": rows.NUMBER,
    "int": rows.NUMBER,
    "boolean": rows.BOOLEAN,
    "string": rows.TEXT,
}


def _decode_optional(source: _Source, schema: Schema, name: str) -> None:
    source.add("n = d[i]", "i += 1", "if n == 0:", f"    {name} = None", "elif n == 2:")
    source.indent += 1
    source.add(f"{name} = {_decode(source, schema)}")
    source.indent -= 1
    source.add("else:", "    no_branch(n)")


def _decode_blocks(source: _Source, schema: Any, kind: str, name: str) -> None:
    left = source.name()
    source.add(f"{name} = {'{}' if kind == 'map' else '[]'}", f"{left}, i = count(d, i)", f"while {left}:")
    source.indent += 1
    source.add(f"for {left} in range({left}):")
    source.indent += 1
    if kind == "map":
        key = _decode(source, "string")
        source.add(f"{name}[{key}] = {_decode(source, schema['values'])}")
    else:
        source.add(f"{name}.append({_decode(source, schema['items'])})")
    source.indent -= 1
    source.add(f"{left}, i = count(d, i)")
    source.indent -= 1


# ---------------------------------------------------------------- what is covered
_COVERED = frozenset(
    {"long", "int", "string", "bytes", "boolean", "double", "float", "record", "array", "map"}
)


def _kind(schema: Schema) -> str:
    if isinstance(schema, list):
        if len(schema) == 2 and schema[0] == "null" and schema[1] != "null":
            return "union"
        raise _Unsupported
    if isinstance(schema, str):
        kind: Any = schema
    elif "logicalType" in schema:
        raise _Unsupported
    else:
        kind = schema["type"]
    if kind not in _COVERED:
        raise _Unsupported
    return str(kind)


def _acyclic(schema: Schema) -> Schema:
    """Return the record with every mention replaced by its definition."""
    if is_recursive(schema) or (isinstance(schema, str | list)) or schema["type"] != "record":
        raise _Unsupported
    return _spelt_out(schema, named_types(schema))


def _spelt_out(schema: Schema, types: dict[str, Any]) -> Schema:
    if isinstance(schema, str):
        return _spelt_out(types[schema], types) if schema in types else schema
    if isinstance(schema, list):
        return [_spelt_out(branch, types) for branch in schema]
    spelt = dict(schema)
    if schema["type"] == "record":
        spelt["fields"] = [{**field, "type": _spelt_out(field["type"], types)} for field in schema["fields"]]
    for inner in _inner(schema):
        spelt[inner] = _spelt_out(schema[inner], types)
    return spelt


def _inner(schema: Any) -> Iterable[str]:
    return {"array": ("items",), "map": ("values",)}.get(
        schema["type"] if isinstance(schema["type"], str) else "", ()
    )


def is_recursive(schema: Schema) -> bool:
    """Tell whether a type contains itself: data of such a type can nest as deep as it is long."""
    return _recurs(schema, named_types(schema), frozenset())


def _recurs(schema: Schema, types: dict[str, Any], around: frozenset[str]) -> bool:
    if isinstance(schema, str):
        return schema in around or (schema in types and _recurs(types[schema], types, around))
    if isinstance(schema, list):
        return any(_recurs(branch, types, around) for branch in schema)
    if schema["type"] in ("record", "error"):
        return any(_recurs(field["type"], types, around | {schema["name"]}) for field in schema["fields"])
    return any(_recurs(schema[inner], types, around) for inner in _inner(schema))


def repeats_nothing(schema: Schema) -> bool:
    """Tell whether an array's items may take no bytes: a few bytes could then announce any number of items."""
    types = named_types(schema)
    return any(_empty(one["items"], types) for one in _arrays(schema))


def _arrays(schema: Schema) -> Iterable[Any]:
    if isinstance(schema, list):
        for branch in schema:
            yield from _arrays(branch)
    elif isinstance(schema, dict):
        if schema["type"] == "array":
            yield schema
        for field in schema.get("fields", ()):
            yield from _arrays(field["type"])
        for inner in _inner(schema):
            yield from _arrays(schema[inner])


def _empty(schema: Schema, types: dict[str, Any]) -> bool:
    if isinstance(schema, str):
        return schema == "null" or (schema in types and _empty(types[schema], types))
    if isinstance(schema, list):
        return False
    if schema["type"] in ("record", "error"):
        return all(_empty(field["type"], types) for field in schema["fields"])
    return bool(schema["type"] == "null" or (schema["type"] == "fixed" and schema["size"] == 0))
