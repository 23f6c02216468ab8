"""Java's cache of Kafka's classes is made once, and nothing fails without it."""

from pathlib import Path

import pytest

from deploy.local import aot
from deploy.local.failures import ServiceFailed


@pytest.fixture
def jars(tmp_path: Path) -> list[Path]:
    """A class path."""
    jar = tmp_path / "kafka.jar"
    jar.write_bytes(b"classes")
    (tmp_path / "kafka").mkdir()
    return [jar]


def write(file: Path) -> None:
    """Make it."""
    file.write_bytes(b"a cache")


def test_it_is_made_once_for_a_class_path(tmp_path: Path, jars: list[Path]) -> None:
    """Given the same jars, the second start finds what the first has made; other jars have a cache of their own."""
    said: list[str] = []
    first = aot.ensure(tmp_path, jars, write, said.append)
    again = aot.ensure(tmp_path, jars, lambda file: pytest.fail("made twice"), said.append)
    assert first == again is not None
    jars[0].write_bytes(b"other classes")
    other = aot.ensure(tmp_path, jars, write, said.append)
    assert other not in (None, first)
    assert len(said) == 2


def test_what_cannot_be_made_is_done_without(tmp_path: Path, jars: list[Path]) -> None:
    """Given a broker that does not start for it, the next start does not try again."""

    def fail(file: Path) -> None:
        file.write_bytes(b"half")
        raise ServiceFailed("no memory", "close something", ())

    assert aot.ensure(tmp_path, jars, fail, lambda line: None) is None
    assert aot.ensure(tmp_path, jars, lambda file: pytest.fail("tried again"), lambda line: None) is None
