"""What a run knows of itself: the fold of its events, and two things only its owner's memory holds (leases, progress)."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from streams.domain.definition import Definition, compact
from streams.domain.kinds import undone_by
from streams.domain.limit import TENANT_RUNS
from streams.domain.priority import NORMAL

# A step: pending ─▶ queued ─▶ running ─▶ succeeded | failed | timed_out
#            │         ▲          │
#            │         └ retrying ◀            cancelled: from any of these five
#            ├─▶ waiting ─▶ succeeded | failed | timed_out | retrying (the run it called has failed)
#            ├─▶ mapping, repeating ─▶ succeeded | failed (its items, its turns are steps of their own)
#            └─▶ skipped        succeeded ─▶ compensated (by a step of its own, when the run does not succeed)
STEP_ENDED = frozenset({"succeeded", "failed", "timed_out", "skipped", "cancelled", "compensated"})
FAN_CHARS_MAX = 250_000
RUN_ENDED = frozenset({"succeeded", "failed", "cancelled", "timed_out"})


Counts = tuple[int, int, int, int]
"""Records in, out and rejected, and bytes."""


class Fan(Struct, frozen=True, omit_defaults=True):
    """A map step at work: how many items there are (``items``, JSON text), have been begun, are at work, have failed.

    ``outputs`` are those of the items that succeeded, by number, while they are not too many characters together;
    ``counts`` are the sums of theirs, ``retried``: one needed another attempt.
    Of a repeat, whose items are its turns, ``total`` is how many there may be, and ``outputs`` is that of the last one.
    """

    items: str
    total: int
    next: int = 0
    live: int = 0
    failed: int = 0
    error: str = ""
    outputs: tuple[tuple[int, str], ...] = ()
    chars: int = 0
    counts: Counts = (0, 0, 0, 0)
    retried: bool = False

    @property
    def result(self) -> str:
        """What the last turn of a repeat handed over, as JSON text."""
        return self.outputs[-1][1] if self.outputs else "{}"

    def turned(self, item: "Step", index: int, *, begins: bool) -> "Fan":
        """Return it after a turn has begun or ended, or both."""
        fan = self._counted(item, index, begins=begins)
        return replace(fan, outputs=((index, item.output or "{}"),)) if item.status == "succeeded" else fan

    def after(self, item: "Step", index: int, *, begins: bool) -> "Fan":
        """Return it after an item has begun or ended, or both."""
        fan = self._counted(item, index, begins=begins)
        if item.status != "succeeded":
            return fan
        output = as_mapping(item.output or "{}") or {}
        output.pop("tail", None)  # what it printed is in the logs
        text = compact(output)
        chars = fan.chars + len(text)
        kept = (*fan.outputs, (index, text)) if chars <= FAN_CHARS_MAX else ()
        said, sums = (item.records_in, item.records_out, item.records_rejected, item.bytes), fan.counts
        counts = (sums[0] + said[0], sums[1] + said[1], sums[2] + said[2], sums[3] + said[3])
        retried = fan.retried or item.attempt > 1
        return replace(fan, outputs=kept, chars=chars, counts=counts, retried=retried)

    def _counted(self, item: "Step", index: int, *, begins: bool) -> "Fan":
        live = self.live + begins - item.ended
        fan = replace(self, next=max(self.next, index + 1), live=live)
        if item.status not in ("failed", "timed_out"):
            return fan
        return replace(fan, failed=fan.failed + 1, error=fan.error or f"{item.name}: {item.error}")


class Step(Struct, frozen=True, omit_defaults=True):
    """One step of one run. ``until`` is when a waiting one stops waiting by itself, or one on offer must have been
    taken. ``skipped``: why it was, by failure, condition or hand. ``child``: the run it has called last; ``calls``: that has not ended.

    ``attempt`` counts offers from 1; ``failures`` and ``lost`` say how the earlier ones went. ``lease_until`` and,
    while it runs, the counts, ``percent`` and ``progress`` (its own words) are volatile: heartbeats are not events.
    ``checkpoint`` (JSON text) is what the next attempt is given.
    """

    name: str
    kind: str
    status: str = "pending"
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    token: str = ""
    runner: str = ""
    started_at: int | None = None
    ended_at: int | None = None
    lease_until: int | None = None
    retry_at: int | None = None
    until: int | None = None
    records_in: int = 0
    records_out: int = 0
    records_rejected: int = 0
    bytes: int = 0
    percent: float | None = None
    progress: str = ""
    checkpoint: str | None = None
    error: str | None = None
    tail: str = ""
    output: str | None = None
    reused: bool = False
    skipped: str = ""
    child: str = ""
    calls: bool = False
    fan: Fan | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status in STEP_ENDED


class Run(Struct, frozen=True, omit_defaults=True):
    """One run. ``status`` is "" before CreateRun, then queued (nothing claimed yet), running, paused, cancelling,
    compensating, or an end.

    ``unended`` counts the steps proper that are not at their end, ``unended_last`` the ``finally`` steps; ``closing``
    (status, error) is how it will end when those are done, ``compensating`` how when what was done is undone: ``done`` are
    the steps that can be, in the order of their success. ``reruns`` are the latest runs made from this one.
    ``limits`` have let it in, ``waiting_for`` is the one that has not yet. ``signals`` (name, payload) came before a
    step waited for them. ``parent`` is the run whose step this one is; ``depth`` runs are above it, ``above`` are
    these, from the top, ``callers`` the step of each that called (``pipeline/step``). ``chain`` are the pipelines whose runs
    have led to it, by a step or by their end, from the first. ``listened``: its pipeline is told of its end. With ``tenant_runs_max`` it is one of so many of its tenant.
    The step ``redrive`` takes up what was rejected, in ``redrive_of`` or in any run.
    """

    status: str = ""
    pipeline: str = ""
    definition_text: str = ""
    definition_hash: str = ""
    input: str = "{}"
    full_refresh: bool = False
    trigger: str = "manual"
    slot: int | None = None
    key: str | None = None
    rerun_of: str | None = None
    redrive: str | None = None
    redrive_of: str | None = None
    parent: str | None = None
    depth: int = 0
    above: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    priority: str = NORMAL
    tenant_runs_max: int = 0
    chain: tuple[str, ...] = ()
    listened: bool = False
    created_at: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    error: str | None = None
    steps: Mapping[str, Step] = {}
    unended: int = 0
    unended_last: int = 0
    closing: tuple[str, str | None] | None = None
    compensating: tuple[str, str | None] | None = None
    done: tuple[str, ...] = ()
    reruns: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    waiting_for: str | None = None
    signals: tuple[tuple[str, str], ...] = ()

    @property
    def exists(self) -> bool:
        """Whether it has been created."""
        return self.status != ""

    @property
    def ended(self) -> bool:
        """Whether its terminal event has been told."""
        return self.status in RUN_ENDED

    @property
    def ending(self) -> tuple[str, str | None] | None:
        """How it will end (status, error), once that is known; None while the steps proper are at work."""
        return self.closing or self.compensating

    @property
    def plan(self) -> Definition:
        """The pinned definition of a run that exists; runs with the same text share it."""
        return Definition.parse(self.definition_text)

    @property
    def needs(self) -> dict[str, int]:
        """The limits that must let it in, in the order in which it asks, with how many runs each lets in.

        The tenant's comes first: who held another while waiting for that one would hold up the runs that others call.
        """
        named = {name: self.plan.limits[name] for name in sorted(self.plan.limits)}
        return {TENANT_RUNS: self.tenant_runs_max, **named} if self.tenant_runs_max else named

    def step(self, name: str) -> Step:
        """Return a step of the file, or an item or turn of one, which need not have begun."""
        found = self.steps.get(name)
        return Step(name, self.plan.step(name).kind) if found is None else found

    def with_step(self, step: Step) -> "Run":
        """Return the run with this step in its place, and nothing else changed but the count of unended steps.

        An item or a turn is there while it is at work only; what became of it is counted in the step.
        """
        base, item, index = step.name.partition("[")
        if item:
            return self._with_item(self.steps[base], step, int(index[:-1]))
        steps = {**self.steps, step.name: step}
        if not step.ended or self.steps[step.name].ended or undone_by(step.name):
            return replace(self, steps=steps)
        if self.plan.steps[step.name].last:
            return replace(self, steps=steps, unended_last=self.unended_last - 1)
        return replace(self, steps=steps, unended=self.unended - 1)

    def _with_item(self, owner: Step, item: Step, index: int) -> "Run":
        assert owner.fan is not None
        steps = {**self.steps, item.name: item}
        after = owner.fan.turned if owner.kind == "repeat" else owner.fan.after
        fan = after(item, index, begins=item.name not in self.steps)
        if item.ended:
            del steps[item.name]
        until = item.until if item.status == "waiting" else None
        return replace(self, steps={**steps, owner.name: replace(owner, fan=fan, until=until)})


def as_told(run: Run) -> Run:
    """Return the run as its events tell it, without what only its owner's memory holds: leases, and counts and words of
    heartbeats, which outlast an attempt that failed.
    """
    steps = {}
    for name, step in run.steps.items():
        told = replace(step, lease_until=None)
        if step.status != "succeeded":
            told = replace(
                told, records_in=0, records_out=0, records_rejected=0, bytes=0, percent=None, progress=""
            )
        steps[name] = told
    return replace(run, steps=steps)


def item_of(name: str) -> str:
    """Return the step that an item or a turn belongs to; "" for a step of the file."""
    base, item, _index = name.partition("[")
    return base if item else ""


def as_mapping(text: str) -> dict[str, Any] | None:
    """Return the JSON object that ``text`` is; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def how_it_ended(status: str) -> str:
    """Return the verb for a run that has ended, to stand after "the run"."""
    return {"cancelled": "was cancelled", "timed_out": "timed out"}.get(status, status)


