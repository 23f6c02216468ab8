"""Values as PostgreSQL array literals: quoting is exact, JSON is total."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, BigInteger, Column, LargeBinary, Text

from streams.agents.projection_literals import clean, dump_json, literal_of

_TEXT = literal_of(Column("t", Text))


def elements(literal: str) -> list[str | None]:
    """Read an array literal as PostgreSQL does: quoted parts with backslash escapes, or NULL."""
    found: list[str | None] = []
    place = 1
    while place < len(literal) - 1:
        if literal.startswith("NULL", place):
            found.append(None)
            place += 4
        else:
            place, part = place + 1, []
            while literal[place] != '"':
                place += literal[place] == "\\"
                part.append(literal[place])
                place += 1
            found.append("".join(part))
            place += 1
        place += 1
    return found


@given(st.lists(st.none() | st.text()))
def test_any_text_comes_back_as_it_was(values: list[str | None]) -> None:
    """Quotes, backslashes, braces, commas, the word NULL; only a NUL character is replaced."""
    assert elements(_TEXT(values)) == [None if value is None else clean(value) for value in values]


def test_numbers_bytes_and_json_have_their_forms() -> None:
    """As PostgreSQL reads them in arrays."""
    assert literal_of(Column("n", BigInteger))([1, None, -3]) == "{1,NULL,-3}"
    assert elements(literal_of(Column("b", LargeBinary))([b"\x00\xff", None])) == ["\\x00ff", None]
    assert elements(literal_of(Column("j", JSON))([{"a": 'x"y'}, None])) == ['{"a":"x\\"y"}', None]


def test_json_is_written_whatever_the_value() -> None:
    """Integers beyond 64 bits stay exact, what JSON does not know becomes text, NaN becomes null."""
    huge = 123456789012345678901234567890
    assert json.loads(dump_json({"n": huge})) == {"n": huge}
    assert json.loads(dump_json({"x": math.nan, "e": ValueError("no")})) == {"x": None, "e": "no"}
    assert dump_json({"b": 1, "a": 2}) == '{"b":1,"a":2}'


def test_a_nul_is_replaced() -> None:
    """PostgreSQL's text cannot hold it."""
    assert clean("a\0b") == "a\ufffdb"
    assert clean("ab") == "ab"
