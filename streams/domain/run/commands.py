"""What may be asked of a run: by people, by runners, by its own clock."""

from dataclasses import dataclass

from streams.domain.labels import ANY


@dataclass(frozen=True, slots=True)
class CreateRun:
    """Begin this run. ``reused`` is JSON text: step name -> its result in ``rerun_of`` (status, output, counts).

    ``parent`` is the run whose step this one is; ``depth`` runs are above it: ``above``, from the top; ``callers``: the
    step of each that called (``pipeline/step``). ``priority``: None is the definition's. ``chain``: the pipelines whose runs
    have led to it, from the first. ``listened``: its pipeline is told of its end. ``redrive`` is the transform that also
    takes up the records it rejected in the run ``redrive_of`` (None: in any run), as far as they are of its dataset's
    present generation.
    """

    pipeline: str
    definition: str
    definition_hash: str
    input: str = "{}"
    full_refresh: bool = False
    trigger: str = "manual"
    slot: int | None = None
    key: str | None = None
    rerun_of: str | None = None
    reused: str = "{}"
    parent: str | None = None
    depth: int = 0
    priority: str | None = None
    above: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    listened: bool = False
    redrive: str | None = None
    redrive_of: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimStep:
    """A runner takes an offered attempt; ``token`` (uuid) is its lease from now on.

    ``labels`` are the runner's, separated by commas.
    """

    step: str
    attempt: int
    token: str
    runner: str
    labels: str = ANY


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The holder of the lease is alive, and how far it is; kept in memory, but for the checkpoint.

    ``percent`` is 0 to 100, ``text`` what the program says. ``checkpoint`` is a JSON object as text, given to the next
    attempt; None: the one before stands.
    """

    step: str
    attempt: int
    token: str
    records_in: int = 0
    records_out: int = 0
    records_rejected: int = 0
    bytes: int = 0
    percent: float | None = None
    text: str = ""
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class CompleteStep:
    """The attempt succeeded. ``output`` is JSON text."""

    step: str
    attempt: int
    token: str
    output: str = "{}"
    records_in: int = 0
    records_out: int = 0
    records_rejected: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class FailStep:
    """The attempt failed. ``retryable`` False ends the step at once.

    ``handed_back``: it did not fail, its runner is stopping. The step is offered again, and no retry is used up.
    """

    step: str
    attempt: int
    token: str
    error: str
    retryable: bool = True
    tail: str = ""
    handed_back: bool = False


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Stop everything that is not at its end; then do the ``finally`` steps, unless ``now``."""

    reason: str | None = None
    now: bool = False


@dataclass(frozen=True, slots=True)
class PauseRun:
    """Offer no further steps; attempts that run go on."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeRun:
    """Offer steps again."""


@dataclass(frozen=True, slots=True)
class RerunRun:
    """Make a new run of an ended one: whole, or from ``from_step`` with the results upstream of it reused.

    ``redrive``: that step, a transform, also takes up what it rejected: ``run`` (in this run) or ``all`` (in any).
    """

    run_id: str | None = None
    from_step: str | None = None
    redrive: str | None = None


@dataclass(frozen=True, slots=True)
class SignalRun:
    """Something that the run waits for has happened. ``payload`` is a JSON object as text: the step's output.

    Kept until a step waits for this name. A signal that no step needs any more changes nothing.
    """

    name: str
    payload: str = "{}"


@dataclass(frozen=True, slots=True)
class ApproveStep:
    """Somebody who may lets the run go on past this step."""

    step: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RejectStep:
    """Somebody who may refuses: the step fails."""

    step: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class SkipStep:
    """Leave a step out that is not at its end; the run goes on as if it were done."""

    step: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NoteLimitGranted:
    """A limit lets this run in."""

    limit: str


@dataclass(frozen=True, slots=True)
class NoteChildEnded:
    """A run that this one has called is at its end, or was refused. ``output`` is JSON text."""

    run_id: str
    status: str
    error: str | None = None
    output: str = "{}"


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has come for something this run waits for (retry, lease, timeout)."""

    due: int


AttemptCommand = ClaimStep | Heartbeat | CompleteStep | FailStep
RunCommand = (
    CreateRun | CancelRun | PauseRun | ResumeRun | RerunRun | NoteLimitGranted | NoteChildEnded | Tick
)
PeopleCommand = SignalRun | ApproveStep | RejectStep | SkipStep
Command = RunCommand | AttemptCommand | PeopleCommand