def document(run_id: str, run: Run) -> dict[str, Any]:
    """Return the run as users see it (JSON data; times in ms since the epoch), without its position."""
    return {
        "id": run_id,
        "pipeline": run.pipeline,
        "definition_hash": run.definition_hash,
        "status": run.status,
        "trigger": run.trigger,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "input": json.loads(run.input),
        "full_refresh": run.full_refresh,
        "error": run.error,
        "slot": run.slot,
        "key": run.key,
        "rerun_of": run.rerun_of,
        "parent": run.parent,
        "priority": run.priority,
        "waiting_for": run.waiting_for,
        "steps": [_step_document(run.steps[name]) for name in _listed(run)],
    }


def _listed(run: Run) -> list[str]:
    """Return the steps that users see: those of the file, and the compensations once there are any to do."""
    return [*run.plan.steps, *(name for name in run.steps if undone_by(name))]


def _step_document(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "kind": step.kind,
        "status": step.status,
        "attempt": step.attempt,
        "runner": step.runner,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "waits_until": step.until,
        "child": step.child or None,
        "records_in": step.records_in,
        "records_out": step.records_out,
        "records_rejected": step.records_rejected,
        "bytes": step.bytes,
        "percent": step.percent,
        "progress": step.progress or None,
        "error": step.error,
        "tail": step.tail,
        "output": None if step.output is None else json.loads(step.output),
        "reused": step.reused,
        "skipped": step.skipped or None,
        "items": None if step.fan is None else _fan_document(step.fan),
    }


def _fan_document(fan: Fan) -> dict[str, int]:
    ended = fan.next - fan.live
    return {"total": fan.total, "ended": ended, "failed": fan.failed}
