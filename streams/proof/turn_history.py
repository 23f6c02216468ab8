"""The turns of repeats as a run's events tell them: numbered without a gap, within their max, none after the condition held."""

import json
from collections.abc import Mapping
from typing import Any

from streams.domain import duration, instant
from streams.domain.definition import Definition, StepDefinition
from streams.domain.expressions import Named, evaluate, named, whole
from streams.expressions import LANGUAGE
from streams.proof.step_history import See, StepHistory


class Turns:
    """Judges the turns of the repeats of one run.

    A condition is reckoned again, unless it names results of other steps or facts about the run: those are not kept here.
    """

    def __init__(self, plan: Definition, created: Mapping[str, Any], see: See) -> None:
        """``created`` is the body of the run's RunCreated."""
        self._plan = plan
        self._see = see
        self._input: str = created["input"]
        self._slot: int | None = created.get("slot")
        self._held: dict[str, bool | None] = {}

    def begins(self, name: str, owner: StepHistory, waits_ms: int = 0) -> None:
        """Judge that a turn begins, or is waited for so long."""
        base, number = _parted(name)
        plan = self._plan.steps[base]
        fits = owner.status == "repeating" and number == len(owner.done) < owner.total
        self._see("I3", fits,
                  lambda: f"{name} begins while {base} is {owner.status} after {len(owner.done)} of {owner.total} turns")  # fmt: skip
        self._see("I3", self._held.get(base) is not True,
                  lambda: f"{name} begins, and {plan.spec['until']} held before it")  # fmt: skip
        wanted_ms = duration.parse(plan.spec.get("wait", "0s")) if number else 0
        self._see("I9", waits_ms == wanted_ms, lambda: f"{name} waits {waits_ms} ms, not {wanted_ms}")

    def ended(self, name: str, output: str | None) -> None:
        """Note what a turn handed over; None when it was left out."""
        base, number = _parted(name)
        plan = self._plan.steps[base]
        if plan.kind == "repeat":
            self._held[base] = output is not None and self._holds(plan, number, output)

    def over(self, name: str) -> None:
        """Judge the success of a repeat."""
        self._see("I3", self._held.get(name, False) is not False,
                  lambda: f"{name} succeeded, and {self._plan.steps[name].spec['until']} did not hold")  # fmt: skip

    def _holds(self, plan: StepDefinition, number: int, output: str) -> bool | None:
        """Return whether the condition held after a turn; None when that cannot be told here."""
        condition = whole(plan.spec["until"]) or ""
        used = named(condition)
        if used.steps or used.run:
            return None
        try:
            value = evaluate(LANGUAGE, condition, lambda needs: self._scope(needs, number, output))
        except ValueError:
            return None
        return value if isinstance(value, bool) else None

    def _scope(self, needs: Named, number: int, output: str) -> Mapping[str, Any]:
        return {
            "inputs": json.loads(self._input) if needs.inputs else {},
            "steps": {},
            "run": {},
            "slot": None if self._slot is None else instant.render(self._slot),
            "index": number,
            "result": json.loads(output),
        }


def _parted(name: str) -> tuple[str, int]:
    base, _, index = name.partition("[")
    return base, int(index[:-1])
