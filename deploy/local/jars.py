"""Kafka's jars: which ones, their pinned hashes, and the cache they are kept in.

`kafka-jars.sha256` lists each jar by its repository path and SHA-256. Starting a broker resolves nothing:
it takes exactly these files, so a broker is the same everywhere and for good. `python -m deploy.local.jars`
resolves the dependency graph anew and prints the list for a new version.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.failures import DownloadFailed

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

KAFKA_VERSION = "4.3.1"
# Kafka logs through slf4j 1.7 and brings log4j 2, but not the piece between them.
_LOGGING_BINDING = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4")
_PINS = Path(__file__).with_name("kafka-jars.sha256")
_DOWNLOAD_TRIES = 3
_DOWNLOADS_AT_ONCE = 6
_HTTP_TIMEOUT_S = 60

Progress = Callable[[str], None]


def pinned() -> dict[str, str]:
    """Return repository path -> SHA-256 of every jar a broker needs, in the order of the pin file."""
    pins = {}
    for line in _PINS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            digest, path = line.split()
            pins[path] = digest
    return pins


def ensure(cache: Path, progress: Progress) -> list[Path]:
    """Return the jars of the pin file below `cache`, fetching what is missing; blocks.

    Every file is hashed on every call, so a damaged cache is mended and never run. Safe to call from
    several processes at once: one fetches, the others wait for it.

    Raises DownloadFailed when a jar cannot be fetched or is not the pinned one.
    """
    folder = cache / "kafka" / KAFKA_VERSION
    folder.mkdir(parents=True, exist_ok=True)
    pins = pinned()
    with locked(folder / ".lock"):
        missing = [path for path, digest in pins.items() if _sha256(folder / Path(path).name) != digest]
        if missing:
            _fetch(folder, {path: pins[path] for path in missing}, progress)
    return [folder / Path(path).name for path in pins]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only process of this machine to work on what the file stands for; blocks until it is so."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _fetch(folder: Path, pins: dict[str, str], progress: Progress) -> None:
    from jgo.maven import MavenContext

    progress(f"fetching {len(pins)} jars of Apache Kafka {KAFKA_VERSION} (once per machine)")
    staging = folder / f".incoming-{os.getpid()}"
    context = MavenContext(repo_cache=staging, timeout=_HTTP_TIMEOUT_S)
    received = 0
    try:
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            waiting = [
                pool.submit(_fetch_one, context, path, digest, folder) for path, digest in pins.items()
            ]
            for number, done in enumerate(as_completed(waiting), 1):
                received += done.result()
                if number % 8 == 0 or number == len(pins):
                    progress(f"fetched {number} of {len(pins)} jars, {received / 1e6:.0f} MB")
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fetch_one(context: MavenContext, path: str, digest: str, folder: Path) -> int:
    """Fetch one jar into the staging area, compare it, then move it into place; return its bytes."""
    *group, name, version, _ = path.split("/")
    artifact = context.project(".".join(group), name).at_version(version).artifact()
    failure: Exception | None = None
    for _ in range(_DOWNLOAD_TRIES):
        try:
            found = artifact.resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            failure = error
        else:
            if _sha256(found) == digest:
                size = found.stat().st_size
                found.replace(folder / found.name)
                return size
            failure = ValueError("its SHA-256 is not the pinned one")
        # A cut-off download leaves half a file, which the resolver would take for whole.
        _staged(artifact).unlink(missing_ok=True)
    raise DownloadFailed(
        f"The jar {Path(path).name} could not be fetched: {failure}.",
        "Check that this machine reaches a Maven repository, and that the disk is not full, then try again.",
    )


def _staged(artifact: Artifact) -> Path:
    path = artifact.cached_path
    if path is None:
        raise ValueError("the resolver has no cache folder")
    return path


def resolve_pins(cache: Path) -> list[str]:
    """Resolve the dependency graph of Kafka and return the lines of a new pin file; blocks, downloads all."""
    from jgo.maven import Dependency, MavenContext

    context = MavenContext(repo_cache=cache / "resolve", timeout=_HTTP_TIMEOUT_S)
    root = context.project("org.apache.kafka", "kafka_2.13").at_version(KAFKA_VERSION).artifact()
    group, name, version = _LOGGING_BINDING
    inputs, transitive = context.resolver.resolve([Dependency(root, scope="compile")])
    artifacts = [dependency.artifact for dependency in inputs + transitive]
    artifacts.append(context.project(group, name).at_version(version).artifact())
    lines = []
    for artifact in artifacts:
        path = f"{artifact.component.path_prefix.as_posix()}/{artifact.filename}"
        lines.append(f"{_sha256(artifact.resolve())}  {path}")
    return sorted(lines, key=lambda line: line.split()[1])


if __name__ == "__main__":
    from deploy.local.paths import cache_dir

    sys.stdout.write("\n".join(resolve_pins(cache_dir())) + "\n")
