"""What every read shares, without a database: cursors, positions, times, bounds, answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from app.adapters import view_cursor
from app.adapters.time_travel import plain
from app.errors import Problem
from app.views.answers import dumps, listing, many, moment, number, one, positions_of
from streams.domain.aggregate import Send


def request(query: str = "", headers: Mapping[str, str] | None = None) -> web.Request:
    return make_mocked_request("GET", f"/v1/runs?{query}", headers=dict(headers or {}))


def body(response: web.Response) -> Any:
    assert isinstance(response.body, bytes)
    return orjson.loads(response.body)


@given(st.integers(0, 2**60), st.text(max_size=80))
def test_a_cursor_says_where_the_page_ended(number_: int, text: str) -> None:
    """Whatever the sort key was."""
    assert view_cursor.decode(view_cursor.encode([number_, text]), [int, str]) == (number_, text)


@pytest.mark.parametrize("cursor", ["", "abc", "!!!", "W10", view_cursor.encode([1]), "é", "x" * 5000])
def test_another_lists_cursor_is_refused(cursor: str) -> None:
    """One sentence, no guess."""
    with pytest.raises(Problem) as caught:
        view_cursor.decode(cursor, [int, str])
    assert caught.value.code == "bad_request"


def test_positions_are_read_alone_or_in_a_list() -> None:
    """Aggregate, shard, sequence."""
    assert positions_of("run:3:1042") == {("run", 3): 1042}
    assert positions_of("run:3:1042,pipeline:0:7,") == {("run", 3): 1042, ("pipeline", 0): 7}
    for wrong in ("run", "run:3", "run:x:1", "Run:1:1", "run:1:-1", "run:1:1:1"):
        with pytest.raises(Problem):
            positions_of(wrong)


def test_times_are_read_as_rfc_3339_or_milliseconds() -> None:
    """A time without zone is UTC; a plus that a form decoder made a space is still a plus."""
    assert moment(request("at=1500"), "at") == 1500
    assert moment(request("at=1970-01-01T00:00:01Z"), "at") == 1000
    assert moment(request("at=1970-01-01T00:00:01"), "at") == 1000
    assert moment(request("at=1970-01-01T01:00:01+01:00"), "at") == 1000
    assert moment(request("at=1970-01-01T01:00:01%2B01:00"), "at") == 1000
    assert moment(request(), "at") is None
    with pytest.raises(Problem):
        moment(request("at=yesterday"), "at")


def test_limits_have_bounds() -> None:
    """From 1 to 500, 100 unless told."""
    assert listing(request()) == (100, None)
    assert listing(request("limit=500&cursor=x")) == (500, "x")
    for wrong in ("0", "501", "-1", "1e3", "ten"):
        with pytest.raises(Problem):
            listing(request(f"limit={wrong}"))
    assert number(request("version="), "version", None, 1, 9) is None


def test_a_list_names_its_next_page() -> None:
    """In the body and as a Link, with everything else of the query kept."""
    response = many(request("status=failed&limit=1"), ([{"id": "a"}], "next"))
    assert body(response) == {"items": [{"id": "a"}], "cursor": "next"}
    assert response.headers["Link"] == '</v1/runs?status=failed&limit=1&cursor=next>; rel="next"'
    assert "Link" not in many(request(), ([], None)).headers


def test_a_row_is_answered_with_its_version_and_position() -> None:
    """304 for who has it, in a list of tags or weakly; 404 for nothing."""
    row = {"id": "a", "version": 4, "position": "run:1:9"}
    response = one(request(), row, "run", "a")
    assert (response.headers["ETag"], response.headers["Flexcore-Position"]) == ('"4"', "run:1:9")
    for tags in ('"4"', 'W/"4"', '"1", "4"'):
        assert one(request(headers={"If-None-Match": tags}), row, "run", "a").status == 304
    assert one(request(headers={"If-None-Match": '"5"'}), row, "run", "a").status == 200
    with pytest.raises(Problem) as caught:
        one(request(), None, "run", "a")
    assert caught.value.status == 404


def test_any_value_can_be_shown() -> None:
    """Huge integers exactly, foreign bytes as text, domain values as plain data."""
    assert dumps({"n": 2**70}) == b'{"n": 1180591620717411303424}'
    assert dumps({"b": b"\xff"}) == '{"b":"\ufffd"}'.encode()
    sent = plain(Send("run", "r1", {"b", "a"}))
    assert sent == {"aggregate": "run", "aggregate_id": "r1", "body": ["a", "b"]}
    assert plain({1: (None, 2.5)}) == {"1": [None, 2.5]}
