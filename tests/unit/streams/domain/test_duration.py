"""Lengths of time as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain import duration


@pytest.mark.parametrize(
    ("text", "length_ms"),
    [
        ("250ms", 250),
        ("5s", 5_000),
        ("20m", 1_200_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("1m1ms", 60_001),
    ],
)
def test_a_duration_names_its_milliseconds(text: str, length_ms: int) -> None:
    """Every unit counts, alone and together."""
    assert duration.parse(text) == length_ms


@pytest.mark.parametrize("text", ["", "5", "s", "1.5h", "-5s", "5 s", "30m1h", "5S", "1h1h"])
def test_what_is_no_duration_is_refused_with_the_way_to_write_it(text: str) -> None:
    """The message shows what to write."""
    with pytest.raises(ValueError, match="write for example 250ms, 5s"):
        duration.parse(text)


@given(st.integers(0, 10**12))
def test_a_rendered_duration_reads_as_itself(length_ms: int) -> None:
    """Rendering loses nothing."""
    assert duration.parse(duration.render(length_ms)) == length_ms
