"""Rows of Avro values of simple types, read at one go: what most of a record is.

A kind is one of BYTES, NUMBER, BOOLEAN and TEXT; with OPTIONAL if it is a union of null and that; with LEFT_OUT if it is only
passed over.
"""

from typing import Any, Final

from schemas.numbers import no_branch, odd, rest

BOOLEAN: Final = 0
NUMBER: Final = 1  # a long or an int
TEXT: Final = 2
BYTES: Final = 3
OPTIONAL: Final = 4
LEFT_OUT: Final = 8
_KIND: Final = 3
_CONTINUED: Final = 0x80
_LONG_OR_NEGATIVE: Final = 0x81
_SECOND_BRANCH: Final = 2


def read_row(data: bytes, at: int, kinds: bytes) -> list[Any]:  # noqa: C901  # a call for each value would cost more than it
    """Return the values of these kinds that begin at ``at``, and last where they end. Raises IndexError or ValueError for bytes
    that are none; a text or bytes that are cut off come out short, and end beyond the data.
    """
    found: list[Any] = []
    for kind in kinds:
        if kind & OPTIONAL:
            branch = data[at]
            at += 1
            if branch == 0:
                if not kind & LEFT_OUT:
                    found.append(None)
                continue
            if branch != _SECOND_BRANCH:
                no_branch(branch)
        number = data[at]
        at += 1
        what = kind & _KIND
        if what >= TEXT:
            if number & _LONG_OR_NEGATIVE:
                number, at = odd(data, at, number)
            end = at + (number >> 1)
            if not kind & LEFT_OUT:
                found.append(data[at:end].decode() if what == TEXT else data[at:end])
            at = end
        elif what == NUMBER:
            if number >= _CONTINUED:
                number, at = rest(data, at, number)
            if not kind & LEFT_OUT:
                found.append(number >> 1 ^ -(number & 1))
        else:
            if number > 1:
                raise ValueError(f"{number} is no boolean")
            if not kind & LEFT_OUT:
                found.append(number == 1)
    found.append(at)
    return found
