"""Bookmark: how far a step has read its source, moved in the same Kafka transaction as the records.

Aggregate id: ``<pipeline>/<step>``. ``bookmark`` is JSON text: a Singer STATE value for an extract, or, for a step
that reads a dataset, ``{"topic_id", "generation", "next": {"<partition>": offset}}``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never, get_args

from msgspec import Struct
from msgspec.structs import replace

from streams.domain.aggregate import Aggregate, Message, Rejected
from streams.domain.definition import compact


# ---------------------------------------------------------------- commands
@dataclass(frozen=True, slots=True)
class Begin:
    """An attempt takes the bookmark and learns where to go on (in the outcome's reply, JSON: bookmark, generation,
    starts). Rejected ``held`` while another run holds it, ``stale_attempt`` for an older attempt of the same run.

    ``ends`` are the end offsets of the step's own dataset topic at this moment (partition -> offset): where a new
    generation starts. ``generation`` (uuid) is used if one has to begin: first time, or ``full_refresh``.
    """

    run: str
    attempt: int
    token: str
    generation: str
    topic_id: str
    ends: dict[str, int]
    full_refresh: bool = False


@dataclass(frozen=True, slots=True)
class Advance:
    """Written last in the transaction that wrote the records. ``counts``: partition -> records of this transaction.
    ``final`` gives the bookmark back.
    """

    run: str
    attempt: int
    token: str
    bookmark: str
    counts: dict[str, int]
    rejected: int = 0
    final: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseBookmark:
    """The run ended: whatever it held is free."""

    run: str


@dataclass(frozen=True, slots=True)
class SetBookmark:
    """An operator moves the bookmark by hand."""

    bookmark: str


@dataclass(frozen=True, slots=True)
class ResetBookmark:
    """An operator makes the next run read everything, in a new generation."""


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class BookmarkBegun:
    """The attempt holds the bookmark from now on."""

    run: str
    attempt: int
    token: str
    at: int


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """Everything is read anew; the dataset of this generation begins at ``starts`` (partition -> offset)."""

    generation: str
    topic_id: str
    starts: dict[str, int]
    run: str
    at: int


@dataclass(frozen=True, slots=True)
class BookmarkAdvanced:
    """``records`` and ``rejected`` are totals of the generation after this step forward."""

    run: str
    attempt: int
    bookmark: str
    counts: dict[str, int]
    records: int
    rejected: int
    at: int


@dataclass(frozen=True, slots=True)
class BookmarkReleased:
    """``ended``: the run is over, and cannot begin here again."""

    run: str
    at: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class BookmarkSet:
    """An operator moved the bookmark."""

    bookmark: str
    at: int


@dataclass(frozen=True, slots=True)
class BookmarkReset:
    """An operator asked for a new generation: the next Begin starts it."""

    at: int


Command = Begin | Advance | ReleaseBookmark | SetBookmark | ResetBookmark
Event = BookmarkBegun | GenerationStarted | BookmarkAdvanced | BookmarkReleased | BookmarkSet | BookmarkReset


# ---------------------------------------------------------------- state
ENDED_RUNS_KEPT = 128


class Bookmark(Struct, frozen=True, omit_defaults=True):
    """``value`` is JSON text, None at the start of a generation. ``run``, ``attempt``, ``token`` are who began last;
    ``held`` says whether they still hold it.

    ``reset``: the next Begin starts a generation. ``refreshed_by``: the run that started this one. ``records`` and
    ``rejected`` are totals of the generation. ``ended`` are the latest runs that can hold it no more: a runner that
    slept through the end of its run must not take the bookmark for ever.
    """

    value: str | None = None
    generation: str = ""
    topic_id: str = ""
    starts: Mapping[str, int] = {}
    refreshed_by: str = ""
    reset: bool = False
    run: str = ""
    attempt: int = 0
    token: str = ""
    held: bool = False
    records: int = 0
    rejected: int = 0
    ended: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether anything has been read under it."""
        return self.generation != ""


# ---------------------------------------------------------------- decide
Decision = tuple[Event, ...] | Rejected


def decide(message: Message, bookmark: Bookmark) -> Decision:
    """Return what the command causes: nothing, when it is already so."""
    command: Command = message.body
    match command:
        case Begin():
            return _begin(command, bookmark, message.now)
        case Advance():
            return _advance(command, bookmark, message.now)
        case ReleaseBookmark():
            return (
                () if command.run in bookmark.ended else (BookmarkReleased(command.run, message.now, True),)
            )
        case SetBookmark() | ResetBookmark():
            return _by_hand(message, command, bookmark)
        case _:
            assert_never(command)


