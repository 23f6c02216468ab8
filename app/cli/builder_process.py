"""The process in which a pipeline file in Python is run: ``python -m app.cli.builder_process FILE PROJECT``.

The answer is one JSON object on stdout: ``pipelines``, each with its ``document`` and the ``places`` of its calls, or an
``error`` with ``where`` and ``hint``. What the file prints goes to stderr. A file that ends the process gives no answer.
"""

import builtins
import json
import os
import runpy
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any

from connectors.sdk.pipeline import made

_NAME = "flexcore_pipeline_file"
"""What the file's ``__name__`` is: not ``__main__``, nor one that another module might have."""


def main(name: str, project: str) -> None:
    """Run the file and print the answer."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        json.dump(run_file(Path(name).resolve(), Path(project).resolve()), answer)


def run_file(file: Path, project: Path) -> dict[str, Any]:
    """Return the pipelines that the file makes, or what ended it. Its imports begin at the project and beside it."""
    sys.argv = [str(file)]
    sys.path += [str(project), str(file.parent)]  # behind all others: a pipeline may be named as a module is
    with made() as pipelines:
        try:
            runpy.run_path(str(file), run_name=_NAME)
        except BaseException as error:  # noqa: BLE001 - whatever ends the user's file is told in one sentence
            return _failure(error, file, project)
    return {
        "pipelines": [
            {
                "document": pipeline.document(),
                "places": {path: _where(*call, file, project) for path, call in pipeline.places().items()},
            }
            for pipeline in pipelines
        ]
    }


def _failure(error: BaseException, file: Path, project: Path) -> dict[str, Any]:
    if isinstance(error, SyntaxError):
        where = _where(error.filename or str(file), error.lineno or 1, file, project)
        return {"error": f"{type(error).__name__}: {error.msg}", "where": where, "hint": "correct that line"}
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_users(Path(frame.f_code.co_filename), file, project)
    ]
    said = " ".join(str(error).split())
    if isinstance(error, SystemExit):
        said = f"it ends the program ({said})" if said else "it ends the program"
    else:
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    where = _where(frames[-1][0].f_code.co_filename, frames[-1][1], file, project) if frames else ""
    near = _meant(error, frames[-1][0]) if frames else ""
    return {"error": said, "where": where, "hint": f"did you mean {near}?" if near else "correct that line"}


def _is_users(path: Path, file: Path, project: Path) -> bool:
    """Tell whether a line of this file is one that the user wrote: not what is installed, nor Python's own."""
    return path == file or (path.is_relative_to(project) and "site-packages" not in path.parts)


def _where(name: str, line: int, file: Path, project: Path) -> str:
    path = Path(name)
    if path == file:
        return f"line {line}"
    return f"{path.relative_to(project) if path.is_relative_to(project) else path} line {line}"


def _meant(error: BaseException, frame: FrameType) -> str:
    """Return the name that was probably meant by one that is not there."""
    known: Iterable[str] = ()
    if isinstance(error, AttributeError):
        known = [name for name in dir(error.obj) if not name.startswith("_")]
    elif isinstance(error, NameError):
        known = {**frame.f_locals, **frame.f_globals, **vars(builtins)}
    word = getattr(error, "name", None)
    near = get_close_matches(word, known, n=1) if isinstance(word, str) else []
    return near[0] if near else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
