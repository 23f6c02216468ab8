"""The attempts of steps as a run's events tell them: who holds one, how often and how soon another may follow."""

from collections.abc import Mapping
from typing import Any

from streams.domain.definition import Definition
from streams.domain.labels import ANY, missing
from streams.domain.run.timing import LEASE_MS, LOST_MAX
from streams.proof.step_history import See, StepHistory, longest_ms


class Attempts:
    """Judges the attempts of the steps of one run."""

    def __init__(self, plan: Definition, see: See) -> None:
        """``plan`` says how often a step is tried, and how long an attempt may take."""
        self._plan = plan
        self._see = see

    def holds(self, body: Mapping[str, Any], name: str, step: StepHistory, what: str) -> None:
        """Judge that what is told comes from the attempt that is held."""
        attempt = body["attempt"]
        self._see("I7", step.status == "running" and attempt == step.attempt,
                  lambda: f"{what} of attempt {attempt} of {name} counts, but attempt {step.attempt} is {step.status}")  # fmt: skip

    def labelled(self, body: Mapping[str, Any], name: str) -> None:
        """Judge that the runner of a claim has what the step asks for."""
        lacking = missing(self._plan.step(name).runs_on, body.get("labels", ANY))
        self._see("I7", not lacking,
                  lambda: f"{name} was claimed by {body['runner']}, which is not labelled {', '.join(lacking)}")  # fmt: skip

    def offered(self, body: Mapping[str, Any], name: str) -> None:
        """Judge how long an attempt is on offer."""
        wanted, until = self._plan.step(name).start_timeout_ms, body.get("until")
        given = None if until is None else until - body["at"]
        self._see("I9", given == wanted, lambda: f"{name} is on offer for {given} ms, not for {wanted}")

    def lost(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        """Judge a loss: the lease had ended, and not too many were lost before. A lease may be handed back at any time."""
        self.holds(body, name, step, "the loss")
        step.status, step.due = "retrying", body["at"]
        if body.get("handed_back", False):
            return
        held_ms = body["at"] - step.claimed_at
        self._see(
            "I9", held_ms >= LEASE_MS, lambda: f"the lease of {name} ended {LEASE_MS - held_ms} ms early"
        )
        step.lost += 1
        self._see("I7", step.lost <= LOST_MAX,
                  lambda: f"{name} was lost {step.lost} times, more than {LOST_MAX}")  # fmt: skip

    def retry(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        """Judge a failure after which the step is tried again: how often, and after which pause."""
        if step.status == "waiting" and step.child:
            self.child_failed(body["at"], name, step)
        else:
            self.holds(body, name, step, "the failure")
        retry = self._plan.step(name).retry
        step.failures += 1
        self._see("I7", step.failures < retry.attempts,
                  lambda: f"{name} is tried again after {step.failures} failures of {retry.attempts} attempts")  # fmt: skip
        self._see("I7", retry.again(0, body["error"], body["tail"]),
                  lambda: f"{name} is tried again after an error that is not to be retried: {body['error']}")  # fmt: skip
        pause_ms, longest = body["retry_at"] - body["at"], longest_ms(retry, step.failures)
        shortest = longest if retry.jitter == "none" else 1
        self._see("I9", shortest - 1 <= pause_ms <= longest + 1,  # fractions of a millisecond may be rounded
                  lambda: f"{name} waits {pause_ms} ms for its next attempt, not {shortest} to {longest}")  # fmt: skip
        step.status, step.due = "retrying", body["retry_at"]

    def returned(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        """Judge the end of a run that a step has called."""
        self._see("I7", step.status == "waiting" and step.child == body["run_id"] and not step.returned,
                  lambda: f"{name} is {step.status}, and does not wait for run {body['run_id']}")  # fmt: skip
        step.returned = body["status"]

    def child_failed(self, at: int, name: str, step: StepHistory) -> None:
        """Judge the failure of a step whose run has failed, or took too long."""
        if step.returned:
            self._see(
                "I7", step.returned != "succeeded", lambda: f"{name} failed, and run {step.child} succeeded"
            )
        else:
            self.due(at, name, step, "gave its run up")

    def due(self, at: int, name: str, step: StepHistory, verb: str) -> None:
        """Judge what only a timer may cause."""
        due = step.due
        self._see("I9", due is not None and at >= due,
                  lambda: f"{name} {verb} {'without a timer' if due is None else f'{due - at} ms before its time'}")  # fmt: skip