def _begin(command: Begin, bookmark: Bookmark, now: int) -> Decision:
    if command.run in bookmark.ended:
        return Rejected("stale_attempt", f"run {command.run} has ended: stop the attempt")
    if bookmark.held and command.run != bookmark.run:
        return Rejected("held", _holder(bookmark))
    if command.run == bookmark.run and command.attempt < bookmark.attempt:
        newer = f"attempt {bookmark.attempt} of run {command.run} has begun: stop attempt {command.attempt}"
        return Rejected("stale_attempt", newer)
    if (command.run, command.attempt) == (bookmark.run, bookmark.attempt) and command.token != bookmark.token:
        return Rejected(
            "stale_attempt", f"attempt {command.attempt} of run {command.run} has begun with another token"
        )
    if not command.run or not command.token or not command.generation:
        return Rejected("invalid", "run, token and generation (a fresh uuid) are needed")
    events: list[Event] = []
    if not _holds(command, bookmark):
        events.append(BookmarkBegun(command.run, command.attempt, command.token, now))
    if _starts_generation(command, bookmark):
        events.append(GenerationStarted(command.generation, command.topic_id, command.ends, command.run, now))
    return tuple(events)


def _starts_generation(command: Begin, bookmark: Bookmark) -> bool:
    """Return whether everything is read anew: first time, by an operator's or a run's wish, or the topic is another one.

    A later attempt of the run that wished for it goes on where the earlier one stopped.
    """
    wished = command.full_refresh and bookmark.refreshed_by != command.run
    return not bookmark.exists or bookmark.reset or wished or command.topic_id != bookmark.topic_id


def _advance(command: Advance, bookmark: Bookmark, now: int) -> Decision:
    if not _holds(command, bookmark):
        if bookmark.held and command.run == bookmark.run:
            return Rejected(
                "stale_attempt", f"attempt {bookmark.attempt} has taken over from {command.attempt}"
            )
        return Rejected("not_held", f"run {command.run} does not hold the bookmark: begin first")
    if not _is_json(command.bookmark):
        return Rejected("invalid", "a bookmark is JSON text")
    if command.rejected < 0 or any(count < 0 for count in command.counts.values()):
        return Rejected("invalid", "counts cannot be negative")
    events: list[Event] = []
    records = sum(command.counts.values())
    if records or command.rejected or command.bookmark != bookmark.value:
        events.append(
            BookmarkAdvanced(
                run=command.run,
                attempt=command.attempt,
                bookmark=command.bookmark,
                counts=command.counts,
                records=bookmark.records + records,
                rejected=bookmark.rejected + command.rejected,
                at=now,
            )
        )
    if command.final:
        events.append(BookmarkReleased(command.run, now))
    return tuple(events)


def _by_hand(message: Message, command: SetBookmark | ResetBookmark, bookmark: Bookmark) -> Decision:
    if not bookmark.exists:
        never = f"there is no bookmark {message.aggregate_id}: nothing has been read yet"
        return Rejected("not_found", never)
    if bookmark.held:
        return Rejected("held", _holder(bookmark))
    if isinstance(command, ResetBookmark):
        return () if bookmark.reset else (BookmarkReset(message.now),)
    if not _is_json(command.bookmark):
        return Rejected("invalid", "a bookmark is JSON text")
    same = bookmark.value == command.bookmark and not bookmark.reset
    return () if same else (BookmarkSet(command.bookmark, message.now),)


def _holder(bookmark: Bookmark) -> str:
    return f"run {bookmark.run} (attempt {bookmark.attempt}) holds the bookmark: wait until it has ended, or cancel it"


def _holds(command: Begin | Advance, bookmark: Bookmark) -> bool:
    holder = (bookmark.run, bookmark.attempt, bookmark.token)
    return bookmark.held and (command.run, command.attempt, command.token) == holder


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


# ---------------------------------------------------------------- evolve
def evolve(bookmark: Bookmark, event: Event) -> Bookmark:
    """Return the bookmark after the event; a fact is never refused."""
    match event:
        case BookmarkAdvanced():
            return replace(bookmark, value=event.bookmark, records=event.records, rejected=event.rejected)
        case BookmarkBegun():
            return replace(bookmark, run=event.run, attempt=event.attempt, token=event.token, held=True)
        case BookmarkReleased():
            held = bookmark.held and bookmark.run != event.run
            ended = (*bookmark.ended, event.run)[-ENDED_RUNS_KEPT:] if event.ended else bookmark.ended
            return replace(bookmark, held=held, ended=ended)
        case GenerationStarted():
            return replace(
                bookmark,
                value=None,
                generation=event.generation,
                topic_id=event.topic_id,
                starts=event.starts,
                refreshed_by=event.run,
                reset=False,
                records=0,
                rejected=0,
            )
        case BookmarkSet():
            return replace(bookmark, value=event.bookmark, reset=False)
        case BookmarkReset():
            return replace(bookmark, value=None, reset=True)
        case _:
            assert_never(event)


# ---------------------------------------------------------------- declaration
def reply(command: Command, bookmark: Bookmark) -> str | None:
    """Return where an attempt goes on, as JSON: bookmark (or null), generation, starts (partition -> offset)."""
    if not isinstance(command, Begin):
        return None
    value = None if bookmark.value is None else json.loads(bookmark.value)
    return compact({"bookmark": value, "generation": bookmark.generation, "starts": dict(bookmark.starts)})


AGGREGATE = Aggregate(
    name="bookmark",
    commands=get_args(Command),
    events=get_args(Event),
    initial=Bookmark(),
    decide=decide,
    evolve=evolve,
    reply=reply,
    unindexed=(Begin,),
)
