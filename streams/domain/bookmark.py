"""Bookmark: how far a step has read its source, moved in the same Kafka transaction as the records.

Aggregate id: ``<pipeline>/<step>``. ``bookmark`` is JSON text: a Singer STATE value for an extract, or, for a step
that reads a dataset, ``{"topic_id", "generation", "next": {"<partition>": offset}}``.
"""

from dataclasses import dataclass


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
    ``final`` gives the bookmark back."""

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
    run: str
    attempt: int
    token: str
    at: int


@dataclass(frozen=True, slots=True)
class GenerationStarted:
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
    run: str
    at: int


@dataclass(frozen=True, slots=True)
class BookmarkSet:
    bookmark: str
    at: int


@dataclass(frozen=True, slots=True)
class BookmarkReset:
    at: int
