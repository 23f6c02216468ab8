"""What a Singer tap may print, and what becomes of it."""

import pytest

from connectors.builtin.singer.messages import parse
from connectors.builtin.singer.tap import select_streams
from connectors.sdk.errors import BadOutput, InvalidSpec
from connectors.sdk.record import SourceRecord, State, StreamSchema


def test_messages_become_records_states_and_schemas() -> None:
    """The three messages that matter are understood, in whatever case their type is written."""
    assert parse(b'{"type":"RECORD","stream":"s","record":{"id":1}}', "tap") == SourceRecord("s", {"id": 1})
    assert parse(b'{"type":"State","value":{"a":[1]}}', "tap") == State({"a": [1]})
    schema = b'{"type":"schema","stream":"s","schema":{"properties":{}},"key_properties":["id"]}'
    assert parse(schema, "tap") == StreamSchema("s", {"properties": {}}, ("id",))


def test_unknown_types_mean_nothing() -> None:
    """ACTIVATE_VERSION, BATCH and whatever comes later are passed over."""
    assert parse(b'{"type":"ACTIVATE_VERSION","stream":"s","version":1}', "tap") is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"INFO starting", "not JSON: 'INFO starting'"),
        (b"[1,2]", "no Singer message: '[1,2]'"),
        (b'{"type":3}', "no Singer message"),
        (b'{"type":"RECORD","stream":"s"}', "a RECORD without 'record'"),
        (b'{"type":"RECORD","stream":"s","record":[1]}', "whose record is no object"),
        (b"x" * 5_000, "'" + "x" * 200 + "'"),
    ],
)
def test_garbage_is_quoted(line: bytes, said: str) -> None:
    """A line that is no message is an error that shows the line, cut to a length a person reads."""
    with pytest.raises(BadOutput) as caught:
        parse(line, "tap-x")
    assert said in str(caught.value)
    assert str(caught.value).startswith("tap-x printed a line that is ")


def test_all_streams_are_selected_unless_some_are_named() -> None:
    """Selection is written where both old and new taps look for it; other metadata stays."""
    field = {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic"}}
    root = {"breadcrumb": [], "metadata": {"table-key-properties": ["id"]}}
    catalog = {"streams": [{"stream": "a", "metadata": [root, field]}, {"stream": "b"}]}
    chosen = select_streams(catalog, ["a"])["streams"]
    assert [stream["selected"] for stream in chosen] == [True, False]
    assert chosen[0]["metadata"] == [
        {"breadcrumb": [], "metadata": {"table-key-properties": ["id"], "selected": True}},
        field,
    ]
    assert all(stream["selected"] for stream in select_streams(catalog, [])["streams"])


def test_a_stream_that_does_not_exist_is_named() -> None:
    """A wrong stream name is told together with the names there are."""
    with pytest.raises(InvalidSpec, match="no stream 'c'; it has a, b"):
        select_streams({"streams": [{"stream": "a"}, {"tap_stream_id": "b"}]}, ["c"])
