"""Pipeline: a definition with versions, and the place where runs are asked for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never, get_args

from msgspec import Struct
from msgspec.structs import replace

from streams.domain import listeners as listening
from streams.domain.aggregate import Aggregate, Effect, Message, Rejected, Send
from streams.domain.definition import Definition, canonical, check, compact, digest
from streams.domain.expressions import Language
from streams.domain.findings import Problem
from streams.domain.identity import run_id
from streams.domain.priority import mistake
from streams.domain.run.commands import CancelRun, CreateRun
from streams.domain.starts import (
    TRIGGERS,
    RecallRun,
    RunRecalled,
    RunRefused,
    RunRequested,
    StartRun,
)
from streams.domain.validation import NextSlot, ScheduleCheck


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class ApplyPipeline:
    """Create the pipeline or give it a new version. ``definition`` is canonical JSON (SURFACE: the pipeline file)."""

    definition: str


@dataclass(frozen=True, slots=True)
class PausePipeline:
    """Start no more runs."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ResumePipeline:
    """Start runs again."""


@dataclass(frozen=True, slots=True)
class DeletePipeline:
    """Forget the pipeline; its runs stay."""


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class PipelineApplied:
    """``definition`` is canonical JSON, ``definition_hash`` its sha256 (hex), ``number`` counts versions from 1.

    ``left``: pipelines whose runs started the version before by their end, and this one no more.
    """

    definition: str
    definition_hash: str
    number: int
    at: int
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PipelinePaused:
    """No more runs are granted."""

    at: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PipelineResumed:
    """Runs are granted again."""

    at: int


@dataclass(frozen=True, slots=True)
class PipelineDeleted:
    """The pipeline is forgotten; its runs stay."""

    at: int


Command = (
    ApplyPipeline | PausePipeline | ResumePipeline | DeletePipeline | StartRun | RecallRun | listening.Command
)
Event = (
    PipelineApplied | PipelinePaused | PipelineResumed | PipelineDeleted
    | RunRequested | RunRefused | RunRecalled | listening.Event
)  # fmt: skip


# ---------------------------------------------------------------- state
STARTS_KEPT = 256
_ASKED_BY_NOBODY = ("schedule", "run", "event")
"""These are told by an event that there will be no run: no one reads the outcome of their command."""


class Pipeline(Struct, frozen=True, omit_defaults=True):
    """``status`` is "" (never applied), active, paused or deleted.

    ``starts`` are the latest starts that bore a key: key -> run id (older ones are caught by the run itself, which is
    created once). ``last_run`` is the run requested last. ``listeners`` start when a run ends, each after these ends.
    """

    status: str = ""
    definition: str = ""
    definition_hash: str = ""
    number: int = 0
    starts: Mapping[str, str] = {}
    last_run: str | None = None
    listeners: listening.Listeners = {}

    @property
    def exists(self) -> bool:
        """Whether it has been applied, and not deleted since."""
        return self.status in ("active", "paused")


# ---------------------------------------------------------------- decide
Decision = tuple[Event, ...] | Rejected


def decide(
    message: Message, pipeline: Pipeline, check_schedule: ScheduleCheck, language: Language
) -> Decision:
    """Return what the command causes: nothing, when it is already so."""
    command: Command = message.body
    if isinstance(command, StartRun):
        return _start(message, command, pipeline, language)
    if isinstance(command, RecallRun):
        return (RunRecalled(command.run_id, command.reason, message.now),)
    if isinstance(command, listening.Command):
        return listening.decide(message, command, pipeline.listeners)
    if isinstance(command, ApplyPipeline):
        return _apply(message, command, pipeline, check(command.definition, check_schedule, language))
    if not pipeline.exists:
        gone = isinstance(command, DeletePipeline) and pipeline.status == "deleted"
        return () if gone else _missing(message)
    match command:
        case DeletePipeline():
            return (PipelineDeleted(message.now),)
        case PausePipeline():
            return () if pipeline.status == "paused" else (PipelinePaused(message.now, command.reason),)
        case ResumePipeline():
            return () if pipeline.status == "active" else (PipelineResumed(message.now),)
        case _:
            assert_never(command)


def _missing(message: Message) -> Rejected:
    return Rejected("not_found", f"there is no pipeline {message.aggregate_id}: apply its file first")


def _apply(
    message: Message, command: ApplyPipeline, pipeline: Pipeline, problems: tuple[Problem, ...]
) -> Decision:
    if problems:
        return Rejected("invalid", "\n".join(map(str, problems)))
    document = json.loads(command.definition)
    name = document["metadata"]["name"]
    if name != message.aggregate_id:
        detail = f"the file says metadata.name {name!r}, the pipeline is {message.aggregate_id!r}: make them the same"
        return Rejected("invalid", detail)
    text = canonical(document)
    pinned = digest(text)
    if pipeline.exists and pipeline.definition_hash == pinned:
        return ()
    upstream = Definition.parse(text).upstream
    if mutual := listening.circle(name, upstream, pipeline.listeners):
        return Rejected("invalid", mutual)
    before = Definition.parse(pipeline.definition).upstream if pipeline.exists else {}
    left = tuple(other for other in before if other not in upstream)
    return (PipelineApplied(text, pinned, pipeline.number + 1, message.now, left),)


