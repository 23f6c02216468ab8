"""A record's headers as they stand in the log."""

from schemas.numbers import zigzag
from streams.protocol.record import Record
from streams.protocol.record_batch import NO_HEADERS, headers_of


def _record(told: bytes) -> Record:
    return Record("t", 1, 2, 3, b"k", b"value", told)


def test_headers_come_in_order_with_repeats_and_nulls() -> None:
    """Given a name twice and a null, then the list has all of them, and by name the last one counts."""
    null = zigzag(3) + headers_of([("a", b"1"), ("a", b"")])[1:] + zigzag(1) + b"n" + zigzag(-1)
    record = _record(null)
    assert record.header_list() == [("a", b"1"), ("a", b""), ("n", None)]
    assert record.headers() == {"a": b"", "n": None}


def test_a_name_that_is_no_text_is_told_as_well_as_it_can_be() -> None:
    """Given a name that is no UTF-8, then it comes through with a sign in its place."""
    assert _record(zigzag(1) + zigzag(2) + b"a\xff" + zigzag(1) + b"v").headers() == {"a\ufffd": b"v"}


def test_it_says_where_it_stands_and_how_large_it_is() -> None:
    """Given a record, then its place is topic, partition and offset, and its length that of its value."""
    assert (_record(NO_HEADERS).where, len(_record(NO_HEADERS)), _record(NO_HEADERS).headers()) == (
        "t/1/2",
        5,
        {},
    )
    assert len(Record("t", 1, 2, 3, None, None, NO_HEADERS)) == 0
