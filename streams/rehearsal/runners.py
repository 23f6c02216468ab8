"""Runners that do what a scenario says: they claim every offer at once, and never execute anything."""

from collections.abc import Mapping
from typing import Any

from streams.domain.kinds import YEAR_MS
from streams.domain.labels import missing
from streams.domain.run import commands as asked
from streams.domain.run.events import StepCalled
from streams.domain.run.state import item_of
from streams.rehearsal.scenario import Behaviour
from streams.rehearsal.world import World

RUNNER = "rehearsal"
HORIZON_MS = 10 * YEAR_MS
"""A run that has not ended by itself after so long will not."""


class Runners:
    """As many as there are offers, each with all labels that there are."""

    def __init__(
        self, behaviours: Mapping[str, tuple[Behaviour, ...]], labels: tuple[str, ...] | None = None
    ) -> None:
        """Without ``labels`` there is a runner for every step."""
        self._labels = labels
        self._behaviours = behaviours
        self._attempts: dict[str, int] = {}

    def take(self, world: World, task: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
        """Claim the attempt, and do what the scenario says at its time; a refused claim is dropped, as a runner does.

        Nobody takes an attempt that wants a label which no runner has.
        """
        has = ",".join(wanted if self._labels is None else self._labels)
        if missing(wanted, has):
            return
        run, step, attempt = task["run"], task["step"], task["attempt"]
        token = f"{step}/{attempt}"
        if world.ask("run", run, asked.ClaimStep(step, attempt, token, RUNNER, has)):
            return
        behaviour = self._next(step, turn="result" in task)
        lasts_ms, limit_ms, silent_ms = (
            behaviour.duration_ms,
            task["timeout_ms"],
            task.get("heartbeat_timeout_ms"),
        )
        if behaviour.does == "hang" and silent_ms is not None and silent_ms < (limit_ms or silent_ms + 1):
            lasts_ms = silent_ms
            error = f"the attempt was silent for its heartbeat_timeout of {silent_ms / 1000:g} s"
            result: Any = asked.FailStep(step, attempt, token, error)
        elif behaviour.does == "hang" or (limit_ms is not None and lasts_ms >= limit_ms):
            lasts_ms = 2 * HORIZON_MS if limit_ms is None else limit_ms
            error = f"the attempt took longer than its timeout of {lasts_ms / 1000:g} s"
            result = asked.FailStep(step, attempt, token, error)
        elif behaviour.does == "fail":
            result = asked.FailStep(
                step, attempt, token, behaviour.error, behaviour.retryable, behaviour.tail
            )
        else:
            result = asked.CompleteStep(step, attempt, token, behaviour.output, **behaviour.counts)
        if lasts_ms:
            # The last of its heartbeats, told in advance: the lease stands as long, and no others are needed.
            world.ask("run", run, asked.Heartbeat(step, attempt, token), now=world.now + lasts_ms)
        if behaviour.does != "lose":
            # What a run that has ended, or given the attempt up, says to it, no runner minds.
            world.plan(world.now + lasts_ms, lambda: (world.ask("run", run, result), None)[1])

    def call(self, world: World, run: str, event: StepCalled) -> None:
        """Be the run that a step has called: it ends as the scenario says of the step, or never."""
        behaviour = self._next(event.step)
        if behaviour.does == "succeed":
            note = asked.NoteChildEnded(event.run_id, "succeeded", None, behaviour.output)
        else:
            status = "failed" if behaviour.retryable else "cancelled"
            note = asked.NoteChildEnded(event.run_id, status, behaviour.error)
        if behaviour.does in ("succeed", "fail"):
            world.plan(world.now + behaviour.duration_ms, lambda: (world.ask("run", run, note), None)[1])

    def _next(self, step: str, *, turn: bool = False) -> Behaviour:
        """Return what the next attempt of the step does. The turns of a repeat go on in the list where the last one was."""
        if turn and step not in self._behaviours:
            step = item_of(step)
        said = self._behaviours.get(step) or self._behaviours.get(item_of(step)) or (Behaviour(),)
        number = self._attempts[step] = self._attempts.get(step, 0) + 1
        for index, behaviour in enumerate(said):
            if behaviour.times is None and index == len(said) - 1:
                return behaviour
            number -= behaviour.times or 1
            if number <= 0:
                return behaviour
        return Behaviour()
