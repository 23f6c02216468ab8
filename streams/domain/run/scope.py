"""What expressions of a run may name: its input, results of steps before, facts about the run, its slot."""

import json
from collections.abc import Mapping
from typing import Any

from streams.domain import instant
from streams.domain.expressions import Named
from streams.domain.run.state import Run, Step


def scope(run_id: str, run: Run, used: Named) -> Mapping[str, Any]:
    """Return what an expression of the run may name, as it is now; of the steps only those that it does name."""
    steps = {name: _step(run.steps[name]) for name, _field in used.steps if name in run.steps}
    return {
        "inputs": json.loads(run.input) if used.inputs else {},
        "steps": steps,
        "run": _run(run_id, run),
        "slot": _time(run.slot),
    }


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
        "status": run.ending[0] if run.ending else run.status,
        "error": run.ending[1] if run.ending else None,
    }


def _time(at: int | None) -> str | None:
    try:
        return None if at is None else instant.render(at)
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"{at} ms is no point in time that a calendar has") from None
