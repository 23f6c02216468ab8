"""How far an attempt is: counted by the platform, or said by its program in a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson

CHECKPOINT_CHARS_MAX = 16_384
_LOOK_BYTES_MAX = 1 << 20
_TEXT_CHARS_MAX = 200
_COMPLAINTS_MAX = 10
_EXAMPLE = '{"percent": 40, "text": "page 2", "checkpoint": {"page": 2}}'

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """What one line of the file may say."""

    records_in: _Count | None = None
    records_out: _Count | None = None
    records_rejected: _Count | None = None
    bytes: _Count | None = None
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    text: str | None = None
    checkpoint: dict[str, Any] | None = None


_COUNTS = ("records_in", "records_out", "records_rejected", "bytes")
_LINE = msgspec.json.Decoder(_Line)


@dataclass(slots=True)
class Progress:
    """How far an attempt is. ``checkpoint`` is a JSON object as text, for the next attempt."""

    records_in: int = 0
    records_out: int = 0
    records_rejected: int = 0
    bytes: int = 0
    percent: float | None = None
    text: str = ""
    checkpoint: str | None = None

    def set(self, counts: Mapping[str, int]) -> None:
        """Take what the child process counted."""
        self.records_in, self.records_out = counts["in"], counts["out"]
        self.records_rejected, self.bytes = counts["rejected"], counts["bytes"]


class ProgressFile:
    """The file ``RUN_PROGRESS`` of one attempt: its program appends JSON lines, the newest word of each field counts.

    ``counted``: the platform counts the records of this step, what the program says of them is not taken. ``mask``
    takes secrets out of text; ``complain`` is told of lines that cannot be taken, at most ten times.
    """

    def __init__(
        self,
        path: Path,
        progress: Progress,
        counted: bool,
        mask: Callable[[str], str],
        complain: Callable[[str], None],
    ) -> None:
        self.path = path
        self._progress = progress
        self._counted = counted
        self._mask = mask
        self._complain = complain
        self._complaints = 0
        self._offset = 0
        path.touch()

    def look(self) -> None:
        """Take the lines that were added since the last look; of more than 1 MiB only the newest. Never raises."""
        try:
            with self.path.open("rb") as said:
                size = said.seek(0, 2)
                if size < self._offset:
                    self._offset = 0  # it was written anew
                if skipped := size - self._offset > _LOOK_BYTES_MAX:
                    self._offset = size - _LOOK_BYTES_MAX
                said.seek(self._offset)
                whole = said.read(_LOOK_BYTES_MAX).rpartition(b"\n")[0]
        except OSError:
            return  # the program has taken it away
        if not whole:
            return
        self._offset += len(whole) + 1
        for line in whole.split(b"\n")[1 if skipped else 0 :]:
            if line.strip():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            told = _LINE.decode(line)
            checkpoint = None if told.checkpoint is None else self._saved(told.checkpoint)
        except ValueError as error:
            self._refuse(str(error))
            return
        progress = self._progress
        for field in () if self._counted else _COUNTS:
            if (count := getattr(told, field)) is not None:
                setattr(progress, field, count)
        if told.percent is not None:
            progress.percent = told.percent
        if told.text is not None:
            progress.text = self._mask(told.text)[:_TEXT_CHARS_MAX]
        if checkpoint is not None:
            progress.checkpoint = checkpoint

    def _saved(self, checkpoint: dict[str, Any]) -> str:
        """Return the checkpoint as text without secrets. Raise ValueError when it cannot be kept."""
        text = self._mask(orjson.dumps(checkpoint, option=orjson.OPT_SORT_KEYS).decode())
        if len(text) > CHECKPOINT_CHARS_MAX:
            size = f"{len(text)} characters, more than {CHECKPOINT_CHARS_MAX}"
            raise ValueError(f"the checkpoint has {size}: save where the data is, not the data")
        orjson.loads(text)  # a number that is a secret leaves no JSON behind
        return text

    def _refuse(self, why: str) -> None:
        self._complaints += 1
        if self._complaints <= _COMPLAINTS_MAX:
            self._complain(f"RUN_PROGRESS: {why}: append lines such as {_EXAMPLE}")
