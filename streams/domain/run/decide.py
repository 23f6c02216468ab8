"""The rules of a run: what each command causes, or why it is refused."""

from typing import Any, assert_never

from streams.domain.aggregate import Message, Rejected
from streams.domain.definition import Definition, check, compact, digest
from streams.domain.expressions import Language
from streams.domain.identity import run_id
from streams.domain.priority import mistake
from streams.domain.run import commands as asked
from streams.domain.run import events as happened
from streams.domain.run.attempts import decide_attempt
from streams.domain.run.calls import child_ended
from streams.domain.run.progress import begin, end_if_done, offer_again, proceed, stop
from streams.domain.run.state import Run, as_mapping, how_it_ended
from streams.domain.run.story import Decision, Story
from streams.domain.run.timers import tick
from streams.domain.run.waits import decide_people

REDRIVES = ("run", "all")
"""Which rejected records a rerun takes up: those of the run that is run again, or of any."""


def decide(message: Message, run: Run, language: Language, tenant_runs_max: int = 0) -> Decision:
    """Return what the command causes: nothing, when it is already so.

    ``tenant_runs_max``: so many runs of a tenant may be at work at once; 0: any number.
    """
    command: asked.Command = message.body
    if isinstance(command, asked.CreateRun):
        return _create(message, command, run, language, tenant_runs_max)
    if not run.exists:
        return Rejected("not_found", f"there is no run {message.aggregate_id}")
    story = Story(message.aggregate_id, run, message.now, language)
    if isinstance(command, asked.AttemptCommand):
        return decide_attempt(command, story)
    if isinstance(command, asked.PeopleCommand):
        return decide_people(command, message, story)
    match command:
        case asked.Tick():
            tick(story)
        case asked.NoteLimitGranted():
            _granted(command, story)
        case asked.NoteChildEnded():
            return child_ended(command, story)
        case asked.RerunRun():
            return _rerun(message, command, run)
        case _:
            return _standing(command, story)
    return tuple(story.events)


def _standing(command: asked.CancelRun | asked.PauseRun | asked.ResumeRun, story: Story) -> Decision:
    match command:
        case asked.CancelRun():
            return _cancel(command, story)
        case asked.PauseRun():
            return _pause(command, story)
        case asked.ResumeRun():
            return _resume(story)
        case _:
            assert_never(command)


# ---------------------------------------------------------------- the run as a whole
def _create(
    message: Message, command: asked.CreateRun, run: Run, language: Language, tenant_runs_max: int
) -> Decision:
    if run.exists:
        same = (command.pipeline, command.key, command.rerun_of) == (run.pipeline, run.key, run.rerun_of)
        taken = f"run {message.aggregate_id} exists already, of pipeline {run.pipeline}: choose another id"
        return () if same else Rejected("already_exists", taken)
    if problems := check(command.definition, language=language):
        return Rejected("invalid", "\n".join(map(str, problems)))
    if command.definition_hash != digest(command.definition):
        return Rejected("invalid", "definition_hash is not the sha256 (hex) of the definition's text")
    if wrong := mistake(command.priority):
        return Rejected("invalid", wrong)
    if as_mapping(command.input) is None:
        return Rejected("invalid", "input must be a JSON object, as text")
    reused = as_mapping(command.reused)
    if reused is None or not all(isinstance(result, dict) for result in reused.values()):
        return Rejected("invalid", "reused must be a JSON object, as text: step name -> its result")
    story = Story(message.aggregate_id, run, message.now, language)
    story.tell(_created(command, message.now, tenant_runs_max))
    strangers = ", ".join(sorted(reused.keys() - story.run.steps.keys()))
    named = f"reused names steps that the definition has not: {strangers}" if strangers else ""
    if wrong := named or _not_redriven(command.redrive, story.run):
        return Rejected("invalid", wrong)
    for name in story.run.steps:
        if name in reused:
            story.tell(_reused(name, reused[name], message.now))
    begin(story)
    end_if_done(story)
    return tuple(story.events)


