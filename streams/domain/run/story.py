"""One decision as it grows: the events told so far, and the run as it is after them."""

import json
from collections.abc import Mapping
from typing import Any

from streams.domain.aggregate import Rejected
from streams.domain.expressions import Language, Named, Scope
from streams.domain.run import events as happened
from streams.domain.run.evolve import evolve
from streams.domain.run.scope import scope
from streams.domain.run.settings import items_of
from streams.domain.run.state import Run

Decision = tuple[happened.Event, ...] | Rejected


class Story:
    """The events of one decision, and the run as it is after them."""

    def __init__(self, run_id: str, run: Run, now: int, language: Language) -> None:
        self.run_id = run_id
        self.run = run
        self.now = now
        self.language = language
        self.events: list[happened.Event] = []

    def scope(self, used: Named) -> Mapping[str, Any]:
        """Return what expressions may name, as the run is now."""
        return scope(self.run_id, self.run, used)

    def scope_of(self, name: str) -> Scope:
        """Return what the expressions of a step may name; those of an item or a turn what is its own, too."""
        base, item, index = name.partition("[")
        fan = self.run.steps[base].fan if item else None
        if fan is None:
            return self.scope
        number = int(index[:-1])
        own: dict[str, Any] = {"index": number}
        if self.run.steps[base].kind == "repeat":
            own["result"] = json.loads(fan.result)
        else:
            own["item"] = items_of(fan.items)[number]
        return lambda used: {**self.scope(used), **own}

    def tell(self, event: happened.Event) -> None:
        """Add the event, and fold it onto the run."""
        self.events.append(event)
        self.run = evolve(self.run, event)
