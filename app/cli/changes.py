"""What differs between two documents, by place: entries of lists are matched by what they are named by, where they are."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Change = dict[str, Any]


def changes(before: Any, after: Any, place: str = "") -> Iterator[Change]:
    """Yield ``path``, ``before`` and ``after`` of what differs, as JSON text; what is not there is ""."""
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        if before != after:
            yield {"path": place, "before": _text(before), "after": _text(after)}
        return
    for key in [*old, *(key for key in new if key not in old)]:
        path = f"{place}{key}" if key.startswith("[") or not place else f"{place}.{key}"
        if key not in old or key not in new:
            yield {
                "path": path,
                "before": _text(old[key]) if key in old else "",
                "after": _text(new[key]) if key in new else "",
            }
        else:
            yield from changes(old[key], new[key], path)


def _parts(value: Any) -> Mapping[str, Any] | None:
    """Return the entries of an object, or of a list whose entries bear names of their own; None for anything else."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        return None
    names = [_name(entry) for entry in value]
    if None in names or len(set(names)) < len(names):
        return None
    return {f"[{name}]": entry for name, entry in zip(names, value, strict=True)}


def _name(entry: Mapping[str, Any]) -> str | None:
    """Return an entry's own name; of a trigger its kind and what it listens to."""
    if len(entry) == 1:
        ((kind, block),) = entry.items()
        if isinstance(block, dict) and (name := block.get("name") or block.get("pipeline")):
            return f"{kind} {name}"
    return entry.get("name")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
