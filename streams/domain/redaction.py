"""Redaction: taking personal data out of an event that has happened. The same for every aggregate.

The command and its event are the machinery's: it reads the aggregate's events back, puts others in the place of some
fields' values, and folds the aggregate anew. So a redaction changes a state as if the event had never said anything else.
"""

from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from streams.domain.aggregate import Aggregate


@dataclass(frozen=True, slots=True)
class RedactEvent:
    """Take the values of ``fields`` out of the aggregate's event that has this sequence. ``dry_run``: only say what would be
    done.
    """

    sequence: int
    fields: tuple[str, ...]
    reason: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class EventRedacted:
    """An earlier event of the aggregate (``sequence``, ``version``, ``event_id``, ``type``) has lost the values of ``fields``.

    ``value_hash`` is the SHA-256 (hex) of the record that has taken its place; who wanted it is this event's actor.
    """

    sequence: int
    version: int
    event_id: str
    type: str
    fields: tuple[str, ...]
    reason: str
    value_hash: str
    at: int


def redactable(aggregate: Aggregate) -> Aggregate:
    """Return the aggregate with what every aggregate can be asked for."""

    @wraps(aggregate.evolve)
    def evolve(state: Any, event: Any) -> Any:
        return state if isinstance(event, EventRedacted) else aggregate.evolve(state, event)

    return replace(
        aggregate,
        commands=(*aggregate.commands, RedactEvent),
        events=(*aggregate.events, EventRedacted),
        evolve=evolve,
    )
