"""Learning the schema of records that nobody declared, from the records themselves."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
    list: "array",
    tuple: "array",
    dict: "object",
    dt.datetime: "string",
    dt.date: "string",
    dt.time: "string",
}
_ORDER = ("boolean", "integer", "number", "string", "array", "object", "null")


class ObservedSchema:
    """A JSON schema that grows with the records seen; every field may be null.

    ``known`` (a JSON schema) says what is known before: a field's ``format`` is kept while all its texts fit.
    """

    def __init__(self, known: Mapping[str, Any] | None = None, keep: bool = False) -> None:
        """With ``keep`` the fields of ``known`` are part of the result even if no record has them."""
        properties: Mapping[str, Any] = (known or {}).get("properties", {})
        self._types: dict[str, set[str]] = {}
        self._seen: set[tuple[str, type]] = set()
        self._formats = {
            name: spec["format"]
            for name, spec in properties.items()
            if isinstance(spec, Mapping) and spec.get("format") in _READERS
        }
        self._order = list(properties)
        if keep:
            for name, spec in properties.items():
                self._types[name] = set(_types_of(spec))

    def see(self, data: Mapping[str, Any]) -> None:
        """Learn from one record."""
        for name, value in data.items():
            kind = (name, value.__class__)
            if kind not in self._seen:
                self._seen.add(kind)
                self._types.setdefault(name, set()).add(_TYPES.get(value.__class__, "string"))
                if name not in self._order:
                    self._order.append(name)
        for name in list(self._formats):
            value = data.get(name)
            if isinstance(value, str) and not _fits(self._formats[name], value):
                del self._formats[name]

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of everything seen so far."""
        properties: dict[str, Any] = {}
        for name in self._order:
            if name not in self._types:
                continue
            types = self._types[name] | {"null"}
            spec: dict[str, Any] = {"type": [known for known in _ORDER if known in types]}
            if name in self._formats and "string" in types:
                spec["format"] = self._formats[name]
            properties[name] = spec
        return {"type": "object", "properties": properties}


_READERS = {
    "date-time": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
}


def _fits(form: str, value: str) -> bool:
    try:
        _READERS[form](value)
    except ValueError:
        return False
    return True


def _types_of(spec: Any) -> list[str]:
    declared = spec.get("type", []) if isinstance(spec, Mapping) else []
    return [declared] if isinstance(declared, str) else [name for name in declared if name in _ORDER]
