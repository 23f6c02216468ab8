"""Pipelines written in Python: the same document as a pipeline file, made by calls.

What a file says, a call says in the same words: each step kind is a method, each of its options a keyword of the same
name (``for_`` where Python has the word for itself), and what is a mapping in the file is a dict here, typed below.
Nothing is checked or sent: ``flexcore pipeline`` does that, with the line of each call.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from types import FrameType
from typing import Any, Literal, Required, TypedDict, Unpack

from connectors.sdk.pipeline_triggers import Trigger


# ---------------------------------------------------------------- values
class Retry(TypedDict, total=False):
    """How often a step is tried, the first time included, how long it waits in between, and which errors end it at once."""

    attempts: Required[int]
    initial: str
    multiplier: float
    max: str
    jitter: Literal["full", "none"]
    non_retryable: Sequence[str]


class Schedule(TypedDict, total=False):
    """When a pipeline starts by itself: by ``cron`` (with ``timezone`` and ``dst``) or ``every``."""

    cron: str
    every: str
    timezone: str
    dst: Literal["first", "both", "skip"]
    jitter: str
    overlap: Literal["skip", "buffer_one", "buffer_all", "cancel_other", "allow"]
    catch_up: str


class Limit(TypedDict):
    """At most ``max`` runs that name this limit are at work at once."""

    name: str
    max: int


Alert = TypedDict(
    "Alert",
    {
        "on": Required[Literal["failed", "succeeded", "quiet", "slow", "late", "records", "quarantine"]],
        "notify": Required[str],
        "for": str,
        "after": str,
        "factor": float,
        "min": int,
        "max": int,
        "above": int,
    },
    total=False,
)
"""What is told to the channel ``notify``, and when."""


class Command(TypedDict, total=False):
    """A program: what a map does for each item, a repeat in each turn, what undoes a step."""

    argv: Required[Sequence[str]]
    env: Mapping[str, str]
    timeout: str


class Compensation(TypedDict, total=False):
    """How a step that has succeeded is undone."""

    command: Required[Command]
    retry: Retry
    start_timeout: str
    timeout: str


class Case(TypedDict):
    """One way out of a switch: the names of the steps that are done when ``when`` holds."""

    when: str
    then: Sequence[str]


# ---------------------------------------------------------------- options
class Order(TypedDict, total=False):
    """What any step may say: the steps it comes after, and the expression that decides whether it is done."""

    after: Sequence[str] | None
    when: str | None


class Undone(Order, total=False):
    """What may be said where there is something to undo."""

    compensate: Compensation | None


class Tried(Undone, total=False):
    """What may be said where something is tried."""

    retry: Retry | None
    timeout: str | None


class Done(Tried, total=False):
    """What may be said where a runner is at work: the labels it must have, how long none may have taken the step, how long it may be silent."""

    runs_on: Sequence[str] | None
    start_timeout: str | None
    heartbeat_timeout: str | None


class Extract(Done, total=False):
    """Options of a step that reads a source: exactly one of ``tap`` and ``source``."""

    tap: str | None
    source: str | None
    config: Mapping[str, Any] | None
    catalog: Mapping[str, Any] | None
    streams: Sequence[str] | None
    changed_only: bool | None
    full_refresh: bool | None


class Transform(Done, total=False):
    """Options of a step that changes records."""

    python: Required[str]
    config: Mapping[str, Any] | None
    tolerate: float | None


class Load(Done, total=False):
    """Options of a step that writes records: exactly one of ``sink`` and ``target``."""

    sink: str | None
    target: str | None
    config: Mapping[str, Any] | None


class CommandStep(Done, total=False):
    """Options of a step that runs a program."""

    argv: Required[Sequence[str]]
    env: Mapping[str, str] | None


class PartitionLoad(TypedDict, total=False):
    """Where the records of one partition go."""

    sink: Required[str]
    config: Mapping[str, Any] | None


class Map(Done, total=False):
    """Options of a step that does something once for each item of ``over``, or each partition of ``dataset``: exactly
    one of ``command`` and ``load``.
    """

    over: Sequence[Any] | str | None
    dataset: str | None
    command: Command | None
    load: PartitionLoad | None
    max_parallel: int | None
    tolerated_failures: int | str | None


class Repeat(Done, total=False):
    """Options of a step that does a program again and again."""

    command: Required[Command]
    until: Required[str]
    max: Required[int]
    wait: str | None


class Call(Tried, total=False):
    """Options of a step that is a run of another pipeline."""

    name: Required[str]
    input: Mapping[str, Any] | str | None
    on_parent_close: Literal["cancel", "leave"] | None


class Wait(Order, total=False):
    """Options of a step that waits: exactly one of ``for_`` and ``until``."""

    for_: str | None
    until: str | None


class Signal(Undone, total=False):
    """Options of a step that waits for another system; ``name`` is the signal's."""

    name: str | None
    deadline: str | None
    on_silence: Literal["fail", "succeed"] | None


