"""The one table of refusals."""

import re
from pathlib import Path

import pytest

from app.errors import REJECTIONS, TABLE, exit_code, not_found, problem

_ROOT = Path(__file__).parents[3]
_REASON = re.compile(r'Rejected\(\s*"([a-z_]+)"')


def test_every_reason_the_rules_give_has_a_row() -> None:
    """A rejection without a row would become a 500."""
    sources = [*(_ROOT / "streams" / "domain").rglob("*.py"), *(_ROOT / "streams" / "writer").rglob("*.py")]
    reasons = {reason for source in sources for reason in _REASON.findall(source.read_text())}
    assert reasons
    assert reasons <= set(REJECTIONS)


@pytest.mark.parametrize("code", TABLE)
def test_every_row_can_be_answered(code: str) -> None:
    """Status, exit code, title and document fit together."""
    refused = problem(code, "because")
    assert 400 <= refused.status < 600
    assert exit_code(code) in (1, 2, 3, 4, 5)
    document = refused.document("/v1/x")
    assert set(document) == {"type", "title", "status", "detail", "instance", "code", "errors"}


def test_not_found_is_three_on_the_command_line() -> None:
    """Scripts tell a missing thing from a refused one."""
    assert exit_code(not_found("run", "x").code) == 3
    assert exit_code("version_conflict") == 4
    assert exit_code("not_yet") == 5
    assert exit_code("a code of tomorrow", 404) == 3
