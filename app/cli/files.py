"""Files that people write, read for a verb: what is wrong with one is said with its line, its place and the fix."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.failure import Failed
from app.errors import EXIT_CONFLICT, EXIT_USAGE

if TYPE_CHECKING:
    from app.cli.session import Session
    from streams.domain.findings import Problem

_LAST_PART = re.compile(r"(?:\.|^)[^.\[]*$|\[\d+\]$")


@dataclass(frozen=True, slots=True)
class Written:
    """What was read from a file: its text, the plain data in it, and for data made by Python the lines of the calls."""

    name: str
    text: str
    document: Any
    calls: Mapping[str, str] | None = None

    def refuse(self, problems: "Sequence[Problem]") -> None:
        """Fail with every problem and its place in the file; do nothing without any."""
        _refuse(self.name, self.told(problems))

    def told(self, problems: "Sequence[Problem]") -> list[str]:
        """Return every problem with its place in the file: line and column, or the line of a call."""
        from app.documents import marks_of

        if not problems:
            return []
        marks = marks_of(self.text) if self.calls is None else self.calls
        return [f"{_mark(marks, problem.path)}: {problem}" for problem in problems]


def _refuse(name: str, told: Sequence[str]) -> None:
    if told:
        count = "one mistake" if len(told) == 1 else f"{len(told)} mistakes"
        raise Failed(
            f"{name} has {count}", hint="correct what is listed", exit_code=EXIT_CONFLICT, details=tuple(told)
        )


def _mark(marks: Mapping[str, str], path: str) -> str:
    """Return where a place begins, or the nearest one around it: what is missing begins nowhere."""
    while path and path not in marks:
        path = _LAST_PART.sub("", path)
    return marks.get(path, "line 1")


def read_file(name: str) -> Written:
    """Read a YAML or JSON file; ``-`` is stdin."""
    from app.documents import Unreadable, read_yaml

    text = _text(name)
    try:
        return Written(name, text, read_yaml(text))
    except Unreadable as error:
        raise Failed(
            f"{name} is not YAML: {error}", hint="correct that line", exit_code=EXIT_CONFLICT
        ) from None


def _text(name: str) -> str:
    try:
        return (
            click.get_text_stream("stdin").read() if name == "-" else Path(name).read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Failed(
            f"{name} cannot be read: {reason}",
            hint="name a file that is there, and text",
            exit_code=EXIT_USAGE,
        ) from None


def read_pipelines(name: str, session: "Session") -> list[Any]:
    """Read the pipelines of a file that may be applied: one of YAML, all that a Python file makes.

    With any mistake the verb fails. Blocks while a Python file is run.
    """
    from streams.cron import mistake
    from streams.domain.definition import problems
    from streams.domain.findings import Problem
    from streams.expressions import LANGUAGE

    told: list[str] = []
    found: dict[str, Any] = {}
    for written in _made(name, session.project) if name.endswith(".py") else [read_file(name)]:
        wrong = problems(written.document, mistake, LANGUAGE)
        if not wrong and (own := written.document["metadata"]["name"]) in found:
            wrong = [Problem("metadata.name", f"{own!r} names two pipelines", "give each a name of its own")]
        told += written.told(wrong)
        if not wrong:
            found[own] = written.document
    _refuse(name, told)
    return list(found.values())


def _made(name: str, project: Path | None) -> list[Written]:
    from app.cli.builder import run_file

    text = _text(name)
    return [Written(name, text, made["document"], made["places"]) for made in run_file(name, project)]


def read_pipeline(name: str, session: "Session", wanted: str | None = None) -> Any:
    """Read one pipeline that may be applied: the only one in the file, or of several the one that is wanted."""
    found = {document["metadata"]["name"]: document for document in read_pipelines(name, session)}
    if len(found) == 1:
        return next(iter(found.values()))
    if wanted in found:
        return found[wanted]
    missing = f"; {wanted} is none of them" if wanted else ""
    raise Failed(
        f"{name} makes {len(found)} pipelines{missing}",
        hint=f"name one of {', '.join(found)}",
        exit_code=EXIT_USAGE,
    )
