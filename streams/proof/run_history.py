"""One run as its events tell it: a second reading of the rules, that shares only the definition's text with the first.

What the product's own fold would silently accept (facts are not argued with) is argued with here.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, ClassVar

from streams.domain.definition import Definition, StepDefinition
from streams.domain.kinds import FAN_KINDS, undone_by
from streams.domain.limit import TENANT_RUNS
from streams.domain.priority import NORMAL
from streams.proof.attempt_history import Attempts
from streams.proof.step_history import ENDED, MOVING, Limits, See, StepHistory, Undoing
from streams.proof.turn_history import Turns


class Unjudgeable(ValueError):
    """The history cannot be followed any further; the message says why."""


class RunHistory:
    """An open run. Memory is bounded by its definition and the items and turns of its steps."""

    def __init__(self, version: int, body: Mapping[str, Any], see: See) -> None:
        """Begin with ``RunCreated``. Raises :class:`Unjudgeable` for a definition that cannot be read."""
        self.version = version
        self._see = see
        text = body["definition"]
        see("I14", body["definition_hash"] == sha256(text.encode()).hexdigest(),
            lambda: "its definition is not the one that its hash pins")  # fmt: skip
        try:
            self._plan = Definition.parse(text)
            self._reused = frozenset(json.loads(body.get("reused") or "{}"))
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise Unjudgeable(f"its definition cannot be read: {error!r}") from None
        if (again := body.get("redrive")) is not None:
            known = again in self._plan.steps and self._plan.steps[again].kind == "transform"
            see("I14", known and again not in self._reused,
                lambda: f"{again} takes up what it rejected, and is no transform, or not done again")  # fmt: skip
        self._created_at: int = body["at"]
        self._priority = body.get("priority", NORMAL)
        self._steps = {name: StepHistory() for name in self._plan.steps}
        self._items: dict[str, StepHistory] = {}
        self._signals: set[str] = set()
        self._paused = False
        self._closing: str | None = None
        self._undoing = Undoing(self._plan, see)
        self._attempts = Attempts(self._plan, see)
        quota = [TENANT_RUNS] if body.get("tenant_runs_max") else []
        self._limits = Limits([*self._plan.limits, *quota], see)
        self._turns = Turns(self._plan, body, see)

    @property
    def asked(self) -> set[str]:
        """The limits that were asked to let it in."""
        return self._limits.asked

    def take(self, kind: str, body: Mapping[str, Any]) -> None:
        """Judge the next event, then believe it. Raises :class:`Unjudgeable`."""
        tell = self._TELL.get(kind)
        if tell is None:
            raise Unjudgeable(f"{kind} is no event that is known here")
        if "step" not in body:
            tell(self, body)
            return
        name = body["step"]
        tell(self, body, name, self._known(name))

    def _known(self, name: str) -> StepHistory:
        if undone_by(name):
            step = self._undoing.steps.get(name)
            self._see("I11", step is not None, lambda: f"{name} begins, and nothing is being compensated")
        else:
            plan = self._plan.steps.get(name.partition("[")[0])
            known = plan is not None and ("[" not in name or plan.kind in FAN_KINDS)
            self._see("I14", known, lambda: f"its definition has no step {name}")
            make = self._items.setdefault(name, StepHistory()) if known and "[" in name else None
            step = make or self._steps.get(name)
        if step is None:
            raise Unjudgeable(f"there is no step {name}")
        return step

    def stuck(self) -> str | None:
        """Return what is wrong with a run that goes on when nothing of it is on its way; None when something is."""
        if self._limits.awaited is not None or self._paused:
            return None
        steps = {**self._steps, **self._items, **self._undoing.steps}
        if dropped := [name for name, step in steps.items() if step.status == "queued" and step.again]:
            return f"{dropped[0]} was not offered again when the run was resumed: runners have dropped it"
        if any(step.status in MOVING for step in steps.values()):
            return None
        left = [name for name, step in self._steps.items() if step.status not in ENDED]
        return f"nothing will move it: no offer, lease, timer or wait, and {', '.join(left) or 'no step'} is left"

    # ---------------------------------------------------------------- beginnings
    def _starts(self, name: str, verb: str) -> None:
        plan = self._plan.steps[name.partition("[")[0]]
        self._goes(name, verb)
        missing = self._limits.missing
        self._see("I8", not missing, lambda: f"{name} {verb} before limit {missing[0]} let the run in")
        if self._closing != "cancelled" or plan.last:
            self._see("I3", plan.last == (self._closing is not None),
                      lambda: f"{name} {verb} {'before' if plan.last else 'after'} the steps proper had ended")  # fmt: skip
        if "[" not in name:
            self._after_all(name, verb, plan)

    def _after_all(self, name: str, verb: str, plan: StepDefinition) -> None:
        before = {one: self._steps[one] for one in plan.after}
        open_ = [one for one, step in before.items()
                 if step.status not in ("succeeded", "skipped") or step.cause == "failure"]  # fmt: skip
        self._see("I3", not open_,
                  lambda: f"{name} {verb} while {open_[0]} before it is {before[open_[0]].status}")  # fmt: skip

    def _goes(self, name: str, verb: str) -> None:
        plan = self._plan.step(name)
        late = self._closing == "cancelled" and not plan.last
        self._see("I10", not late and not self._paused,
                  lambda: f"{name} {verb} after the run was {'cancelled' if late else 'paused'}")  # fmt: skip

    def _offered(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        attempt, at = body["attempt"], body["at"]
        place = (body["queue"], body.get("priority", NORMAL))
        right = (self._plan.step(name).queue, self._priority)
        self._see("I14", place == right,
                  lambda: f"{name} was offered on {' '.join(place)}, not on {' '.join(right)}")  # fmt: skip
        wanted = step.attempt if step.status == "queued" else step.attempt + 1
        if step.status == "pending" and undone_by(name):
            self._undoing.begins(name)
        elif step.status == "pending":
            self._starts(name, "was offered")
            if "[" in name:
                self._item_begins(name)
        else:
            self._goes(name, "was offered again")
        waited = step.status == "waiting" and "[" in name
        free = waited or step.status in ("pending", "retrying") or (step.status == "queued" and step.again)
        self._see("I7", free and attempt == wanted,
                  lambda: f"attempt {attempt} of {name} was offered while attempt {step.attempt} is {step.status}")  # fmt: skip
        if step.status == "retrying" or waited:
            due, verb = step.due or 0, "begins" if waited else "was tried again"
            self._see("I9", at >= due, lambda: f"{name} {verb} {due - at} ms before its time")
        self._attempts.offered(body, name)
        step.status, step.attempt, step.due, step.again = "queued", attempt, body.get("until"), False

    def _item_begins(self, name: str) -> None:
        base, _, index = name.partition("[")
        owner, number = self._steps[base], int(index[:-1])
        if self._plan.steps[base].kind == "repeat":
            self._turns.begins(name, owner)
            return
        self._see("I3", owner.status == "mapping" and number < owner.total and number not in owner.done,
                  lambda: f"{name} begins while {base} is {owner.status} over {owner.total} items, or again")  # fmt: skip
        live = sum(one.startswith(f"{base}[") for one in self._items)
        most = self._plan.steps[base].spec.get("max_parallel")
        self._see(
            "I8", most is None or live <= most, lambda: f"{live} items of {base} are at work, not {most}"
        )

    def _waiting(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        if "[" in name:
            self._see(
                "I3", step.status == "pending", lambda: f"{name} is waited for while it is {step.status}"
            )
            self._turns.begins(name, self._steps[name.partition("[")[0]], body["until"] - body["at"])
        else:
            self._pending(name, step, "began to wait")
        step.status, step.due = "waiting", body["until"]

    def _called(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        attempt, at = body["attempt"], body["at"]
        if step.status == "pending":
            self._starts(name, "called a run")
        else:
            self._goes(name, "called a run again")
            due = step.due or 0
            self._see("I9", at >= due, lambda: f"{name} was tried again {due - at} ms before its time")
        free = step.status in ("pending", "retrying") and attempt == step.attempt + 1
        self._see("I7", free and body["run_id"] != step.child,
                  lambda: f"attempt {attempt} of {name} called a run while attempt {step.attempt} is {step.status}")  # fmt: skip
        step.status, step.attempt, step.due = "waiting", attempt, body["until"]
        step.child, step.returned = body["run_id"], ""

    def _mapped(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        self._pending(name, step, "was mapped")
        plan, total = self._plan.steps[name], body["total"]
        self._see("I3", total == plan.spec.get("max", total), lambda: f"{name} may have {total} turns")
        step.status, step.total = FAN_KINDS.get(plan.kind, "mapping"), total

    def _pending(self, name: str, step: StepHistory, verb: str) -> None:
        self._see("I3", step.status == "pending", lambda: f"{name} {verb} although it is {step.status}")
        self._starts(name, verb)

    # ---------------------------------------------------------------- attempts
    def _claimed(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        attempt = body["attempt"]
        held = f" by {step.runner}" if step.status == "running" else ""
        self._see("I7", step.status == "queued" and attempt == step.attempt and bool(body["token"]),
                  lambda: f"attempt {attempt} of {name} was claimed while {step.attempt} is {step.status}{held}")  # fmt: skip
        self._attempts.labelled(body, name)
        self._goes(name, "was claimed")
        step.status, step.attempt, step.due = "running", attempt, None
        step.runner, step.claimed_at = body["runner"], body["at"]

    # ---------------------------------------------------------------- ends
    def _succeeded(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        plan = self._plan.step(name)
        if not self._ends(name, step, "succeeded"):
            pass
        elif body.get("reused"):
            self._see("I3", name in self._reused and step.status == "pending",
                      lambda: f"{name} takes over a result that the run was not given, or is {step.status}")  # fmt: skip
        elif step.status == "waiting" and "[" not in name:
            self._waited(body["at"], name, step, plan)
        elif step.status == "repeating":
            self._turns.over(name)
        elif step.status == "mapping":
            ended, at_work = len(step.done), any(one.startswith(f"{name}[") for one in self._items)
            self._see("I3", ended == step.total and not at_work,
                      lambda: f"{name} succeeded after {ended} of its {step.total} items")  # fmt: skip
        elif plan.kind == "switch" and step.status == "pending":
            self._starts(name, "chose")
        else:
            self._attempts.holds(body, name, step, "the success")
            if "[" in name:
                self._turns.ended(name, body["output"])
        self._undoing.succeeded(name, reused=body.get("reused", False))
        self._end(name, step, "succeeded")

    def _waited(self, at: int, name: str, step: StepHistory, plan: StepDefinition) -> None:
        if plan.kind == "pipeline":
            self._see("I7", step.returned == "succeeded",
                      lambda: f"{name} succeeded, and run {step.child} {step.returned or 'has not ended'}")  # fmt: skip
            return
        if plan.kind == "approval" and step.decision == "approved":
            return
        if plan.kind == "signal" and plan.signal in self._signals:
            return
        self._attempts.due(at, name, step, "stopped waiting")

    def _failed(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        at = body["at"]
        if not self._ends(name, step, "failed"):
            pass
        elif step.status == "pending":
            self._starts(name, "failed")
        elif step.status == "waiting" and step.child:
            self._attempts.child_failed(at, name, step)
        elif step.status == "waiting" and step.decision != "rejected":
            self._attempts.due(at, name, step, "failed")
        elif step.status == "queued" and body["status"] == "timed_out":
            self._attempts.due(at, name, step, "was given up")
            self._see("I9", not self._paused, lambda: f"{name} was given up while the run was paused")
        elif step.status == "running":
            self._attempts.holds(body, name, step, "the failure")
            if body["status"] == "timed_out":
                left_ms = step.claimed_at + (self._plan.step(name).timeout_ms or 0) - at
                self._see("I9", left_ms <= 0, lambda: f"{name} timed out {left_ms} ms before its time")
        self._end(name, step, "failed")

    def _skipped(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        self._ends(name, step, "skipped")
        step.cause = body.get("cause", "failure")
        self._see("I3", step.cause == "hand" or step.status == "pending",
                  lambda: f"{name} was skipped while it is {step.status}")  # fmt: skip
        if "[" in name:
            self._turns.ended(name, None)
        self._end(name, step, "skipped")

    def _cancelled(self, _body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        self._ends(name, step, "cancelled")
        self._end(name, step, "cancelled")

    def _ends(self, name: str, step: StepHistory, status: str) -> bool:
        base, item, index = name.partition("[")
        again = step.status in ENDED or bool(item and int(index[:-1]) in self._steps[base].done)
        was = step.status if step.status in ENDED else "at its end"
        return self._see("I3", not again, lambda: f"{name} {status} although it is {was} already")

    def _end(self, name: str, step: StepHistory, status: str) -> None:
        step.status, step.due = status, None
        base, item, index = name.partition("[")
        if item:
            self._steps[base].done.add(int(index[:-1]))
            del self._items[name]

    # ---------------------------------------------------------------- people and the run as a whole
    def _decided(self, body: Mapping[str, Any], name: str, step: StepHistory) -> None:
        self._see("I3", step.status == "waiting", lambda: f"{name} was decided while it is {step.status}")
        step.decision = body["decision"]

    def _signal(self, body: Mapping[str, Any]) -> None:
        self._signals.add(body["name"])

    def _pause(self, _body: Mapping[str, Any]) -> None:
        self._paused = True

    def _resume(self, _body: Mapping[str, Any]) -> None:
        self._paused = False
        for step in (*self._steps.values(), *self._items.values()):
            step.again = True

    def _compensating(self, body: Mapping[str, Any]) -> None:
        self._over(body, self._unended(last=False))
        self._see("I1", self._closing is None, lambda: "it compensates after its end began")
        self._undoing.announced(json.loads(body["steps"]), body["status"])
        self._paused, self._limits.awaited = False, None

    def _finishing(self, body: Mapping[str, Any]) -> None:
        self._see("I1", self._closing is None, lambda: "its end began twice")
        self._over(body, self._unended(last=False))
        self._undoing.over(body["status"])
        self._closing, self._paused, self._limits.awaited = body["status"], False, None

    def _run_ended(self, body: Mapping[str, Any]) -> None:
        self._over(body, [*self._unended(last=False), *self._unended(last=True), *self._items])
        if self._closing is None:
            self._undoing.over(body["status"])
        failed = [name for name, step in self._steps.items() if step.status == "failed"]
        self._see("I1", body["status"] != "succeeded" or not failed,
                  lambda: f"it succeeded, and its step {failed[0]} failed")  # fmt: skip

    def _over(self, body: Mapping[str, Any], unended: list[str]) -> None:
        self._see("I1", not unended, lambda: f"it ends ({body['status']}) before {unended[0]} has ended")
        if body["status"] == "timed_out" and self._closing is None and self._undoing.ends is None:
            left_ms = self._created_at + (self._plan.timeout_ms or 0) - body["at"]
            self._see("I9", left_ms <= 0 and self._plan.timeout_ms is not None,
                      lambda: f"it timed out {left_ms} ms before its time")  # fmt: skip

    def _unended(self, *, last: bool) -> list[str]:
        return [
            name
            for name, step in self._steps.items()
            if step.status not in ENDED and self._plan.steps[name].last == last
        ]

    def _rerun(self, _body: Mapping[str, Any]) -> None:
        self._see("I1", False, lambda: "it was asked for again before its end")

    _TELL: ClassVar[Mapping[str, Callable[..., None]]] = {
        "StepOffered": _offered,
        "StepClaimed": _claimed,
        "StepCheckpointed": lambda self, *told: self._attempts.holds(*told, "the checkpoint"),
        "StepLost": lambda self, *told: self._attempts.lost(*told),
        "StepSucceeded": _succeeded,
        "StepWaiting": _waiting,
        "StepCalled": _called,
        "ChildEnded": lambda self, *told: self._attempts.returned(*told),
        "StepDecided": _decided,
        "StepMapped": _mapped,
        "SignalReceived": _signal,
        "StepRetryScheduled": lambda self, *told: self._attempts.retry(*told),
        "StepFailed": _failed,
        "StepSkipped": _skipped,
        "StepCancelled": _cancelled,
        "RunPaused": _pause,
        "RunResumed": _resume,
        "RunCompensating": _compensating,
        "RunFinishing": _finishing,
        "RunEnded": _run_ended,
        "LimitAwaited": lambda self, body: self._limits.asks(body),
        "LimitGranted": lambda self, body: self._limits.lets_in(body),
        "RerunRequested": _rerun,
    }
