"""A Singer program at work: started, listened to, told things by files, ended."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from connectors.sdk.errors import InvalidSpec, ProgramFailed

_STDERR_LINES = 10
_STDERR_CHARS = 1_500
_STOP_S = 5.0


class Program:
    """One Singer program, in as many runs as it takes, one after the other.

    ``environ`` is all its environment. What it writes to stderr is passed on line by line, and the last of it kept.
    """

    def __init__(self, name: str, path: Path, environ: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._path = path
        # Its environment is ours: without its bytecode every start would compile some hundred modules again.
        self._environ = {key: value for key, value in environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        self._folder = folder
        self._files: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._listening: threading.Thread | None = None
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start it with stdout as a pipe. Raises InvalidSpec when there is no such program."""
        try:
            process = subprocess.Popen(
                [str(self._path), *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environ,
                cwd=self._folder,
            )
        except OSError as error:
            raise InvalidSpec(f"{self.name} cannot be started: {error.strerror}") from error
        self._process = process
        self._listening = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        self._listening.start()
        return process

    def ended(self, what: str = "") -> None:
        """Wait for its end. Raises ProgramFailed, with its last words, for another exit code than 0."""
        assert self._process is not None
        code = self._process.wait()
        if self._listening is not None:
            self._listening.join(_STOP_S)
        if code:
            raise ProgramFailed(f"{self.name}{what} ended with exit code {code}: {self._last_words()}")

    def stop(self) -> None:
        """End it if it still runs: SIGTERM, after 5 s SIGKILL. Delete its files."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.forget_files()

    def write(self, name: str, content: Any) -> Path:
        """Write a JSON file that only this user can read; return its path."""
        if self._files is None:
            self._files = Path(tempfile.mkdtemp(prefix="flexcore-singer-"))
        path = self._files / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(orjson.dumps(content))
        return path

    def forget_files(self) -> None:
        """Delete what was written."""
        if self._files is not None:
            shutil.rmtree(self._files, ignore_errors=True)
            self._files = None

    def _listen(self, stream: IO[bytes]) -> None:
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip()
            self._stderr.append(line)
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def _last_words(self) -> str:
        said = " | ".join(line for line in self._stderr if line)
        return said[-_STDERR_CHARS:] or "it said nothing on stderr"
