"""Keys, outputs and ranges of datasets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.runners.logs import TAIL_BYTES_MAX, Output
from connectors.runners.offer import Offer
from connectors.runners.reader import Upstream
from connectors.runners.writer import record_key
from connectors.sdk.errors import InvalidSpec

_VALUES = st.lists(st.one_of(st.text(), st.integers(-(2**53), 2**53), st.booleans()), min_size=2, max_size=2)


def test_a_key_is_stream_and_primary_key() -> None:
    """Text stands as it is, numbers as JSON writes them."""
    assert record_key("customers", [7]) == b"customers/7"
    assert record_key("lines", ["a/b", "50%", None]) == b"lines/a%2Fb/50%25/null"


@given(_VALUES, _VALUES)
def test_different_primary_keys_of_texts_have_different_keys(left: list[Any], right: list[Any]) -> None:
    """Joining by / confuses no two tuples of texts."""
    texts = [[str(value) for value in values] for values in (left, right)]
    assert (record_key("s", texts[0]) == record_key("s", texts[1])) == (texts[0] == texts[1])


def test_a_step_reads_the_one_dataset_before_it() -> None:
    """Outputs without a topic are no datasets; two datasets are one too many."""
    output = {
        "topic": "t", "topic_id": "x", "generation": "g", "starts": {"0": 3}, "ends": {"0": 9},
        "streams": {"s": {"schema": {}, "key_properties": ["id"]}},
    }  # fmt: skip
    found = Upstream.of({"a": output, "b": {"exit_code": 0}}, "load")
    assert (found.topic, found.starts, found.ends) == ("t", {0: 3}, {0: 9})
    assert found.streams["s"].key_properties == ("id",)
    with pytest.raises(InvalidSpec, match="exactly one step that makes records; it has a, b"):
        Upstream.of({"a": output, "b": output}, "load")
    with pytest.raises(InvalidSpec, match="it has none"):
        Upstream.of({}, "load")


async def test_the_tail_is_bounded_and_masked() -> None:
    """Every line is passed on; of all of them the last 4 kB are kept, and no secret."""
    lines: list[tuple[str, str]] = []
    output = Output(
        lambda stream, line: lines.append((stream, line)), lambda text: text.replace("secret", "•")
    )
    for number in range(1_000):
        await output.take("stdout", f"line {number} secret é".encode())
    await output.take("stderr", b"\xff" * 10_000)
    assert len(lines) == 1_001
    assert lines[0] == ("stdout", "line 0 • é")
    assert len(output.tail.encode()) <= TAIL_BYTES_MAX
    assert "secret" not in output.tail


def test_bytes_that_are_no_offer_are_none() -> None:
    """A runner passes over what it cannot read."""
    assert Offer.parse(None) is None
    assert Offer.parse(b"nonsense") is None
    assert Offer.parse(b'{"tenant":"default"}') is None
