"""Installing a Singer program by name and version into a virtual environment of its own, once."""

import configparser
import fcntl
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from connectors.sdk.errors import InvalidSpec, NotInstallable

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_TIMEOUT_S = 900
_MARK = "installed.json"


def install(requirement: str, plugins: Path) -> Path:
    """Return the program of ``name==version``, installed below ``plugins`` if it is not there yet.

    Blocks while another process installs the same. An installation that was interrupted, or whose Python is gone from
    the machine, is made anew. The user's own
    configuration of pip applies. Raises InvalidSpec for a requirement without version, NotInstallable with pip's own
    last word.
    """
    found = _REQUIREMENT.fullmatch(requirement)
    if found is None:
        raise InvalidSpec(f"{requirement!r} names no program and version: write for example tap-jsonl==0.3.1")
    name, version = found.groups()
    folder = plugins / f"{name.lower()}-{version}"
    plugins.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{folder.name}.lock")):
        mark = folder / _MARK
        if not (mark.exists() and (folder / "bin" / "python").exists()):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                program = _build(requirement, name, folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            # The mark comes last and in one step: without it the folder counts for nothing.
            draft = folder / f"{_MARK}.new"
            draft.write_bytes(orjson.dumps({"requirement": requirement, "program": program}))
            draft.replace(mark)
        return folder / "bin" / str(orjson.loads(mark.read_bytes())["program"])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(requirement: str, name: str, folder: Path) -> str:
    # The pip of this environment, where there is one, saves four fifths of the time: none has to be installed first.
    # Bytecode is left to the first run, which compiles only what it imports.
    options = ["install", "--no-input", "--disable-pip-version-check", "--quiet", "--no-compile", requirement]
    python = str(folder / "bin" / "python")
    if importlib.util.find_spec("pip") is not None:
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], requirement)
        _run([sys.executable, "-m", "pip", "--python", python, *options], requirement)
    else:
        _run([sys.executable, "-m", "venv", str(folder)], requirement)
        _run([python, "-m", "pip", *options], requirement)
    programs = _programs(folder, name)
    fitting = [program for program in programs if program.lower() == name.lower()]
    fitting = (
        fitting or [program for program in programs if program.startswith(("tap-", "target-"))] or programs
    )
    if len(fitting) != 1:
        named = ", ".join(programs) or "none"
        raise NotInstallable(
            f"{requirement} was installed, but it is not clear which of its programs to run: {named}"
        )
    return fitting[0]


def _run(argv: list[str], requirement: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotInstallable(f"{requirement} was not installed within {_TIMEOUT_S} s") from error
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("ERROR:")] or lines or ["(nothing was said)"]
        raise NotInstallable(f"{requirement} cannot be installed; pip says: {told[-1].strip()[:500]}")


def _programs(folder: Path, name: str) -> list[str]:
    wanted = re.sub(r"[-_.]+", "-", name).lower()
    for metadata in folder.glob("lib/python*/site-packages/*.dist-info"):
        distribution = metadata.name.removesuffix(".dist-info").rpartition("-")[0]
        if (
            re.sub(r"[-_.]+", "-", distribution).lower() == wanted
            and (metadata / "entry_points.txt").exists()
        ):
            entries = configparser.ConfigParser(delimiters=("=",), strict=False)
            entries.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way to keep case
            entries.read(metadata / "entry_points.txt")
            return list(entries["console_scripts"]) if entries.has_section("console_scripts") else []
    return []
