"""One attempt of an extract, transform or load step, in a process of its own: ``python -m connectors.runners.attempt``.

The task comes as one line of JSON on stdin; what is told goes to stdout as JSON lines. Whatever the user's code or a
tap prints becomes output of the step, because stdout is moved out of its way. It may say how far it is in the file
``RUN_PROGRESS``.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from connectors.runners.bookmark import Interrupted
from connectors.runners.task import Report, Task
from connectors.sdk.errors import ConnectorError, Superseded

_BEGINNINGS_MAX = 3
_KINDS = {
    "extract": "connectors.runners.extract",
    "transform": "connectors.runners.transform",
    "load": "connectors.runners.load",
}
_OWN = ("RUN_PROGRESS", "RUN_CHECKPOINT")

Work = Callable[[Task, Report], dict[str, Any]]


def main() -> int:
    """Do the attempt; return 0 when its end, good or bad, was told."""
    private = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    report = Report(private)
    for module in _KINDS.values():
        # This process may wait for its task: the time is used for what every task needs.
        importlib.import_module(module)
    told = sys.stdin.buffer.readline()
    if not told:
        return 0
    task = msgspec.convert(msgspec.json.decode(told), Task)
    os.chdir(task.project_dir)
    os.environ.update({name: task.environ[name] for name in _OWN if name in task.environ})
    try:
        work: Work = importlib.import_module(_KINDS[task.kind]).work
        report.result(_worked(work, task, report))
    except ConnectorError as error:
        report.failure(str(error), error.retryable)
    except Exception as error:  # noqa: BLE001 - the process ends here: everything is told
        traceback.print_exc()
        report.failure(f"{type(error).__name__}: {error}", retryable=True)
    return 0


def _worked(work: Work, task: Task, report: Report) -> dict[str, Any]:
    """Work; begin again from the bookmark when the transaction was lost although the lease stands."""
    for left in range(_BEGINNINGS_MAX - 1, -1, -1):
        before = report.counts.read, report.counts.written, report.counts.rejected, report.counts.size
        try:
            return work(task, report)
        except Interrupted as error:
            if not left:
                raise
            sys.stderr.write(f"beginning again: {error}\n")
            counts = report.counts
            counts.read, counts.written, counts.rejected, counts.size = before
    raise Superseded(f"step {task.step} lost its transaction {_BEGINNINGS_MAX} times")


if __name__ == "__main__":
    sys.exit(main())
