"""A Singer tap as a source: a program of its own, told its config, catalog and state by files."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from connectors.builtin.singer.messages import parse
from connectors.sdk.errors import BadOutput, InvalidSpec, ProgramFailed
from connectors.sdk.record import Idle, SourceItem

LINE_BYTES_MAX = 16 << 20
_READ_BYTES = 1 << 18
_IDLE_S = 0.5
_STDERR_LINES = 10
_STDERR_CHARS = 1_500
_DISCOVER_TIMEOUT_S = 300
_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class TapSpec:
    """How to run a tap: ``catalog`` as given, else discovered; ``streams`` to read, all when empty."""

    name: str
    program: Path
    config: Mapping[str, Any]
    catalog: Mapping[str, Any] | None
    streams: Sequence[str]


class SingerSource:
    """Runs a tap and reads what it prints.

    Without a catalog the tap is asked for one at once, so that it starts while the caller prepares for its records.
    ``environ`` is all the tap's environment. Config (mode 0600), catalog and state live in a folder that is deleted
    as soon as the tap has printed its first line, or ended. What the tap writes to stderr is passed on line by line.
    A tap that fails raises ProgramFailed with its last lines; one that prints garbage raises BadOutput.
    """

    def __init__(self, spec: TapSpec, environ: Mapping[str, str], folder: Path) -> None:
        self._spec = spec
        # The tap's environment is ours: without its bytecode every start would compile some hundred modules again.
        self._environ = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._folder = folder
        self._files: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._argv = [str(spec.program), "--config", str(self._write("config.json", spec.config))]
        try:
            self._discovering = None if spec.catalog else self._start([*self._argv, "--discover"])
        except InvalidSpec:
            self._forget_files()
            raise

    def read(self, bookmark: Any | None) -> Iterator[SourceItem]:
        """Run the tap from ``bookmark`` (its newest STATE), with the catalog given or discovered."""
        spec = self._spec
        catalog = self._discovered(*self._discovering) if self._discovering else spec.catalog or {}
        path = self._write("catalog.json", select_streams(catalog, spec.streams))
        argv = [*self._argv, "--catalog", str(path)]
        if bookmark is not None:
            argv += ["--state", str(self._write("state.json", bookmark))]
        process, listening = self._start(argv)
        for line in self._lines(process):
            if line is None:
                yield Idle()
                continue
            self._forget_files()
            item = parse(line, spec.name) if line.strip() else None
            if item is not None:
                yield item
        code = process.wait()
        listening.join(_STOP_S)
        if code:
            raise ProgramFailed(f"{spec.name} ended with exit code {code}: {self._last_words()}")

    def close(self) -> None:
        """End the tap if it still runs: SIGTERM, after 5 s SIGKILL. Delete its files."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._forget_files()

    def _discovered(self, process: subprocess.Popen[bytes], listening: threading.Thread) -> dict[str, Any]:
        try:
            printed, _none = process.communicate(timeout=_DISCOVER_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise ProgramFailed(
                f"{self._spec.name} --discover took more than {_DISCOVER_TIMEOUT_S} s"
            ) from error
        listening.join(_STOP_S)
        if process.returncode:
            raise ProgramFailed(
                f"{self._spec.name} --discover ended with exit code {process.returncode}: {self._last_words()}"
            )
        try:
            catalog = orjson.loads(printed)
        except orjson.JSONDecodeError as error:
            raise BadOutput(f"{self._spec.name} --discover printed no catalog: {printed[:200]!r}") from error
        if not isinstance(catalog, dict) or not isinstance(catalog.get("streams"), list):
            raise BadOutput(
                f"{self._spec.name} --discover printed a catalog without streams: {printed[:200]!r}"
            )
        return catalog

    def _start(self, argv: list[str]) -> tuple[subprocess.Popen[bytes], threading.Thread]:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environ,
                cwd=self._folder,
            )
        except OSError as error:
            raise InvalidSpec(f"{self._spec.name} cannot be started: {error.strerror}") from error
        self._process = process
        listening = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        listening.start()
        return process, listening

    def _listen(self, stream: IO[bytes]) -> None:
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip()
            self._stderr.append(line)
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def _lines(self, process: subprocess.Popen[bytes]) -> Iterator[bytes | None]:
        """Yield lines, and None whenever the tap has been silent for half a second."""
        descriptor = process.stdout.fileno() if process.stdout is not None else -1
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN | select.POLLHUP)
        rest = b""
        while True:
            if not waiting.poll(_IDLE_S * 1000):
                yield None
                continue
            chunk = os.read(descriptor, _READ_BYTES)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            if len(rest) > LINE_BYTES_MAX:
                raise BadOutput(f"{self._spec.name} printed a line of more than {LINE_BYTES_MAX >> 20} MiB")
        if rest:
            yield rest

    def _last_words(self) -> str:
        return (
            " | ".join(line for line in self._stderr if line)[-_STDERR_CHARS:] or "it said nothing on stderr"
        )

    def _write(self, name: str, content: Any) -> Path:
        if self._files is None:
            self._files = Path(tempfile.mkdtemp(prefix="flexcore-tap-"))
        path = self._files / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(orjson.dumps(content))
        return path

    def _forget_files(self) -> None:
        if self._files is not None:
            shutil.rmtree(self._files, ignore_errors=True)
            self._files = None


def select_streams(catalog: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Return the catalog with the wanted streams selected (all when none are named), the others not.

    Raise InvalidSpec for a stream that the catalog does not have.
    """
    names = [stream.get("stream") or stream.get("tap_stream_id") for stream in catalog["streams"]]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InvalidSpec(f"the tap has no stream {missing[0]!r}; it has {', '.join(map(str, names))}")
    streams = []
    for name, stream in zip(names, catalog["streams"], strict=True):
        selected = not wanted or name in wanted
        metadata = [entry for entry in stream.get("metadata", []) if entry.get("breadcrumb")]
        root: dict[str, Any] = next(
            (entry for entry in stream.get("metadata", []) if not entry.get("breadcrumb")), {}
        )
        whole = {"breadcrumb": [], "metadata": {**root.get("metadata", {}), "selected": selected}}
        streams.append({**stream, "selected": selected, "metadata": [whole, *metadata]})
    return {**catalog, "streams": streams}