def _start(message: Message, command: StartRun, pipeline: Pipeline, language: Language) -> Decision:
    new_id = command.run_id or run_id(message.tenant, message.aggregate_id, command.key or message.command_id)
    if command.key in pipeline.starts or new_id == pipeline.last_run:
        return ()
    if command.trigger not in TRIGGERS:
        return Rejected("invalid", f"trigger {command.trigger!r} is not known: one of {', '.join(TRIGGERS)}")
    if wrong := mistake(command.priority):
        return Rejected("invalid", wrong)
    if pipeline.status != "active":
        reason = "paused" if pipeline.status == "paused" else "not_found"
        if command.trigger in _ASKED_BY_NOBODY:
            return (RunRefused(new_id, command.slot, reason, message.now, command.parent),)
        paused = f"pipeline {message.aggregate_id} is paused: resume it, then start the run again"
        return Rejected("paused", paused) if reason == "paused" else _missing(message)
    if command.trigger in ("run", "event") and (reason := _unfit(message, command, pipeline, language)):
        return (RunRefused(new_id, command.slot, reason, message.now, command.parent),)
    if not _is_object(command.input):
        return Rejected("invalid", 'input must be a JSON object, as text, for example {"day": "2024-05-01"}')
    return (
        RunRequested(
            run_id=new_id,
            definition_hash=pipeline.definition_hash,
            input=command.input,
            full_refresh=command.full_refresh,
            trigger=command.trigger,
            slot=command.slot,
            key=command.key or None,
            at=message.now,
            parent=command.parent,
            depth=command.depth,
            priority=command.priority,
            above=command.above,
            callers=command.callers,
            chain=command.chain,
        ),
    )


def _unfit(message: Message, command: StartRun, pipeline: Pipeline, language: Language) -> str:
    """Return why another run or an event gets no run of this pipeline, if so."""
    if check(pipeline.definition, language=language):
        return "invalid"
    if command.parent is None and message.aggregate_id in command.chain:
        return f"cycle: {' → '.join((*command.chain, message.aggregate_id))}"
    return ""


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


# ---------------------------------------------------------------- evolve
def evolve(pipeline: Pipeline, event: Event) -> Pipeline:
    """Return the pipeline after the event; a fact is never refused."""
    match event:
        case RunRequested():
            return _started(pipeline, event)
        case PipelineApplied():
            return replace(
                pipeline,
                status="paused" if pipeline.status == "paused" else "active",
                definition=event.definition,
                definition_hash=event.definition_hash,
                number=event.number,
            )
        case PipelinePaused():
            return replace(pipeline, status="paused")
        case PipelineResumed():
            return replace(pipeline, status="active")
        case PipelineDeleted():
            return replace(pipeline, status="deleted")
        case listening.ListenerSet():
            return replace(pipeline, listeners=listening.evolve(pipeline.listeners, event))
        case RunRefused() | RunRecalled() | listening.ListenersCalled():
            return pipeline
        case _:
            assert_never(event)


def _started(pipeline: Pipeline, event: RunRequested) -> Pipeline:
    if event.key is None:
        return replace(pipeline, last_run=event.run_id)
    starts = {**pipeline.starts, event.key: event.run_id}
    if len(starts) > STARTS_KEPT:
        del starts[next(iter(starts))]
    return replace(pipeline, starts=starts, last_run=event.run_id)


# ---------------------------------------------------------------- effects
def effects(_tenant: str, pipeline_id: str, event: Event, pipeline: Pipeline) -> tuple[Effect, ...]:
    """Return the creation of a run that was granted, with the definition of this moment pinned; the end of a recalled one."""
    if isinstance(event, RunRecalled):
        return (Send("run", event.run_id, CancelRun(event.reason)),)
    if not isinstance(event, RunRequested):
        return ()
    body = CreateRun(
        pipeline=pipeline_id,
        definition=pipeline.definition,
        definition_hash=pipeline.definition_hash,
        input=event.input,
        full_refresh=event.full_refresh,
        trigger=event.trigger,
        slot=event.slot,
        key=event.key,
        parent=event.parent,
        depth=event.depth,
        priority=event.priority,
        above=event.above,
        callers=event.callers,
        chain=event.chain,
        listened=bool(pipeline.listeners),
    )
    return (Send("run", event.run_id, body),)


def reply(command: Command, pipeline: Pipeline) -> str | None:
    """Return the id of the run for a start, as JSON: {"run": id}; the same one for every start under the same key."""
    if not isinstance(command, StartRun):
        return None
    return compact({"run": pipeline.starts.get(command.key or "") or command.run_id or pipeline.last_run})


# ---------------------------------------------------------------- declaration
def aggregate(next_slot: NextSlot, language: Language) -> Aggregate:
    """Return the declaration; what the calendar and the language of expressions cannot use is refused."""

    def check_schedule(schedule: Mapping[str, Any]) -> str | None:
        try:
            next_slot(schedule, 0)
        except ValueError as error:
            return str(error)
        return None

    return Aggregate(
        name="pipeline",
        commands=get_args(Command),
        events=get_args(Event),
        initial=Pipeline(),
        decide=partial(decide, check_schedule=check_schedule, language=language),
        evolve=evolve,
        effects=effects,
        reply=reply,
    )
