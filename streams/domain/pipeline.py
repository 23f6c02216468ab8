"""Pipeline: a definition with versions, and the place where runs are asked for."""

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start a run of the current version. Without ``run_id`` the id is derived from ``key``, else from the command id.

    ``input`` is JSON text. ``trigger`` is manual | schedule | api; ``slot`` the nominal time of a schedule (ms).
    """

    run_id: str | None = None
    key: str | None = None
    input: str = "{}"
    full_refresh: bool = False
    trigger: str = "manual"
    slot: int | None = None


# ---------------------------------------------------------------- events (wire formats: version with care)
@dataclass(frozen=True, slots=True)
class PipelineApplied:
    """``definition`` is canonical JSON, ``definition_hash`` its sha256 (hex), ``number`` counts versions from 1."""

    definition: str
    definition_hash: str
    number: int
    at: int


@dataclass(frozen=True, slots=True)
class PipelinePaused:
    at: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PipelineResumed:
    at: int


@dataclass(frozen=True, slots=True)
class PipelineDeleted:
    at: int


@dataclass(frozen=True, slots=True)
class RunRequested:
    """A run was asked for and granted; the run itself is created by the follow-up command CreateRun."""

    run_id: str
    definition_hash: str
    input: str
    full_refresh: bool
    trigger: str
    slot: int | None
    key: str | None
    at: int


@dataclass(frozen=True, slots=True)
class RunRefused:
    """A schedule asked for a run while the pipeline was paused or deleted."""

    run_id: str
    slot: int | None
    reason: str
    at: int
