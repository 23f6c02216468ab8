"""A Singer tap as a source: a program of its own, told its config, catalog and state by files."""

import os
import select
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from connectors.builtin.singer.messages import parse
from connectors.builtin.singer.program import Program
from connectors.sdk.errors import BadOutput, InvalidSpec
from connectors.sdk.record import Idle, SourceItem

LINE_BYTES_MAX = 16 << 20
_READ_BYTES = 1 << 18
_IDLE_S = 0.5
_DISCOVER_TIMEOUT_S = 300


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
        self._program = Program(spec.name, spec.program, environ, folder)
        self._config = ("--config", str(self._program.write("config.json", spec.config)))
        try:
            self._discovering = None if spec.catalog else self._program.start(*self._config, "--discover")
        except InvalidSpec:
            self._program.forget_files()
            raise

    def read(self, bookmark: Any | None) -> Iterator[SourceItem]:
        """Run the tap from ``bookmark`` (its newest STATE), with the catalog given or discovered."""
        spec, program = self._spec, self._program
        catalog = self._discovered(self._discovering) if self._discovering else spec.catalog or {}
        path = program.write("catalog.json", select_streams(catalog, spec.streams))
        arguments = [*self._config, "--catalog", str(path)]
        if bookmark is not None:
            arguments += ["--state", str(program.write("state.json", bookmark))]
        for line in self._lines(program.start(*arguments)):
            if line is None:
                yield Idle()
                continue
            program.forget_files()
            item = parse(line, spec.name) if line.strip() else None
            if item is not None:
                yield item
        program.ended()

    def close(self) -> None:
        """End the tap if it still runs: SIGTERM, after 5 s SIGKILL. Delete its files."""
        self._program.stop()

    def _discovered(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        name = self._spec.name
        overdue = threading.Timer(_DISCOVER_TIMEOUT_S, process.kill)
        overdue.start()
        printed = process.stdout.read()
        overdue.cancel()
        self._program.ended(" --discover")
        try:
            catalog = orjson.loads(printed)
        except orjson.JSONDecodeError as error:
            raise BadOutput(f"{name} --discover printed no catalog: {printed[:200]!r}") from error
        if not isinstance(catalog, dict) or not isinstance(catalog.get("streams"), list):
            raise BadOutput(f"{name} --discover printed a catalog without streams: {printed[:200]!r}")
        return catalog

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
