"""What expressions of a run may name: its input, results of steps before, facts about the run, its slot."""

import json
from collections.abc import Mapping
from typing import Any

from streams.domain import instant
from streams.domain.expressions import Named, Scope
from streams.domain.run.state import Run, Step


def scope(run_id: str, run: Run) -> Scope:
    """Return the names that expressions of the run may use, as it is now. Only what one names is made."""

    def names(used: Named) -> Mapping[str, Any]:
        steps = {name: _step(run.steps[name]) for name, _field in used.steps if name in run.steps}
        return {
            "inputs": json.loads(run.input),
            "steps": steps,
            "run": _run(run_id, run),
            "slot": _time(run.slot),
        }

    return names


def _step(step: Step) -> dict[str, Any]:
    return {"outputs": json.loads(step.output or "{}"), "status": step.status}


def _run(run_id: str, run: Run) -> dict[str, Any]:
    return {
        "id": run_id,
        "pipeline": run.pipeline,
        "trigger": run.trigger,
        "key": run.key,
        "created_at": _time(run.created_at),
        "full_refresh": run.full_refresh,
        "rerun_of": run.rerun_of,
    }


def _time(at: int | None) -> str | None:
    return None if at is None else instant.render(at)
