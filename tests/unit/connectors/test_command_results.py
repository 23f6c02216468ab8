"""What a program hands to later steps by the file RUN_OUTPUT."""

from pathlib import Path

import pytest

from connectors.runners.execution import results_of
from connectors.sdk.errors import InvalidSpec


def test_a_program_hands_over_a_json_object_or_nothing(tmp_path: Path) -> None:
    """Most write nothing."""
    file = tmp_path / "output.json"
    assert results_of(file) == {}
    file.write_text('{"countries": ["de"]}')
    assert results_of(file) == {"countries": ["de"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no JSON object"), ("[1]", "no JSON object"), ("{", "no JSON object"), ('"' + "x" * 200_000 + '"', "200000 bytes")],
)  # fmt: skip
def test_what_later_steps_could_not_read_fails_the_step(tmp_path: Path, text: str, words: str) -> None:
    """It says what is wrong; trying again would not help."""
    file = tmp_path / "output.json"
    file.write_text(text)
    with pytest.raises(InvalidSpec, match=words):
        results_of(file)
