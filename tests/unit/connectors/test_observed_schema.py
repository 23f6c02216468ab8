"""Schemas learned from records."""

from connectors.builtin.postgres_table import column_type, columns_of
from connectors.sdk.schema import ObservedSchema


def test_types_add_up() -> None:
    """A field has every type it was seen with, and may always be null."""
    observed = ObservedSchema()
    observed.see({"a": 1, "b": "x", "c": True})
    observed.see({"a": 1.5, "b": None, "d": {"x": 1}})
    assert observed.schema() == {
        "type": "object",
        "properties": {
            "a": {"type": ["integer", "number", "null"]},
            "b": {"type": ["string", "null"]},
            "c": {"type": ["boolean", "null"]},
            "d": {"type": ["object", "null"]},
        },
    }


def test_a_format_stays_while_all_texts_fit() -> None:
    """A date that became free text is no date column any more."""
    known = {
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "on": {"type": "string", "format": "date"},
        }
    }
    observed = ObservedSchema(known)
    observed.see({"at": "2026-01-01T00:00:00Z", "on": "soon"})
    assert observed.schema()["properties"] == {
        "at": {"type": ["string", "null"], "format": "date-time"},
        "on": {"type": ["string", "null"]},
    }


def test_fields_of_before_are_kept_when_asked() -> None:
    """What an earlier run learned is part of the schema even if no record has it now."""
    known = {"properties": {"a": {"type": ["integer", "null"]}}}
    assert ObservedSchema(known, keep=True).schema()["properties"] == {"a": {"type": ["integer", "null"]}}
    assert ObservedSchema(known).schema()["properties"] == {}


def test_columns_follow_from_json_types() -> None:
    """Scalars become scalar columns, everything else jsonb, and a mixture text."""
    assert columns_of({"properties": {"a": {"type": "integer"}, "b": {"type": ["null", "object"]}}}) == {
        "a": "bigint",
        "b": "jsonb",
    }
    assert column_type({"type": ["integer", "number", "null"]}) == "numeric"
    assert column_type({"type": ["string", "integer"]}) == "text"
    assert column_type({"type": "string", "format": "date-time"}) == "timestamptz"
    assert column_type({"type": ["boolean"]}) == "boolean"
    assert column_type({"type": ["null"]}) == "text"
    assert column_type({"anyOf": [{"type": "integer"}, {"type": "null"}]}) == "bigint"
    assert column_type({}) == "text"
