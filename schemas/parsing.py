"""Avro schema documents: checked, with full names; and one text for each, so that equal schemas are equal texts."""

import json
import re
from collections.abc import Mapping
from typing import Any

from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from schemas.errors import InvalidSchema, OrphanSchema

Schema = Any
"""A schema as JSON data: a name, a list (union) or an object."""

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
NAMED = frozenset({"record", "error", "enum", "fixed"})
REDACTABLE = "redactable"
_WORDS = frozenset({"doc", REDACTABLE})


def parse(schema: Schema, named: dict[str, Any] | None = None) -> Schema:
    """Return the schema with full names, checked, and ready for fastavro.

    ``named`` holds types defined elsewhere (full name -> parsed schema) and receives those defined here.

    Raises :class:`OrphanSchema` for a reference to an undefined name and :class:`InvalidSchema` for everything else.
    """
    try:
        parsed = parse_schema(bare(schema), named)
        _check(parsed)
        return parsed
    except UnknownType as error:
        raise OrphanSchema(
            f"the type `{error.name}` is not defined: define it here, or give it as a reference"
        ) from error
    except (SchemaParseException, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidSchema(f"not an Avro schema: {type(error).__name__}: {error}") from error


def parse_text(text: str, named: dict[str, Any] | None = None) -> Schema:
    """Return the parsed schema of a JSON text. Raises as :func:`parse` does."""
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidSchema(f"not an Avro schema: invalid JSON: {error}") from error
    return parse(document, named)


def bare(schema: Schema) -> Schema:
    """Return the schema without the marks that fastavro leaves, and without needless ``{"type": "string"}``."""
    if isinstance(schema, list):
        return [bare(branch) for branch in schema]
    if not isinstance(schema, Mapping):
        return schema
    if set(schema) == {"type"} and isinstance(schema["type"], str) and schema["type"] not in NAMED:
        return schema["type"]
    clean = {key: value for key, value in schema.items() if not key.startswith("__")}
    for key in ("type", "items", "values"):
        if key in clean:
            clean[key] = bare(clean[key])
    if isinstance(clean.get("fields"), list):
        clean["fields"] = [
            {**field, "type": bare(field["type"])}
            if isinstance(field, Mapping) and "type" in field
            else field
            for field in clean["fields"]
        ]
    return clean


def text_of(schema: Schema) -> str:
    """Return the schema as compact JSON, keys in the order of the document."""
    return json.dumps(bare(schema), separators=(",", ":"), ensure_ascii=False)


def canonical(schema: Schema) -> str:
    """Return one text for all spellings of a parsed schema; documentation, defaults and aliases count."""
    return json.dumps(bare(schema), separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def wordless(schema: Schema) -> Schema:
    """Return the schema without documentation and marks for redaction: what remains decides about bytes."""
    if isinstance(schema, list):
        return [wordless(part) for part in schema]
    if isinstance(schema, Mapping):
        return {
            key: part if key == "default" else wordless(part)
            for key, part in schema.items()
            if key not in _WORDS
        }
    return schema


def full_name(schema: Schema) -> str:
    """Return the name of a parsed named type, or the word for its kind (``union``, ``long``, ``array``)."""
    if isinstance(schema, str):
        return schema
    if isinstance(schema, list):
        return "union"
    return str(schema.get("name", schema["type"]))


def named_types(schema: Schema) -> dict[str, Any]:
    """Return every named type defined in a parsed schema, by full name."""
    found: dict[str, Any] = {}
    _collect(schema, found)
    return found


def _check(schema: Schema) -> None:
    """Refuse what fastavro lets pass and other languages' parsers do not."""
    if isinstance(schema, list):
        kinds = [full_name(branch) for branch in schema]
        if "union" in kinds or len(set(kinds)) < len(kinds):
            raise InvalidSchema(f"not an Avro schema: a union holds a union, or a type twice: {kinds}")
        for branch in schema:
            _check(branch)
    elif isinstance(schema, Mapping):
        names = [field["name"] for field in schema.get("fields", ())]
        if wrong := [name for name in names if not _NAME.fullmatch(name) or names.count(name) > 1]:
            raise InvalidSchema(
                f"not an Avro schema: {full_name(schema)} has bad or repeated field names: {wrong}"
            )
        for inner in [field["type"] for field in schema.get("fields", ())]:
            _check(inner)
        for key in ("items", "values"):
            if key in schema:
                _check(schema[key])


def _collect(schema: Schema, found: dict[str, Any]) -> None:
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, found)
    elif isinstance(schema, Mapping):
        kind = schema["type"]
        if kind in NAMED:
            found[schema["name"]] = schema
        if kind in ("record", "error"):
            for field in schema["fields"]:
                _collect(field["type"], found)
        elif kind == "array":
            _collect(schema["items"], found)
        elif kind == "map":
            _collect(schema["values"], found)
