"""Pipeline files as people write them, narrowed to what JSON can say."""

import pytest

from app.documents import Unreadable, read_json, read_yaml


def test_words_stay_words() -> None:
    """`on`, `yes` and dates are text: they are names in a pipeline file."""
    assert read_yaml("{on: failed, a: yes, day: 2026-11-24, t: true, n: 1.5}") == {
        "on": "failed",
        "a": "yes",
        "day": "2026-11-24",
        "t": True,
        "n": 1.5,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x 1\nb: *x", "aliases"),
        ("a: 1\na: 2", "twice"),
        ("a: [1", "line"),
        ("a: 1\n---\nb: 2", "document"),
        ("a: !!python/object:os.system x", "tag"),
        ("? [a]\n: b", "key"),
        ("\x00", "special characters"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(text: str, says: str) -> None:
    """No alias bomb, no repeated key, no object of Python's."""
    with pytest.raises(Unreadable, match=says):
        read_yaml(text)


def test_json_knows_no_infinity() -> None:
    """What JSON cannot say is not let in."""
    with pytest.raises(Unreadable):
        read_json("[NaN]")
    with pytest.raises(Unreadable):
        read_json("[" * 100_000)