class Approval(Undone, total=False):
    """Options of a step that waits for somebody's decision."""

    by: Sequence[str] | None
    deadline: str | None
    on_silence: Literal["fail", "approve", "reject"] | None


class Switch(Order, total=False):
    """Options of a step that chooses among steps which come after it."""

    cases: Required[Sequence[Case]]
    default: Sequence[str] | None


class Metadata(TypedDict, total=False):
    """What a pipeline says of itself to people."""

    owner: str | None
    description: str | None
    tags: Sequence[str] | None


class Options(Metadata, total=False):
    """All that a pipeline may say besides its steps."""

    schedule: Schedule | None
    triggers: Sequence[Trigger] | None
    limits: Sequence[Limit] | None
    priority: Literal["high", "normal", "low"] | None
    timeout: str | None
    alerts: Sequence[Alert] | None


_METADATA = frozenset(Metadata.__annotations__)
_STEP = frozenset(Done.__annotations__)
"""What stands with a step's name, not in the block of its kind; but a command's timeout stands in its block."""

Place = tuple[str, int]
"""A file and a line of it."""


# ---------------------------------------------------------------- the builder
class Steps:
    """Steps in their order. Each method adds one and returns its name, for the ``after`` of others."""

    def __init__(self) -> None:
        self._steps: list[dict[str, Any]] = []
        self._calls: list[Place] = []

    def extract(self, step: str, /, **options: Unpack[Extract]) -> str:
        """Read a source into the step's dataset: ``tap="tap-jsonl==0.3.1"``, or ``source="file"``."""
        return self._add("extract", step, Extract, options)

    def transform(self, step: str, /, **options: Unpack[Transform]) -> str:
        """Give each record to a function of the project: ``python="transforms.clean:customer"``."""
        return self._add("transform", step, Transform, options)

    def load(self, step: str, /, **options: Unpack[Load]) -> str:
        """Write the records before it: ``sink="postgres"``, or ``target="target-jsonl==0.1.4"``."""
        return self._add("load", step, Load, options)

    def command(self, step: str, /, **options: Unpack[CommandStep]) -> str:
        """Run a program: ``argv=["dbt", "build"]``."""
        return self._add("command", step, CommandStep, options)

    def map(self, step: str, /, **options: Unpack[Map]) -> str:
        """Run a program for each item: ``over="${{ inputs.days }}", command={"argv": ["sync", "${{ item }}"]}``."""
        return self._add("map", step, Map, options)

    def repeat(self, step: str, /, **options: Unpack[Repeat]) -> str:
        """Run a program again and again: ``command={"argv": ["page"]}, until="${{ result.last }}", max=100``."""
        return self._add("repeat", step, Repeat, options)

    def pipeline(self, step: str, /, **options: Unpack[Call]) -> str:
        """Start a run of another pipeline and wait for its end: ``name="load-region"``."""
        return self._add("pipeline", step, Call, options)

    def wait(self, step: str, /, **options: Unpack[Wait]) -> str:
        """Wait for a time: ``for_="10m"``, or ``until="2026-12-01T06:00:00Z"``."""
        return self._add("wait", step, Wait, options)

    def signal(self, step: str, /, **options: Unpack[Signal]) -> str:
        """Wait for what another system sends: ``name="invoices-in", deadline="2d"``."""
        return self._add("signal", step, Signal, options)

    def approval(self, step: str, /, **options: Unpack[Approval]) -> str:
        """Wait for somebody who may decide: ``by=["ann", "ben"]``."""
        return self._add("approval", step, Approval, options)

    def switch(self, step: str, /, **options: Unpack[Switch]) -> str:
        """Choose what is done: ``cases=[{"when": "${{ inputs.full }}", "then": ["all"]}], default=["news"]``."""
        return self._add("switch", step, Switch, options)

    def _add(self, kind: str, name: str, known: type, options: Mapping[str, Any]) -> str:
        shared = _STEP - {"timeout"} if kind == "command" else _STEP
        step, block = _sorted(f"{kind} {name!r}", options, shared, known.__annotations__)
        self._steps.append({"name": _plain(kind, name), **step, kind: block})
        self._calls.append(_caller())
        return name


