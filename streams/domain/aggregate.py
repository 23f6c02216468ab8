"""What every aggregate declares, and what its functions are given: the whole contract between rules and machinery.

The machinery (``streams.writer``, ``streams.recovery``) knows aggregates only through :class:`Aggregate`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mypy_extensions import mypyc_attr

from streams.domain.priority import NORMAL


@mypyc_attr(acyclic=True)
class Message:
    """A command with everything that rode in on it. Read only; neither frozen nor a dataclass, because one is made for
    every command: a frozen one takes four times as long to make.

    ``now`` is milliseconds since the epoch: the record's LogAppendTime, or, for a timer, the clock when it fired
    (never before the due time). It never comes from the sender.
    """

    __slots__ = ("actor", "aggregate_id", "body", "command_id", "correlation_id", "now", "tenant")

    def __init__(
        self,
        body: Any,
        tenant: str,
        aggregate_id: str,
        command_id: str,
        now: int,
        actor: str = "anonymous",
        correlation_id: str = "",
    ) -> None:
        self.body = body
        self.tenant = tenant
        self.aggregate_id = aggregate_id
        self.command_id = command_id
        self.now = now
        self.actor = actor
        self.correlation_id = correlation_id


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refusal, as a value: a closed reason and one sentence that says what to do about it."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """A follow-up command, written in the transaction of the event that caused it.

    Its command id is derived from that event, so a replay sends nothing twice.
    """

    aggregate: str
    aggregate_id: str
    body: Any


@dataclass(frozen=True, slots=True)
class TaskOffer:
    """Work offered to runners on ``tasks.<queue>``, written in the transaction of the event that caused it.

    ``task`` is plain JSON data; ``key`` orders offers of the same run. Each ``priority`` has a topic of its own.
    """

    queue: str
    key: str
    task: dict[str, Any]
    priority: str = NORMAL


Effect = Send | TaskOffer
Decision = tuple[Any, ...] | Rejected


def no_effects(_tenant: str, _aggregate_id: str, _event: Any, _state: Any) -> tuple[Effect, ...]:
    """Return nothing: the event concerns its own aggregate only."""
    return ()


def no_timer(_state: Any) -> int | None:
    """Return None: the aggregate waits for nothing but commands."""
    return None


def no_reply(_command: Any, _state: Any) -> str | None:
    """Return None: the outcome says all there is to say."""
    return None


def nothing_volatile(_message: Message, state: Any) -> Any:
    """Return the state unchanged."""
    return state


def always(_state: Any) -> bool:
    """Return True."""
    return True


def never(_state: Any) -> bool:
    """Return False."""
    return False


def unchanged(state: Any, _now: int) -> Any:
    """Return the state unchanged."""
    return state


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One declaration: name, vocabulary, rules.

    ``decide`` and ``evolve`` are pure; ``evolve`` never raises for an event that ``decide`` produced.
    ``commands`` and ``events`` are frozen dataclasses whose class and field names are the Avro record's. A state should be a
    frozen ``msgspec.Struct`` with ``omit_defaults``: changing one field of a dataclass takes 30 times as long.

    - ``effects(tenant, id, event, state_after)``: task offers and follow-up commands, same transaction.
    - ``due(state)``: when the aggregate wants its ``tick`` command next, in ms since the epoch, or None.
    - ``reply(command, state_after)``: JSON text put into the accepted outcome, or None.
    - ``touch(message, state)``: applied when a command is accepted without an event (a heartbeat): kept in the
      owner's memory only, lost when the shard moves.
    - ``wake(state, now)``: applied once to each state after the owner has processed its backlog, before timers run.
    - ``fold``: raise it when ``evolve`` gives another state for the same events and neither its module's text nor the
      state's types tell: snapshots are then made anew.
    - ``settled(state)``: whether events may be redacted now. False while rules may still need the texts that would go, or
      while the state holds what no event tells.
    - ``rests(state)``: whether it is at its end and will hardly be asked for again: its owner keeps it packed, and opens it
      anew each time. A state at rest is not ``due``, and ``wake`` changes nothing of it.
    - ``unindexed``: commands idempotent by their own nature (lease, timer): they take no entry in the index of
      command ids.
    - ``parks``: while a command of an aggregate is in quarantine, its later ones wait behind it in order, its timer too.
      For rules that would take a later command wrongly when an earlier one is missing.
    """

    name: str
    commands: tuple[type, ...]
    events: tuple[type, ...]
    initial: Any
    decide: Callable[[Message, Any], Decision]
    evolve: Callable[[Any, Any], Any]
    effects: Callable[[str, str, Any, Any], tuple[Effect, ...]] = no_effects
    due: Callable[[Any], int | None] = no_timer
    tick: type | None = None
    reply: Callable[[Any, Any], str | None] = no_reply
    touch: Callable[[Message, Any], Any] = nothing_volatile
    wake: Callable[[Any, int], Any] = unchanged
    settled: Callable[[Any], bool] = always
    rests: Callable[[Any], bool] = never
    unindexed: tuple[type, ...] = ()
    fold: int = 1
    parks: bool = False
