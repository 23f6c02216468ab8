"""What two of the peers need and the product does not: made once in the cache folder, or a reason why not."""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

_HERE = Path(__file__).parent
_JAVA = _HERE / "java"
_BUILD_TIMEOUT_S = 900


class Unavailable(Exception):
    """A peer cannot take part; the message says why."""


def peer_python(peer: str, cache: Path) -> Path:
    """Return the interpreter of a peer's own environment, made from ``<peer>-requirements.txt`` if need be, which blocks.
    Raises Unavailable.
    """
    pins = _HERE / f"{peer}-requirements.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "bench" / f"{peer}-{_digest(pins.read_bytes())}-{version}"
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        _say(f"installing {peer} into an environment of its own")
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _run(
            [python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", pins],
            f"pip could not install {peer}",
        )
        (folder / "made").touch()
    return python


def kafka_streams_jars(cache: Path) -> Path:
    """Return the folder with our program and its jars; builds it if need be, which blocks. Raises Unavailable."""
    sources = sorted(path for path in _JAVA.rglob("*") if path.is_file())
    folder = cache / "bench" / f"kafka-streams-{_digest(*(path.read_bytes() for path in sources))}"
    jars = folder / "jars"
    if jars.exists():
        return jars
    for tool, package in (("javac", "a Java development kit"), ("mvn", "Maven")):
        if shutil.which(tool) is None:
            raise Unavailable(f"{package} is missing: there is no `{tool}` on the PATH")
    _say("building the Kafka Streams program with Maven")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_JAVA, folder)
    maven: list[str | Path] = ["mvn", "-q", "-B", "-f", folder / "pom.xml"]
    maven += ["package", "dependency:copy-dependencies"]
    _run(maven, "Maven could not build the Kafka Streams program")
    (folder / "target" / "bench-1.jar").rename(folder / "target" / "dependency" / "bench-1.jar")
    (folder / "target" / "dependency").rename(jars)
    return jars


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _run(command: list[str | Path], failure: str) -> None:
    try:
        subprocess.run(command, check=True, timeout=_BUILD_TIMEOUT_S, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        last = (error.stdout + error.stderr).strip().splitlines()[-3:]
        raise Unavailable(f"{failure}: {' / '.join(last)}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{failure} within {_BUILD_TIMEOUT_S} s") from error


def _say(line: str) -> None:
    print(f"{line} (once per machine)", file=sys.stderr, flush=True)
