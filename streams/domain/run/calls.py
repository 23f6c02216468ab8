"""What the end of a run makes of the step that called it, and what it hands over, to that step or to the runs it starts."""

import json
from typing import Any

from streams.domain.aggregate import Rejected
from streams.domain.definition import compact
from streams.domain.expressions import RESULT_CHARS_MAX
from streams.domain.run import events as happened
from streams.domain.run.commands import NoteChildEnded
from streams.domain.run.progress import fail_attempt, succeed
from streams.domain.run.state import FAN_CHARS_MAX, Run, as_mapping, how_it_ended
from streams.domain.run.story import Decision, Story


def child_ended(command: NoteChildEnded, story: Story) -> Decision:
    """End the attempt that the child was; nothing, when nobody waits for that child any more."""
    if as_mapping(command.output) is None:
        return Rejected("invalid", "the output of a run must be a JSON object, as text")
    waiting = (
        step
        for step in story.run.steps.values()
        if step.status == "waiting" and step.child == command.run_id and not story.run.ended
    )
    step = next(waiting, None)
    if step is None:
        return ()
    ended = happened.ChildEnded(
        step.name, step.attempt, command.run_id, command.status, command.error, story.now
    )
    story.tell(ended)
    if command.status == "succeeded":
        succeed(story, step.name, command.output)
    else:
        # Who cancels a run means it: it is not tried again.
        retryable = command.status != "cancelled"
        fail_attempt(story, step, _why(command), "", retryable=retryable, timed_out=False)
    return tuple(story.events)


def _why(command: NoteChildEnded) -> str:
    if command.status == "refused":
        return command.error or "the run was refused"
    return (
        f"run {command.run_id} {how_it_ended(command.status)}{f': {command.error}' if command.error else ''}"
    )


def results(run_id: str, run: Run) -> str:
    """Return what a run hands to the step that called it, as JSON text: its id, and the outputs of its steps by name.

    ``steps`` is null when the outputs have too many characters together.
    """
    return _with_outputs({"run": run_id}, run, FAN_CHARS_MAX)


def ending(run_id: str, run: Run) -> str:
    """Return what the end of a run gives to the runs that it starts, as JSON text: :func:`results`, and how it ended."""
    return _with_outputs(how_ended(run_id, run.pipeline, run.status, run.error), run, RESULT_CHARS_MAX)


def how_ended(run_id: str, pipeline: str, status: str, error: str | None) -> dict[str, Any]:
    """Return what the end of a run gives beside the outputs of its steps."""
    return {"run": run_id, "pipeline": pipeline, "status": status, "error": error}


def _with_outputs(said: dict[str, Any], run: Run, chars_max: int) -> str:
    steps = {}
    for step in run.steps.values():
        if step.status == "succeeded" and not run.plan.step(step.name).last:
            steps[step.name] = json.loads(step.output or "{}")
            steps[step.name].pop("tail", None)  # what it printed is in the logs
    text = compact({**said, "steps": steps})
    return text if len(text) <= chars_max else compact({**said, "steps": None})
