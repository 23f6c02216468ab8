"""The pipelines that start when a run of this one has ended: part of the pipeline that they listen to.

A pipeline's file names those that it starts after; each of these is told, and calls its listeners when a run ends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streams.domain.aggregate import Message


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class SetListener:
    """``pipeline`` starts when a run of this one ends with one of ``status``; when that is empty it does so no more."""

    pipeline: str
    status: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoteRunEnded:
    """A run of this pipeline has ended. ``output`` (JSON text) is what its listeners get as their input.

    ``chain``: the pipelines whose runs have led to it, from the first.
    """

    run_id: str
    status: str
    output: str = "{}"
    chain: tuple[str, ...] = ()


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class ListenerSet:
    """``pipeline`` starts when a run of this one ends with one of ``status``, if that is not empty."""

    pipeline: str
    status: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True)
class ListenersCalled:
    """The end of a run starts ``listeners``, one run each, with ``input``; ``chain`` ends with this pipeline."""

    run_id: str
    status: str
    listeners: tuple[str, ...]
    input: str
    chain: tuple[str, ...]
    at: int


Command = SetListener | NoteRunEnded
Event = ListenerSet | ListenersCalled
Listeners = Mapping[str, tuple[str, ...]]
"""Pipelines, each with the ends that start it."""


def decide(message: Message, command: Command, listeners: Listeners) -> tuple[Event, ...]:
    """Return what the command causes; the pipeline itself need not have been applied yet."""
    if isinstance(command, SetListener):
        status = tuple(command.status)
        known = listeners.get(command.pipeline, ())
        return () if status == known else (ListenerSet(command.pipeline, status, message.now),)
    called = tuple(sorted(name for name, ends in listeners.items() if command.status in ends))
    if not called:
        return ()
    chain = (*command.chain, message.aggregate_id)
    return (ListenersCalled(command.run_id, command.status, called, command.output, chain, message.now),)


def circle(name: str, upstream: Iterable[str], listeners: Listeners) -> str | None:
    """Return what is wrong when the pipeline ``name`` would start after one that starts after it; None if nothing is."""
    other = next((other for other in upstream if other in listeners), None)
    if other is None:
        return None
    mutual = f"{name} would start after {other}, and {other} starts after {name}"
    return f"spec.triggers: {mutual}: remove one of these triggers"


def evolve(listeners: Listeners, event: ListenerSet) -> Listeners:
    """Return the listeners after the event."""
    others = {name: ends for name, ends in listeners.items() if name != event.pipeline}
    return {**others, event.pipeline: tuple(event.status)} if event.status else others