class Pipeline(Steps):
    """A pipeline: its head, its steps by the methods, and those of ``finally_``, done however a run ends.

    ``None`` for an option is the same as leaving it out. Raises TypeError for a value that JSON cannot say.
    """

    def __init__(self, name: str, /, **options: Unpack[Options]) -> None:
        super().__init__()
        head, spec = _sorted(f"pipeline {name!r}", options, _METADATA, Options.__annotations__)
        self._head, self._spec = {"name": _plain("pipeline", name), **head}, spec
        self._call = _caller()
        self.finally_ = Steps()
        for pipelines in _GATHERED:
            pipelines.append(self)

    def document(self) -> dict[str, Any]:
        """Return what the pipeline file would hold, as plain data that is the caller's own."""
        last = {"finally": self.finally_._steps} if self.finally_._steps else {}  # noqa: SLF001 - its own part
        spec = {**self._spec, "steps": self._steps, **last}
        document = {"apiVersion": "flexcore/v1", "kind": "Pipeline", "metadata": self._head, "spec": spec}
        return _plain("", document)  # type: ignore[no-any-return]  # a dict stays one

    def places(self) -> dict[str, Place]:
        """Return the call behind each part of the document: the head by "", steps by ``spec.steps[2]``."""
        parts = {"steps": self._calls, "finally": self.finally_._calls}  # noqa: SLF001 - its own part
        steps = {
            f"spec.{part}[{index}]": call for part, calls in parts.items() for index, call in enumerate(calls)
        }
        return {"": self._call, **steps}


_GATHERED: list[list[Pipeline]] = []


@contextmanager
def made() -> Iterator[list[Pipeline]]:
    """Gather every pipeline that is made inside, in any thread: a file need not keep those it makes in a loop."""
    pipelines: list[Pipeline] = []
    _GATHERED.append(pipelines)
    try:
        yield pipelines
    finally:
        _GATHERED.pop()


def _sorted(
    place: str, options: Mapping[str, Any], shared: frozenset[str], known: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into those that stand with the name and the others; an unknown one goes where it was meant to."""
    outer: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for keyword, value in options.items():
        if value is not None:
            near = [] if keyword in known else get_close_matches(keyword, shared, n=1)
            key = keyword.removesuffix("_")
            (outer if key in shared or near else inner)[key] = _plain(f"{place}: {key}", value)
    return outer, inner


def _plain(place: str, value: Any) -> Any:
    """Return a copy of a value as JSON has it."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}, which is no text: put it in quotes")
        return {key: _plain(f"{place}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{place}[{index}]", item) for index, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}, which JSON cannot say: write text, str(…)")


def _caller() -> Place:
    """Return the line outside this module that is being carried out."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - importing inspect takes longer than all the rest
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