def _created(command: asked.CreateRun, now: int, tenant_runs_max: int) -> happened.RunCreated:
    return happened.RunCreated(
        pipeline=command.pipeline,
        definition=command.definition,
        definition_hash=command.definition_hash,
        input=command.input,
        full_refresh=command.full_refresh,
        trigger=command.trigger,
        slot=command.slot,
        key=command.key,
        rerun_of=command.rerun_of,
        redrive=command.redrive,
        redrive_of=command.redrive_of,
        reused=command.reused,
        at=now,
        parent=command.parent,
        depth=command.depth,
        priority=command.priority or Definition.parse(command.definition).priority,
        # A parent holds its place while it waits for what it called: with one of its own each could wait for ever.
        above=command.above,
        callers=command.callers,
        tenant_runs_max=0 if command.parent else tenant_runs_max,
        chain=command.chain,
        listened=command.listened,
    )


def _reused(name: str, result: dict[str, Any], now: int) -> happened.StepSucceeded:
    counts = {
        key: _count(result.get(key)) for key in ("records_in", "records_out", "records_rejected", "bytes")
    }
    output = compact(result.get("output") or {})
    return happened.StepSucceeded(step=name, attempt=0, output=output, at=now, reused=True, **counts)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _cancel(command: asked.CancelRun, story: Story) -> Decision:
    if story.run.status == "cancelled":
        return ()
    if story.run.ended:
        return _already_ended(story)
    if story.run.ending is not None and not command.now:
        if story.run.ending[0] == "cancelled":
            return ()
        parts = "compensations" if story.run.closing is None else "finally steps"
        hint = f"its {parts} are at work: cancel it with now, to stop them too"
        return Rejected("already_ended", f"the steps of run {story.run_id} have ended, {hint}")
    why = f"cancelled: {command.reason}" if command.reason else "cancelled"
    stop(story, "cancelled", why, now=command.now)
    return tuple(story.events)


def _pause(command: asked.PauseRun, story: Story) -> Decision:
    if story.run.ended:
        return _already_ended(story)
    if story.run.ending is not None:
        parts = "compensations" if story.run.closing is None else "finally steps"
        return Rejected("not_running", f"the steps of run {story.run_id} have ended, and its {parts} go on")
    if story.run.status != "paused":
        story.tell(happened.RunPaused(story.now, command.reason))
    return tuple(story.events)


def _resume(story: Story) -> Decision:
    if story.run.ended:
        return _already_ended(story)
    if story.run.status == "paused":
        story.tell(happened.RunResumed(story.now))
        # Runners that took an offer while the run was paused were refused and dropped it: offer that attempt again.
        for step in tuple(story.run.steps.values()):
            if step.status == "queued":
                offer_again(story, step)
        proceed(story)
        tick(story)
    return tuple(story.events)


def _granted(command: asked.NoteLimitGranted, story: Story) -> None:
    if story.run.waiting_for == command.limit:
        story.tell(happened.LimitGranted(command.limit, story.now))
        begin(story)


def _already_ended(story: Story) -> Rejected:
    return Rejected("already_ended", f"run {story.run_id} has ended: it {how_it_ended(story.run.status)}")


def _rerun(message: Message, command: asked.RerunRun, run: Run) -> Decision:
    new_id = command.run_id or run_id(message.tenant, run.pipeline, message.command_id)
    if new_id in run.reruns:
        return ()
    if not run.ended:
        return Rejected(
            "not_ended", f"run {message.aggregate_id} is still {run.status}: wait for its end, or cancel it"
        )
    if command.from_step is not None and command.from_step not in run.steps:
        names = ", ".join(run.steps)
        return Rejected(
            "invalid", f"run {message.aggregate_id} has no step {command.from_step!r}; its steps: {names}"
        )
    if new_id == message.aggregate_id:
        return Rejected("invalid", "a rerun needs an id of its own")
    if command.redrive is not None:
        if command.redrive not in REDRIVES or command.from_step is None:
            return Rejected("invalid", f"redrive is one of {', '.join(REDRIVES)}, and needs from_step")
        if wrong := _not_redriven(command.from_step, run):
            return Rejected("invalid", wrong)
    return (happened.RerunRequested(new_id, command.from_step, message.now, command.redrive),)


def _not_redriven(name: str | None, run: Run) -> str:
    """Return why this step cannot take up what it rejected, or nothing."""
    if name is None or (name in run.plan.steps and run.plan.steps[name].kind == "transform"):
        return ""
    return f"{name} is no transform, and only a transform rejects records"
