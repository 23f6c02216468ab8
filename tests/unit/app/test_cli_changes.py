"""What differs between two documents: the narrowest place, by names where there are names."""

from typing import Any

import pytest

from app.cli.changes import changes


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", "1", "2")]),
        ({"a": 1}, {"b": "x"}, [("a", "1", ""), ("b", "", "x")]),
        ({"s": [{"name": "x", "n": 1}]}, {"s": [{"name": "y"}, {"name": "x", "n": 2}]},
         [("s[x].n", "1", "2"), ("s[y]", "", '{"name": "y"}')]),
        ({"t": [{"after": {"pipeline": "a"}}, {"event": {"name": "orders", "filter": "f"}}]},
         {"t": [{"event": {"name": "orders", "filter": "g"}}, {"after": {"pipeline": "b"}}]},
         [("t[after a]", '{"after": {"pipeline": "a"}}', ""), ("t[event orders].event.filter", "f", "g"),
          ("t[after b]", "", '{"after": {"pipeline": "b"}}')]),
        ({"t": [{"after": {"pipeline": "a"}}]}, {}, [("t", '[{"after": {"pipeline": "a"}}]', "")]),
        ({"s": [1, 2]}, {"s": [1]}, [("s", "[1, 2]", "[1]")]),
        ({"s": [{"name": "x"}, {"name": "x"}]}, {"s": []}, [("s", '[{"name": "x"}, {"name": "x"}]', "[]")]),
    ],
)  # fmt: skip
def test_only_what_differs_is_told(before: Any, after: Any, rows: list[tuple[str, str, str]]) -> None:
    """Path, before, after."""
    assert [(row["path"], row["before"], row["after"]) for row in changes(before, after)] == rows
