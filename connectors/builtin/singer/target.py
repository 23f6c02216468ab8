"""A Singer target: a program of its own that is fed a dataset's records, and says how far it has made them safe."""

import contextlib
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from connectors.builtin.singer.program import Program
from connectors.sdk.errors import BadOutput
from connectors.sdk.record import Batch, StreamSchema


class SingerTarget:
    """Feeds a target and hears its STATE lines.

    A target promises no more than this: what it was given before a STATE is safe once it has printed that STATE, and
    everything is once it has ended with exit code 0. So positions go in as STATE after each batch, and come back when
    they count. At least once: what was not confirmed is given again.
    """

    def __init__(
        self, name: str, path: Path, config: Mapping[str, Any], environ: Mapping[str, str], folder: Path
    ) -> None:
        self._program = Program(name, path, environ, folder)
        config_file = self._program.write("config.json", config)
        self._process = self._program.start("--config", str(config_file), stdin=subprocess.PIPE)
        self._safe: Any = None
        self._garbage: str | None = None
        self._hearing = threading.Thread(target=self._hear, args=(self._process.stdout,), daemon=True)
        self._hearing.start()

    @property
    def safe(self) -> Any:
        """The newest state that the target has confirmed, or None."""
        return self._safe

    def declare(self, schema: StreamSchema) -> None:
        """Tell a stream's schema, before its records."""
        self._say(
            {
                "type": "SCHEMA",
                "stream": schema.stream,
                "schema": schema.schema,
                "key_properties": list(schema.key_properties),
            }
        )

    def write(self, batch: Batch, state: Any) -> None:
        """Give the batch, then ``state``. Blocks while the target is busy. Raises ProgramFailed when it has ended."""
        lines = [
            b'{"type":"RECORD","stream":%b,"record":%b}\n' % (orjson.dumps(record.stream), record.value)
            for record in batch.records
        ]
        self._put(b"".join(lines))
        self._say({"type": "STATE", "value": state})

    def finish(self) -> None:
        """All is given: wait for the target's end. Raises ProgramFailed, or BadOutput for lines that are no STATE."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._program.ended()
        self._hearing.join()
        if self._garbage is not None:
            raise BadOutput(
                f"{self._program.name} printed {self._garbage!r}; a target may print states (JSON) only"
            )

    def close(self) -> None:
        """End the target if it still runs. Delete its files."""
        self._program.stop()

    def _say(self, message: Mapping[str, Any]) -> None:
        self._put(orjson.dumps(message) + b"\n")

    def _put(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._program.ended()
            raise BadOutput(
                f"{self._program.name} ended with exit code 0 before it had read everything"
            ) from None

    def _hear(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            if not line.strip():
                continue
            try:
                self._safe = orjson.loads(line)
            except orjson.JSONDecodeError:
                self._garbage = self._garbage or line[:200].decode("utf-8", "replace")
