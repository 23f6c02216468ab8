"""Files that people write, read for a verb: what is wrong with one is said with its line, its place and the fix."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.failure import Failed
from app.errors import EXIT_CONFLICT, EXIT_USAGE

if TYPE_CHECKING:
    from streams.domain.findings import Problem

_LAST_PART = re.compile(r"(?:\.|^)[^.\[]*$|\[\d+\]$")


@dataclass(frozen=True, slots=True)
class Written:
    """A file as it was read: its text, and the plain data in it."""

    name: str
    text: str
    document: Any

    def refuse(self, problems: "Sequence[Problem]") -> None:
        """Fail with every problem and the line it is in; do nothing without any."""
        if not problems:
            return
        from app.documents import lines_of

        lines = lines_of(self.text)
        count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise Failed(
            f"{self.name} has {count}",
            hint="correct what is listed",
            exit_code=EXIT_CONFLICT,
            details=tuple(f"line {_line(lines, problem.path)}: {problem}" for problem in problems),
        )


def _line(lines: dict[str, int], path: str) -> int:
    """Return the line of a place, or of the nearest one around it: what is missing has no line."""
    while path and path not in lines:
        path = _LAST_PART.sub("", path)
    return lines.get(path, 1)


def read_file(name: str) -> Written:
    """Read a YAML or JSON file; ``-`` is stdin."""
    from app.documents import Unreadable, read_yaml

    try:
        text = (
            click.get_text_stream("stdin").read() if name == "-" else Path(name).read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Failed(
            f"{name} cannot be read: {reason}", hint="name a file of YAML", exit_code=EXIT_USAGE
        ) from None
    try:
        return Written(name, text, read_yaml(text))
    except Unreadable as error:
        raise Failed(
            f"{name} is not YAML: {error}", hint="correct that line", exit_code=EXIT_CONFLICT
        ) from None


def read_pipeline(name: str) -> Any:
    """Read a pipeline file that may be applied, and return what is in it; with any mistake the verb fails."""
    from streams.cron import mistake
    from streams.domain.definition import problems
    from streams.expressions import LANGUAGE

    written = read_file(name)
    written.refuse(problems(written.document, mistake, LANGUAGE))
    return written.document
