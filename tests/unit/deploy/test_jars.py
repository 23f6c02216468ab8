"""Kafka's jars: pinned, checked at every start, mended when damaged."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from jgo.maven import Artifact

from deploy.local import jars
from deploy.local.failures import DownloadFailed
from deploy.local.paths import cache_dir

REPOSITORY = {"org/example/one/1.0/one-1.0.jar": b"one", "org/example/two/2.0/two-2.0.jar": b"two"}


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A repository of two jars in place of the real one, and a pin file that fits it."""
    pins = {path: hashlib.sha256(body).hexdigest() for path, body in REPOSITORY.items()}
    served = dict(REPOSITORY)

    def resolve(artifact: Artifact) -> Path:
        path: Path | None = artifact.cached_path
        assert path is not None
        key = f"{artifact.component.path_prefix.as_posix()}/{artifact.filename}"
        if key not in served:
            raise RuntimeError("not found")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(served[key])
        return path

    monkeypatch.setattr("jgo.maven.Artifact.resolve", resolve)
    monkeypatch.setattr(jars, "pinned", lambda: pins)
    return served


def test_missing_jars_are_fetched_once(repository: dict[str, bytes], tmp_path: Path) -> None:
    """The first call fetches and says so; the second finds all in the cache."""
    said: list[str] = []
    found = jars.ensure(tmp_path, said.append)
    assert [path.read_bytes() for path in found] == [b"one", b"two"]
    assert "fetching 2 jars" in said[0]
    said.clear()
    assert jars.ensure(tmp_path, said.append) == found
    assert said == []
    assert {path.name for path in found[0].parent.iterdir()} == {".lock", "one-1.0.jar", "two-2.0.jar"}


def test_a_damaged_jar_is_fetched_again(repository: dict[str, bytes], tmp_path: Path) -> None:
    """A cache that does not match the pins is mended, never used."""
    found = jars.ensure(tmp_path, lambda line: None)
    found[0].write_bytes(b"on")
    jars.ensure(tmp_path, lambda line: None)
    assert found[0].read_bytes() == b"one"


def test_a_jar_with_another_hash_is_refused(repository: dict[str, bytes], tmp_path: Path) -> None:
    """What a repository serves must be what was pinned."""
    repository["org/example/two/2.0/two-2.0.jar"] = b"evil"
    with pytest.raises(DownloadFailed) as caught:
        jars.ensure(tmp_path, lambda line: None)
    assert "two-2.0.jar" in caught.value.cause
    assert "SHA-256" in caught.value.cause
    assert not (tmp_path / "kafka" / jars.KAFKA_VERSION / "two-2.0.jar").exists()


def test_an_unreachable_repository_says_what_to_check(repository: dict[str, bytes], tmp_path: Path) -> None:
    """No network: one sentence and a fix."""
    repository.clear()
    with pytest.raises(DownloadFailed) as caught:
        jars.ensure(tmp_path, lambda line: None)
    assert "Maven repository" in caught.value.fix


def test_the_pin_file_holds_kafka_and_nothing_unhashed() -> None:
    """Every line is a SHA-256 and a repository path; the broker of the stated version is among them."""
    pins = jars.pinned()
    assert f"org/apache/kafka/kafka_2.13/{jars.KAFKA_VERSION}/kafka_2.13-{jars.KAFKA_VERSION}.jar" in pins
    assert all(len(digest) == 64 and path.endswith(".jar") for path, digest in pins.items())
    assert len({Path(path).name for path in pins}) == len(pins)


def test_the_cache_is_where_the_desktop_standard_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """XDG_CACHE_HOME wins over the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "flexcore"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_dir() == tmp_path / ".cache" / "flexcore"
    shutil.rmtree(tmp_path)
