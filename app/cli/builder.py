"""Pipeline files in Python: each is run in a process of its own, and the pipelines that it makes are read from there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.cli.failure import Failed
from app.errors import EXIT_CONFLICT, EXIT_TIMEOUT

_RUN_MAX_S = 60.0


def run_file(name: str, project: Path | None) -> list[dict[str, Any]]:
    """Return the ``document`` of each pipeline that a Python file makes, and the ``places`` of the calls it is made of.

    Blocks while the file runs, for 60 s at most. What the file prints goes to stderr. Raises Failed, with the line, for
    whatever goes wrong in it, and for a file that makes none.
    """
    argv = [sys.executable, "-P", "-m", "app.cli.builder_process", name, str(project or Path(name).parent)]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_RUN_MAX_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(
            f"{name} did not end within {_RUN_MAX_S:.0f} s",
            hint="say in it what is to be done, and leave the doing to steps",
            exit_code=EXIT_TIMEOUT,
        ) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        how = f"exit code {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
        raise Failed(
            f"{name} ended its process with {how}", hint="let it end by itself", exit_code=EXIT_CONFLICT
        ) from None
    if "error" in answer:
        where = f", {answer['where']}" if answer["where"] else ""
        raise Failed(f"{name}{where}: {answer['error']}", hint=answer["hint"], exit_code=EXIT_CONFLICT)
    pipelines: list[dict[str, Any]] = answer["pipelines"]
    if not pipelines:
        hint = 'write Pipeline("name") in it; a file for others to import has a name that begins with _'
        raise Failed(f"{name} makes no pipeline", hint=hint, exit_code=EXIT_CONFLICT)
    return pipelines
