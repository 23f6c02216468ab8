"""What has happened to a run. Wire formats: version with care."""

from dataclasses import dataclass

from streams.domain.labels import ANY
from streams.domain.priority import NORMAL


@dataclass(frozen=True, slots=True)
class RunCreated:
    """The run exists, with its definition pinned. ``parent``: the run whose step it is; ``depth`` runs are above it.

    ``above`` are these, from the top, ``callers`` the step of each that called (``pipeline/step``). ``tenant_runs_max``: so many
    runs of its tenant may be at work at once; 0: any number, or its parent counts for it.
    ``chain``: the pipelines whose runs have led to it, from the first. ``listened``: its pipeline is told of its end.
    ``redrive``: this transform also takes up what it rejected in the run ``redrive_of`` (None: in any run).
    """

    pipeline: str
    definition: str
    definition_hash: str
    input: str
    full_refresh: bool
    trigger: str
    slot: int | None
    key: str | None
    rerun_of: str | None
    reused: str
    at: int
    parent: str | None = None
    depth: int = 0
    priority: str = NORMAL
    tenant_runs_max: int = 0
    above: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    listened: bool = False
    redrive: str | None = None
    redrive_of: str | None = None


@dataclass(frozen=True, slots=True)
class StepOffered:
    """The step's attempt is on ``tasks.<queue>``, in the lane of the run's ``priority``.

    ``settings`` (JSON text): its block, where expressions had to be evaluated. ``until`` (ms) is when no runner may have
    taken it for too long.
    """

    step: str
    attempt: int
    queue: str
    at: int
    settings: str | None = None
    priority: str = NORMAL
    until: int | None = None


@dataclass(frozen=True, slots=True)
class StepClaimed:
    """A runner holds the attempt under ``token``; ``labels`` are the runner's, separated by commas."""

    step: str
    attempt: int
    token: str
    runner: str
    at: int
    labels: str = ANY


@dataclass(frozen=True, slots=True)
class StepCheckpointed:
    """The attempt has saved how far it is: ``checkpoint`` (a JSON object as text) is given to the next attempt.

    The other fields are the heartbeat's that brought it.
    """

    step: str
    attempt: int
    checkpoint: str
    records_in: int
    records_out: int
    records_rejected: int
    bytes: int
    percent: float | None
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class StepLost:
    """The lease ran out: the runner is gone or cut off. The step is offered again.

    ``handed_back``: the runner was told to stop, and gave the lease back.
    """

    step: str
    attempt: int
    runner: str
    at: int
    handed_back: bool = False


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    """The attempt's result counts; ``reused``: it was another run's (``rerun_of``), nothing was done here."""

    step: str
    attempt: int
    output: str
    records_in: int
    records_out: int
    records_rejected: int
    bytes: int
    at: int
    reused: bool = False


@dataclass(frozen=True, slots=True)
class StepWaiting:
    """The run itself waits: for time to pass, a signal, an approval.

    ``waits_for`` says it for people (``signal invoice``); ``until`` (ms) is when the waiting ends by itself.
    """

    step: str
    waits_for: str
    until: int | None
    at: int


@dataclass(frozen=True, slots=True)
class StepDecided:
    """Somebody who may has decided. ``decision`` is approved | rejected; what follows from it is told after it."""

    step: str
    decision: str
    by: str
    note: str | None
    at: int


@dataclass(frozen=True, slots=True)
class StepMapped:
    """The step is done once for each of ``items`` (JSON text of a list), as ``step[0]``, ``step[1]`` and so on.

    Of a repeat, whose turns these are, ``total`` is how many there may be, and ``items`` is empty.
    """

    step: str
    items: str
    total: int
    at: int


@dataclass(frozen=True, slots=True)
class StepCalled:
    """The step's attempt is the run ``run_id`` of another pipeline. ``input`` is JSON text.

    ``until`` (ms) is when the attempt has taken too long.
    """

    step: str
    attempt: int
    pipeline: str
    run_id: str
    input: str
    until: int | None
    at: int


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """The run that the step's attempt has called is at its end. ``status`` is how it ended, or refused.

    What follows for the step is told after it.
    """

    step: str
    attempt: int
    run_id: str
    status: str
    error: str | None
    at: int


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """Something has happened that a step waits for or will wait for. ``payload`` is JSON text."""

    name: str
    payload: str
    at: int


@dataclass(frozen=True, slots=True)
class StepRetryScheduled:
    """The attempt failed; the next one is offered at ``retry_at`` (ms)."""

    step: str
    attempt: int
    error: str
    tail: str
    retry_at: int
    at: int


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The step failed for good. ``status`` is failed | timed_out."""

    step: str
    attempt: int
    error: str
    tail: str
    status: str
    at: int


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """Not run. ``cause``: failure (of a step before it), condition (``when``, a switch), hand (somebody left it out)."""

    step: str
    reason: str
    at: int
    cause: str = "failure"


@dataclass(frozen=True, slots=True)
class StepCancelled:
    """The step was not at its end when the run was cancelled or timed out."""

    step: str
    attempt: int
    at: int


@dataclass(frozen=True, slots=True)
class RunPaused:
    """No steps are offered."""

    at: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RunResumed:
    """Steps are offered again."""

    at: int


@dataclass(frozen=True, slots=True)
class RunCompensating:
    """The steps proper are at their end, and what was done is undone before the run ends as ``status`` says.

    ``steps`` is JSON text: the compensations, in the order they are done.
    """

    status: str
    error: str | None
    steps: str
    at: int


@dataclass(frozen=True, slots=True)
class RunFinishing:
    """The steps proper are at their end, and the ``finally`` steps begin; the run will end as ``status`` says."""

    status: str
    error: str | None
    at: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The one terminal event. ``status`` is succeeded | failed | cancelled | timed_out."""

    status: str
    error: str | None
    pipeline: str
    slot: int | None
    trigger: str
    at: int


@dataclass(frozen=True, slots=True)
class LimitAwaited:
    """No step is offered before the limit lets the run in."""

    limit: str
    max: int
    at: int


@dataclass(frozen=True, slots=True)
class LimitGranted:
    """The run is in, up to its end."""

    limit: str
    at: int


@dataclass(frozen=True, slots=True)
class RerunRequested:
    """Somebody asked for this ended run again; the new run is created by the follow-up command CreateRun."""

    run_id: str
    from_step: str | None
    at: int
    redrive: str | None = None


StepEvent = (
    StepOffered
    | StepCheckpointed
    | StepLost
    | StepRetryScheduled
    | StepFailed
    | StepSkipped
    | StepCancelled
    | StepDecided
    | ChildEnded
)
RunEvent = (
    RunCreated
    | RunPaused
    | RunResumed
    | RunCompensating
    | RunFinishing
    | RunEnded
    | RerunRequested
    | LimitAwaited
    | LimitGranted
)
Event = (
    RunEvent
    | StepClaimed
    | StepWaiting
    | StepMapped
    | StepCalled
    | StepSucceeded
    | SignalReceived
    | StepEvent
)
