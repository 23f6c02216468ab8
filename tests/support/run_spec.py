"""A run in a test: created from a few steps, its attempts claimed and ended by name."""

from typing import Any

from streams.domain.aggregate import Message, TaskOffer
from streams.domain.run.commands import ClaimStep, CompleteStep, CreateRun, FailStep
from streams.domain.run.declaration import aggregate
from streams.domain.run.events import Event
from streams.domain.run.state import Run, Step
from streams.expressions import LANGUAGE
from tests.support.pipeline_files import pipeline, text_and_hash
from tests.support.spec import TENANT, Spec

RUN = "r1"
AGGREGATE = aggregate(LANGUAGE)


class RunSpec(Spec):
    """The run ``r1``, and runners whose token is ``<step>/<attempt>``."""

    def __init__(self) -> None:
        super().__init__(AGGREGATE, RUN)

    def step(self, name: str) -> Step:
        """Return the step as it is."""
        step: Step = self.state.steps[name]
        return step

    def statuses(self) -> dict[str, str]:
        """Return the status of every step, by name."""
        return {name: step.status for name, step in self.state.steps.items()}

    def claim(self, name: str) -> tuple[Event, ...]:
        """Claim the step's present attempt."""
        attempt = self.step(name).attempt
        return self.do(ClaimStep(name, attempt, f"{name}/{attempt}", "runner-1"))

    def complete(self, name: str, output: str = "{}", **counts: int) -> tuple[Event, ...]:
        """End the step's present attempt well."""
        attempt = self.step(name).attempt
        return self.do(CompleteStep(name, attempt, f"{name}/{attempt}", output, **counts))

    def fail(
        self, name: str, error: str = "broken", *, retryable: bool = True, tail: str = ""
    ) -> tuple[Event, ...]:
        """End the step's present attempt badly."""
        attempt = self.step(name).attempt
        return self.do(FailStep(name, attempt, f"{name}/{attempt}", error, retryable, tail))

    def run(self, *names: str) -> "RunSpec":
        """Claim and complete these steps, one after the other."""
        for name in names:
            self.claim(name)
            self.complete(name)
        return self

    def offers(self) -> list[dict[str, Any]]:
        """Return the tasks offered so far."""
        return [effect.task for effect in self.sent if isinstance(effect, TaskOffer)]


def creation(*steps: dict[str, Any], more: dict[str, Any] | None = None, **spec: Any) -> CreateRun:
    """Return the command that creates a run of these steps; ``more`` are fields of the command, the rest of the file."""
    text, pinned = text_and_hash(pipeline(*steps, **spec))
    return CreateRun("customers", text, pinned, **(more or {}))


def created(*steps: dict[str, Any], more: dict[str, Any] | None = None, **spec: Any) -> RunSpec:
    """Return a run of these steps, created at 0 ms."""
    told = RunSpec()
    told.do(creation(*steps, more=more, **spec))
    return told


def folded(*steps: dict[str, Any]) -> Run:
    """Return a run of very many steps, created at 0 ms; its states are not snapshotted one by one."""
    run: Run = AGGREGATE.initial
    message = Message(creation(*steps), TENANT, RUN, "c1", 0)
    decision = AGGREGATE.decide(message, run)
    assert isinstance(decision, tuple)
    for event in decision:
        run = AGGREGATE.evolve(run, event)
    return run
