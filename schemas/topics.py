"""The names of topics and headers: promises to every program that speaks to the platform by Kafka alone."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

_Value = TypeVar("_Value")

COMMAND_ID: Final = "command-id"
COMMAND_TYPE: Final = "command-type"
CORRELATION_ID: Final = "correlation-id"
CAUSATION_ID: Final = "causation-id"
ACTOR: Final = "actor"
EXPECTED_VERSION: Final = "expected-version"
TRACEPARENT: Final = "traceparent"
REDRIVE_OF: Final = "redrive-of"
"""On a command sent again from quarantine: the place it came from first."""
DROP_OF: Final = "drop-of"
"""On an empty record of a commands topic: the record from this place is dropped, what waits behind it goes on."""

GENERATION: Final = "generation"
"""On a record of a dataset, and on its rejects: which generation it belongs to."""
REDRIVEN: Final = "redriven"
"""On an empty record of a dataset's rejects: the reject at this place (partition/offset) is in the dataset now."""

ORIGINAL_KEY: Final = "original-key"
"""On a record in quarantine: the key that it came with."""
_ORIGINAL: Final = "original-"

NODES: Final = "nodes"
RUN_LOGS: Final = "run.logs"
MANIFEST: Final = "manifest"
AUDIT: Final = "audit"
SCHEMAS: Final = "_schemas"


LANES = ("high", "normal", "low")
"""Priorities, the most urgent first: each has topics of its own."""
_TASKS = {"high": "tasks-high", "normal": "tasks", "low": "tasks-low"}
_LANE = {name: lane for lane, name in _TASKS.items()}


class Topics:
    """Topic names under an optional prefix: ``Topics("").commands("run") == "run.commands"``."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = f"{prefix}." if prefix else ""

    def commands(self, aggregate: str) -> str:
        """Where an aggregate is asked for something."""
        return f"{self.prefix}{aggregate}.commands"

    def events(self, aggregate: str) -> str:
        """What has happened to an aggregate: the truth."""
        return f"{self.prefix}{aggregate}.events"

    def outcomes(self, aggregate: str) -> str:
        """The answers to an aggregate's commands."""
        return f"{self.prefix}{aggregate}.outcomes"

    def snapshots(self, aggregate: str) -> str:
        """What shortens the reading of events: states, and which commands were answered. Can be made anew from them."""
        return f"{self.prefix}{aggregate}.snapshots"

    def quarantine(self, aggregate: str) -> str:
        """Where commands go that cannot be processed."""
        return f"{self.prefix}{aggregate}.quarantine"

    def tasks(self, queue: str, lane: str = "normal") -> str:
        """Work offered on a queue: to the runners with these labels, which are separated by dots; by priority."""
        return f"{self.prefix}{_TASKS[lane]}.{queue}"

    def lane_of(self, tasks: str) -> str:
        """The priority of what is offered on a topic of tasks."""
        return _LANE[tasks.removeprefix(self.prefix).partition(".")[0]]

    def tasks_for(self, labels: Sequence[str]) -> str:
        """The pattern (POSIX, extended) of the topics of tasks, of all lanes, whose labels are all among these."""
        prefix, one = self.prefix.replace(".", "[.]"), f"({'|'.join(labels)})"
        return f"^{prefix}({'|'.join(_LANE)})[.]{one}([.]{one})*$"

    def dataset(self, tenant: str, pipeline: str, step: str) -> str:
        """The records that a step has made."""
        return f"{self.prefix}dataset.{tenant}.{pipeline}.{step}"

    def rejects(self, tenant: str, pipeline: str, step: str) -> str:
        """Where a dataset's rejected records go."""
        return f"{self.dataset(tenant, pipeline, step)}.quarantine"

    def user_events(self, name: str) -> str:
        """Events of users' own."""
        return f"{self.prefix}user-events.{name}"

    def named(self, name: str) -> str:
        """A topic that exists once: NODES, RUN_LOGS, MANIFEST, AUDIT, SCHEMAS."""
        return f"{self.prefix}{name}"


def as_original(name: str) -> str:
    """The name that a record's header has once the record is in quarantine."""
    return _ORIGINAL + name


def original(headers: Iterable[tuple[str, _Value]]) -> list[tuple[str, _Value]]:
    """The headers that a record in quarantine came with, in order, out of those that it has there."""
    return [
        (name.removeprefix(_ORIGINAL), value)
        for name, value in headers
        if name.startswith(_ORIGINAL) and name != ORIGINAL_KEY
    ]


def key_of(tenant: str, aggregate_id: str) -> bytes:
    """The key of an aggregate's commands, and what its partition is computed from."""
    return f"{tenant}/{aggregate_id}".encode()
