"""An attempt is handed out: offered to the runners, or called as a run of its own."""

from collections.abc import Mapping
from typing import Any

from streams.domain.definition import compact
from streams.domain.expressions import Wrong
from streams.domain.identity import child_run_id
from streams.domain.run import events as happened
from streams.domain.run.settings import settings
from streams.domain.run.state import Step
from streams.domain.run.story import Story

DEPTH_MAX = 8
"""So many runs may be above one, each a step of the one above."""


def offer_attempt(story: Story, step: Step, attempt: int) -> None:
    """Offer an attempt to the runners, or ask for the run that it is; fail the step when its settings cannot be had.

    What follows from such a failure is the caller's to tell.
    """
    plan = story.run.plan.step(step.name)
    try:
        block = settings(plan, story.language, story.scope_of(step.name))
    except Wrong as error:
        _refuse(story, step, str(error))
        return
    if plan.kind == "pipeline":
        _call(story, step, attempt, block)
        return
    text = compact(block) if plan.dynamic else None
    until = None if plan.start_timeout_ms is None else story.now + plan.start_timeout_ms
    priority = story.run.priority
    story.tell(happened.StepOffered(step.name, attempt, plan.queue, story.now, text, priority, until))


def _call(story: Story, step: Step, attempt: int, block: Mapping[str, Any]) -> None:
    """Ask for the run that is the step's attempt."""
    name, given = block["name"], block.get("input", {})
    if not isinstance(given, dict):
        _refuse(story, step, f"pipeline.input: {compact(given)[:200]} is no mapping")
    elif story.run.depth >= DEPTH_MAX:
        deep = f"runs call runs at most {DEPTH_MAX} deep, and so many are above this one: does {name} call itself?"
        _refuse(story, step, deep)
    else:
        timeout_ms = story.run.plan.step(step.name).timeout_ms
        until = None if timeout_ms is None else story.now + timeout_ms
        child = child_run_id(story.run_id, step.name, attempt)
        text = compact(given)
        story.tell(happened.StepCalled(step.name, attempt, name, child, text, until, story.now))


def _refuse(story: Story, step: Step, error: str) -> None:
    story.tell(happened.StepFailed(step.name, step.attempt, error, "", "failed", story.now))
