"""Secret references: resolved where the step runs, masked in all that is told."""

from pathlib import Path

import pytest

from connectors.runners.secrets import MASK, resolve
from connectors.sdk.errors import SecretMissing


def test_references_are_resolved_anywhere_in_a_spec(tmp_path: Path) -> None:
    """Texts in lists and mappings, several in one text, and files without their last newline."""
    (tmp_path / "key").write_text("s3cret\n")
    spec = {"url": "${env:HOST}/x?k=${file:key}", "list": ["${env:HOST}", 3, None]}
    found = resolve(spec, {"HOST": "example"}, tmp_path, "load")
    assert found.spec == {"url": "example/x?k=s3cret", "list": ["example", 3, None]}
    assert found.mask("at example with s3cret") == f"at {MASK} with {MASK}"


def test_the_longest_secret_is_masked_whole(tmp_path: Path) -> None:
    """A secret that contains another one leaves no rest; short ones are left, or every text would be holes."""
    found = resolve(
        ["${env:A}", "${env:B}", "${env:C}"], {"A": "word", "B": "wordlong", "C": "ab"}, tmp_path, "s"
    )
    assert found.mask("wordlong word ab") == f"{MASK} {MASK} ab"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${env:NOPE}", r"step load refers to \$\{env:NOPE\}, but NOPE is not set"),
        ("${env:FLEXCORE_POSTGRES_URL}", "own settings are not for steps"),
        ("${file:nope}", r"step load refers to \$\{file:nope\}, but the file cannot be read"),
        ("${vault:x}", "only"),
    ],
)
def test_what_cannot_be_resolved_is_named(tmp_path: Path, text: str, said: str) -> None:
    """One sentence names the reference and the step; trying again would not help."""
    with pytest.raises(SecretMissing, match=said) as caught:
        resolve({"a": [text]}, {"FLEXCORE_POSTGRES_URL": "x"}, tmp_path, "load")
    assert not caught.value.retryable
