"""What a run that has ended moved: the counts of its steps' results."""

from streams.domain.kinds import RECORD_KINDS
from streams.domain.run.state import Run


def moved(run: Run) -> int | None:
    """Return how many records came through: what its load steps wrote. Without a load step, what those steps wrote from
    which no step reads records; without these, what its programs say.

    None when it is not known: the run did not succeed, has taken over results of another one, or one of these steps
    needed a second attempt, whose count leaves out what the first one moved.
    """
    if run.status != "succeeded" or run.rerun_of is not None:
        return None
    files = run.plan.steps.values()
    loads = [
        step.name for step in files if step.kind == "load" or (step.kind == "map" and "load" in step.spec)
    ]
    kept = [step for step in files if step.kind in RECORD_KINDS]
    read = {name for step in kept for name in step.after}
    ends = loads or [step.name for step in kept if step.name not in read] or [step.name for step in files]
    results = [run.steps[name] for name in ends]
    if any(step.attempt > 1 or (step.fan is not None and step.fan.retried) for step in results):
        return None
    return sum(step.records_out for step in results)


def rejected(run: Run) -> int:
    """Return how many records its results left in quarantine, as the attempts that succeeded say."""
    results = (step for step in run.steps.values() if step.status in ("succeeded", "compensated"))
    return sum(step.records_rejected for step in results)
