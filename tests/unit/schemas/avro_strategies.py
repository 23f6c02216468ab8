"""Random Avro schemas with records of them, and schemas with an evolution, for Hypothesis."""

from typing import Any

from hypothesis import strategies as st

PRIMITIVE: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=40) | st.text("x", min_size=500, max_size=3000),
    "bytes": st.binary(max_size=40),
    "long": st.integers(-(1 << 63), (1 << 63) - 1)
    | st.integers(-3, 3000)
    | st.sampled_from([1 << 20, 1 << 34, -(1 << 48)]),
    "int": st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-3, 3000),
    "boolean": st.booleans(),
    "double": st.floats(allow_nan=False),
    "float": st.floats(allow_nan=False, width=32),
}


def types(depth: int = 2) -> st.SearchStrategy[Any]:
    """Schemas of what the compiled codec covers; records have no names yet."""
    leaf = st.sampled_from(sorted(PRIMITIVE))
    if depth == 0:
        return leaf
    inner = types(depth - 1)
    optional = inner.filter(lambda one: not isinstance(one, list)).map(lambda one: ["null", one])
    array = inner.map(lambda one: {"type": "array", "items": one})
    mapping = inner.map(lambda one: {"type": "map", "values": one})
    return st.one_of(leaf, leaf, optional, array, mapping, records(depth - 1))


def records(depth: int = 2) -> st.SearchStrategy[Any]:
    """Record schemas with one to five fields."""
    return st.lists(types(depth), min_size=1, max_size=5).map(
        lambda kinds: {
            "type": "record",
            "fields": [{"name": f"f{i}", "type": kind} for i, kind in enumerate(kinds)],
        }
    )


def named(schema: Any, path: str = "R") -> Any:
    """The schema with a name of its own for every record."""
    if isinstance(schema, list):
        return [named(branch, path) for branch in schema]
    if isinstance(schema, str):
        return schema
    if schema["type"] == "record":
        fields = [
            {**field, "type": named(field["type"], f"{path}{i}")} for i, field in enumerate(schema["fields"])
        ]
        return {"type": "record", "name": path, "fields": fields}
    inner = "items" if schema["type"] == "array" else "values"
    return {**schema, inner: named(schema[inner], path)}


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Values of a schema."""
    if isinstance(schema, list):
        return st.one_of(*(values(branch) for branch in schema))
    if schema == "null":
        return st.none()
    if isinstance(schema, str):
        return PRIMITIVE[schema]
    if schema["type"] == "array":
        return st.lists(values(schema["items"]), max_size=4)
    if schema["type"] == "map":
        return st.dictionaries(st.text(max_size=8), values(schema["values"]), max_size=4)
    return st.fixed_dictionaries({field["name"]: values(field["type"]) for field in schema["fields"]})


@st.composite
def schemas_with_records(draw: st.DrawFn) -> tuple[Any, Any]:
    """A record schema and a record of it."""
    schema = named(draw(records()))
    return schema, draw(values(schema))


DEFAULTS: dict[str, Any] = {
    "string": "", "bytes": "", "long": 0, "int": 0, "boolean": False, "double": 0.0, "float": 0.0,
}  # fmt: skip


@st.composite
def evolutions(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """A record schema, a record of it, and a second schema made from the first by some edits, safe ones or not."""
    old = named(draw(records(1)))
    fields = [dict(field) for field in old["fields"]]
    for number in range(draw(st.integers(1, 3))):
        edit = draw(st.sampled_from(["drop", "add", "default", "retype", "wrap", "widen"]))
        at = draw(st.integers(0, max(0, len(fields) - 1)))
        if edit == "add":
            fields.insert(at, {"name": f"n{number}", "type": draw(st.sampled_from(sorted(PRIMITIVE)))})
        elif edit == "default":
            kind = draw(st.sampled_from(sorted(PRIMITIVE)))
            fields.insert(at, {"name": f"d{number}", "type": kind, "default": DEFAULTS[kind]})
        elif not fields:
            continue
        elif edit == "drop":
            fields.pop(at)
        elif edit == "retype":
            fields[at] = {"name": fields[at]["name"], "type": draw(st.sampled_from(sorted(PRIMITIVE)))}
        elif edit == "wrap" and not isinstance(fields[at]["type"], list):
            fields[at] = {"name": fields[at]["name"], "type": ["null", fields[at]["type"]]}
        elif edit == "widen" and fields[at]["type"] in ("int", "long", "float"):
            fields[at] = {"name": fields[at]["name"], "type": "double"}
    return old, draw(values(old)), {**old, "fields": fields}
