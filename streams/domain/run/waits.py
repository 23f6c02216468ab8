"""What people say to a run, and steps that wait for them or for time: no runner takes those."""

from difflib import get_close_matches

from streams.domain import duration
from streams.domain.aggregate import Message, Rejected
from streams.domain.definition import compact
from streams.domain.run import commands as asked
from streams.domain.run import events as happened
from streams.domain.run.progress import (
    drop_items,
    fail_attempt,
    fail_step,
    go_on,
    skip,
    succeed,
)
from streams.domain.run.state import Run, Step, as_mapping, how_it_ended
from streams.domain.run.story import Decision, Story

PAYLOAD_CHARS_MAX = 65_536
NOTE_CHARS_MAX = 4_096


def decide_people(command: asked.PeopleCommand, message: Message, story: Story) -> Decision:
    """Return what follows from what people (or their programs) say to a run."""
    if story.run.ended:
        how = how_it_ended(story.run.status)
        return Rejected("already_ended", f"run {story.run_id} has ended: it {how}")
    match command:
        case asked.SignalRun():
            return _signal(command, story)
        case asked.SkipStep():
            return _skip(command, message.actor, story)
        case _:
            return _approval(command, message.actor, story)


def _skip(command: asked.SkipStep, actor: str, story: Story) -> Decision:
    step = story.run.steps.get(command.step)
    if step is None:
        names = ", ".join(story.run.plan.steps)
        return Rejected("invalid", f"run {story.run_id} has no step {command.step!r}; its steps: {names}")
    if step.ended:
        if step.status == "skipped":
            return ()
        return Rejected("already_ended", f"step {step.name} has ended: it is {step.status}")
    why = f"skipped by {actor}{f': {command.reason[:NOTE_CHARS_MAX]}' if command.reason else ''}"
    drop_items(story, step.name)
    skip(story, step.name, why, "hand")
    go_on(story, step.name)
    return tuple(story.events)


def silence(story: Story, step: Step) -> None:
    """End a step whose waiting ends by itself."""
    plan = story.run.plan.steps[step.name]
    if plan.kind == "pipeline":
        late = f"run {step.child} took longer than the timeout of {duration.render(plan.timeout_ms or 0)}"
        fail_attempt(story, step, late, "", retryable=True, timed_out=True)
        return
    meant = plan.spec.get("on_silence", "fail")
    nobody = f"{_NOBODY.get(plan.kind, '')} within {plan.spec.get('deadline')}"
    if plan.kind == "wait" or meant == "succeed":
        succeed(story, step.name, "{}")
    elif meant == "approve":
        succeed(story, step.name, _approved(None, nobody))
    elif meant == "reject":
        fail_step(story, step, f"rejected: {nobody}", "", "failed")
    else:
        fail_step(story, step, nobody, "", "timed_out")


_NOBODY = {"signal": "the signal did not come", "approval": "nobody decided"}


# ---------------------------------------------------------------- signals
def _signal(command: asked.SignalRun, story: Story) -> Decision:
    run = story.run
    waiting = [
        step.name for step in run.plan.steps.values() if step.kind == "signal" and step.signal == command.name
    ]
    if not waiting:
        return Rejected(
            "invalid",
            f"no step of run {story.run_id} waits for a signal {command.name!r}{_known(run, command.name)}",
        )
    if len(command.payload) > PAYLOAD_CHARS_MAX:
        return Rejected(
            "invalid", f"the payload has {len(command.payload)} characters, more than {PAYLOAD_CHARS_MAX}"
        )
    if as_mapping(command.payload) is None:
        return Rejected("invalid", "the payload of a signal must be a JSON object")
    kept = sum(name == command.name for name, _payload in run.signals)
    if kept >= sum(not run.steps[name].ended for name in waiting):
        return ()  # told before: whoever waits for it has it
    story.tell(happened.SignalReceived(command.name, command.payload, story.now))
    for name in waiting:
        if story.run.steps[name].status == "waiting":
            succeed(story, name, command.payload)
            break
    return tuple(story.events)


def _known(run: Run, wrong: str) -> str:
    names = sorted({step.signal for step in run.plan.steps.values() if step.kind == "signal"})
    near = get_close_matches(wrong, names, n=1)
    if near:
        return f": did you mean {near[0]}?"
    return f"; it waits for: {', '.join(names)}" if names else "; it has no signal step"


# ---------------------------------------------------------------- approvals
def _approval(command: asked.ApproveStep | asked.RejectStep, actor: str, story: Story) -> Decision:
    plan = story.run.plan.steps.get(command.step)
    if plan is None or plan.kind != "approval":
        names = ", ".join(name for name, step in story.run.plan.steps.items() if step.kind == "approval")
        return Rejected(
            "invalid",
            f"{command.step!r} is no approval of run {story.run_id}; its approvals: {names or 'none'}",
        )
    step = story.run.steps[command.step]
    approved = isinstance(command, asked.ApproveStep)
    if step.ended:
        same = step.status == ("succeeded" if approved else "failed")
        return (
            ()
            if same
            else Rejected("already_ended", f"step {step.name} is decided already: it {step.status}")
        )
    if step.status != "waiting":
        return Rejected("not_running", f"step {step.name} does not ask for approval yet: it is {step.status}")
    if len(command.note or "") > NOTE_CHARS_MAX:
        return Rejected("invalid", f"the note has more than {NOTE_CHARS_MAX} characters")
    by = plan.spec.get("by", ())
    if by and actor not in by:
        return Rejected("not_allowed", f"step {step.name} is for {', '.join(by)} to decide, not for {actor}")
    story.tell(
        happened.StepDecided(
            step.name, "approved" if approved else "rejected", actor, command.note, story.now
        )
    )
    if approved:
        succeed(story, step.name, _approved(actor, command.note))
    else:
        fail_step(
            story, step, f"rejected by {actor}{f': {command.note}' if command.note else ''}", "", "failed"
        )
    return tuple(story.events)


def _approved(by: str | None, note: str | None) -> str:
    return compact({"approved": True, "by": by, "note": note})
