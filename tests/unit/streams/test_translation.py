"""From a decoded record to the dataclass of a command or event, whatever the dataclass does with its fields."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from streams.translation import Untranslatable, from_record


@dataclass(frozen=True, slots=True)
class Plain:
    a: int
    b: str = "b"


@dataclass(frozen=True, slots=True)
class Child(Plain):
    c: int = 3


@dataclass(frozen=True)
class Open:
    a: int
    b: str = "b"


@dataclass(frozen=True, slots=True)
class Checked:
    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("negative")


@dataclass(frozen=True, slots=True)
class Counted:
    a: int
    count: int = field(init=False, default=7)


@dataclass(frozen=True, slots=True)
class Empty:
    pass


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"a": 1, "b": "x"}, Plain(1, "x")),
        ({"b": "x", "a": 1}, Plain(1, "x")),
        ({"a": 1}, Plain(1)),
        ({"a": 1, "b": "x", "later": None}, Plain(1, "x")),
        ({"a": 1, "b": "x", "c": 4}, Child(1, "x", 4)),
        ({"a": 1, "b": "x"}, Open(1, "x")),
        ({"a": 1}, Checked(1)),
        ({"a": 1}, Counted(1)),
        ({}, Empty()),
        ({"later": None}, Empty()),
    ],
)
def test_fields_find_their_places(record: dict[str, Any], wanted: Any) -> None:
    """Given all fields, others in order, fewer or more, then the dataclass is as its constructor makes it, each time."""
    for _ in range(2):
        assert from_record(type(wanted), record) == wanted


def test_what_a_dataclass_checks_is_checked() -> None:
    """Given a dataclass with a check of its own, then it is asked."""
    with pytest.raises(ValueError, match="negative"):
        from_record(Checked, {"a": -1})


@pytest.mark.parametrize("record", [{}, {"b": "x"}])
def test_a_missing_field_is_named(record: dict[str, Any]) -> None:
    """Given a required field is not there, then the error names it."""
    with pytest.raises(Untranslatable, match="Plain needs the field `a`"):
        from_record(Plain, record)
