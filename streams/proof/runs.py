"""The invariants of runs, judged over the log alone: what the product decided is argued with, not believed.

| id | judged here, from | not here |
|---|---|---|
| I1 | run events: one end, after all steps; nothing but rerun requests and redactions behind it | |
| I2 | run events: versions 1, 2, 3, … | `event verify`: `versions`, `unique` |
| I3 | run events and the pinned definition: each step ends once, begins after all before it | |
| I4 | run events at the end of the log: an offer, lease, timer, limit or person moves every open run | |
| I5 | outcomes of StartRun and CreateRun that are still kept, and ListenersCalled, against RunCreated | `event verify`: `sequences`, `checkpoints` |
| I6 | RunCreated: the id follows from the key, or the key stands for one id | |
| I7 | run events: attempts count up, have one holder, labelled as the step asks, stay within the retry; a result is the holder's | the token inside a result \
is in no event: tests/unit/streams/domain/run/test_run_attempts.py |
| I8 | limit events: holders within the limit, none whose run has ended; run events: no step before its limits | |
| I9 | run events: no retry, lease, timeout, offer or wait ends before its time, or twice | heartbeats are no events: a lease \
is held to its first length only |
| I10 | run events: after a cancel, or while paused, nothing is offered or claimed | |
| I11 | run events: what was done is undone in reverse, one after the other, when the run fails or times out | after a \
cancel only if it began: `--now` leaves it out |
| I12 | `run.snapshots`, by `derived.Snapshots` | an export has none; `move` of tests/unit/streams/domain/run/test_run_machine.py |
| I13 | run events: sequences rise in each shard | `event verify`: `sequences`, `order`, `chain` |
| I14 | RunCreated: the definition is the one its hash pins; no event names a step that it has not; steps are offered to the \
runners that it asks for, with the priority of the run; what takes up its rejects is a transform that is done again | |
| I15 | schedule events: slots rise; a slot's run is called after it | |
| I16 | the view's rows and how far it has read, by `derived.Rows` | needs the database: tests/integration/test_projector.py and test_views.py |
| I17 | every event decodes and is known | old versions: tests/contract/test_schema_golden.py, test_old_runs.py |

Pure and streaming: memory is bounded by the open runs, the limits, schedules and shards, the starts whose outcomes are kept,
and the redacted events. Of a run with a redacted event what stands behind it is not judged.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.chain import REDACTED
from streams.domain.identity import end_key, run_id, slot_key
from streams.proof.record import Check, LogRecord
from streams.proof.run_history import RunHistory, Unjudgeable
from streams.proof.step_history import Holders

INVARIANTS: Mapping[str, str] = {
    "I1": "each run ends once, and nothing follows but requests to run it again, and redactions",
    "I2": "each run's events are numbered without a gap",
    "I3": "each step ends once, and begins after all steps before it",
    "I4": "every open run has something that will move it",
    "I5": "every start that was answered, or follows from a run's end, has its run",
    "I6": "the same key is the same run",
    "I7": "each attempt has one holder, labelled as the step asks, and results are the holder's",
    "I8": "limits are kept, and given back",
    "I9": "no timer is early",
    "I10": "after a cancel or a pause no step starts",
    "I11": "steps are compensated in reverse",
    "I12": "the fold of the log is the snapshot",
    "I13": "each shard has one writer at a time",
    "I14": "a run keeps its definition",
    "I15": "each slot has one run",
    "I16": "views come to what the log says",
    "I17": "every event can be read",
}
ELSEWHERE: Mapping[str, str] = {
    "I12": "needs the snapshots, which an export has not",
    "I16": "needs the database: FLEXCORE_POSTGRES_URL",
}
"""What the events alone cannot tell, and what for."""

EVENTS = ("pipeline", "run", "limit", "schedule")
OUTCOMES = ("pipeline", "run")
SETTLED_MS = 60_000
"""What is still on its way between two aggregates is no finding before the log has gone on for so long."""

_FINDINGS_MAX = 1_000
_CREATED = -SETTLED_MS - 1
"""The time of a promise that is not on its way any more."""

Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Fact:
    """An event as the log tells it. ``body`` is empty when it could not be decoded; ``kind`` says why then."""

    aggregate: str
    tenant: str
    aggregate_id: str
    version: int
    sequence: int
    shard: int
    place: str
    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunFinding:
    """A broken invariant: of which run (limit, schedule), at which version and place; ``said`` is one sentence."""

    invariant: str
    run: str
    version: int
    place: str
    said: str


class RunJudge:
    """Takes the outcomes that are kept, then the events in the order of each partition, then :meth:`finish`."""

    def __init__(self) -> None:
        self.checks = {name: Check(name, law) for name, law in INVARIANTS.items()}
        self.findings: list[RunFinding] = []
        self.runs = 0
        self._now = 0
        self._at: Fact | None = None
        self._open: dict[Name, RunHistory] = {}
        self._unjudged: dict[Name, int] = {}
        self._gaps: list[Fact] = []
        self._strays: list[Fact] = []
        self._redacted: set[Name] = set()
        self._sequences: dict[tuple[str, int], int] = {}
        self._keys: dict[tuple[str, str, str], str] = {}
        self._promised: dict[Name, tuple[int, str]] = {}
        self._refused: set[Name] = set()
        self._calls: dict[Name, tuple[int, str]] = {}
        self._limits: dict[Name, Holders] = {}
        self._releases: dict[tuple[str, str, str], int] = {}
        self._slots: dict[Name, int] = {}

    @property
    def open(self) -> int:
        """How many runs have not ended."""
        return len(self._open) + len(self._unjudged)

    # ---------------------------------------------------------------- what is handed in
    def outcome(self, record: LogRecord) -> None:
        """Take an outcome of a pipeline or a run; all of them before the first event."""
        body = record.body
        if not body:
            return
        self._now = max(self._now, body["at"])
        accepted, tenant = body["status"] == "accepted", body["tenant"]
        if body["command_type"] == "StartRun" and accepted:
            if (new := json.loads(body["reply"] or "{}").get("run")) is not None:
                self._promised.setdefault((tenant, new), (body["at"], record.place))
        elif body["command_type"] == "CreateRun":
            name = (tenant, body["aggregate_id"])
            if accepted:
                self._promised[name] = (_CREATED, record.place)
            else:
                self._refused.add(name)

    def event(self, aggregate: str, record: LogRecord) -> None:
        """Take an event of a run, or of a pipeline, a limit or a schedule."""
        envelope = record.body.get("envelope")
        if not envelope:
            said = f"it cannot be decoded: {record.name}"
            self.see_at(None, "I17", False, record.place, said)
            return
        fact = Fact(
            aggregate, envelope["tenant"], envelope["aggregate_id"], envelope["version"], envelope["sequence"],
            record.partition, record.place, record.kind, record.body,
        )  # fmt: skip
        if REDACTED in record.headers:
            self._redacted.add((fact.tenant, fact.aggregate_id))
        else:
            self.take(fact)

    def take(self, fact: Fact) -> None:
        """Take an event."""
        self._at = fact
        self._now = max(self._now, fact.body.get("at", 0))
        place = (fact.aggregate, fact.shard)
        last = self._sequences.get(place, 0)
        self._see("I13", fact.sequence > last, f"its sequence {fact.sequence} stands behind {last}")
        self._sequences[place] = max(last, fact.sequence)
        if fact.kind == "EventRedacted" and fact.aggregate != "run":
            return
        match fact.aggregate:
            case "run":
                self._run(fact)
            case "limit":
                self._limit(fact)
            case "schedule":
                self._schedule(fact)
            case "pipeline" if fact.kind == "RunRefused":
                self._promised.pop((fact.tenant, fact.body["run_id"]), None)
                if fact.body.get("slot") is None and fact.body.get("parent") is None:
                    self._called((fact.tenant, fact.body["run_id"]), -1, fact.place)
            case "pipeline" if fact.kind == "ListenersCalled":
                for listener in fact.body["listeners"]:
                    new = run_id(fact.tenant, listener, end_key(fact.body["run_id"]))
                    self._called((fact.tenant, new), fact.body["at"], fact.place)

    # ---------------------------------------------------------------- runs
    def _run(self, fact: Fact) -> None:
        name = (fact.tenant, fact.aggregate_id)
        if name in self._unjudged:
            self._ended_unjudged(fact, name)
            return
        run = self._open.get(name)
        if run is None:
            self._unknown(fact, name)
            return
        if fact.version > run.version + 1:
            self._give_up(fact, name)
            return
        fresh = fact.version == run.version + 1
        if not self._see("I2", fresh, f"version {fact.version} stands after version {run.version}"):
            return
        run.version = fact.version
        if not self._see("I14", fact.kind != "RunCreated", "it was created twice"):
            return
        try:
            run.take(fact.kind, fact.body)
        except (Unjudgeable, KeyError, ValueError, TypeError) as error:
            self._see("I17", False, f"{fact.kind} cannot be followed: {error}")
            del self._open[name]
            self._unjudged[name] = fact.version
        else:
            self._see("I17", True, "")
        if fact.kind == "RunEnded":
            self._ended(fact, run.asked)

    def _unknown(self, fact: Fact, name: Name) -> None:
        if fact.kind in ("RerunRequested", "EventRedacted"):
            self._see("I1", True, "")
        elif fact.kind == "RunCreated":
            self._created(fact, name)
        else:
            # It may be that the event before it was redacted: the end of the log tells.
            self._strays.append(fact)

    def _created(self, fact: Fact, name: Name) -> None:
        body, tenant = fact.body, fact.tenant
        self.runs += 1
        if self._promised.pop(name, None) is not None:
            self._see("I5", True, "")
        self._see(
            "I2", fact.version == 1, f"it was created as version {fact.version}: once before, or with a gap"
        )
        if body["trigger"] == "run" and body.get("parent") is None:
            self._called(name, -1, fact.place)
        if (key := body.get("key")) is not None:
            derived = run_id(tenant, body["pipeline"], key)
            known = self._keys.get((tenant, body["pipeline"], key), derived)
            own = known == derived != fact.aggregate_id
            if own:
                self._keys[tenant, body["pipeline"], key] = fact.aggregate_id
            self._see("I6", own or known == fact.aggregate_id, f"its key {key!r} is that of run {known}")
        if body["trigger"] == "schedule" and body.get("slot") is not None:
            wanted = run_id(tenant, body["pipeline"], slot_key(body["slot"]))
            self._see("I15", fact.aggregate_id == wanted, f"the run of slot {body['slot']} is {wanted}")
        try:
            self._open[name] = RunHistory(fact.version, body, self._ask)
        except Unjudgeable as error:
            self._see("I14", False, str(error))
            self._unjudged[name] = fact.version

    def _give_up(self, fact: Fact, name: Name) -> None:
        self._gaps.append(fact)
        del self._open[name]
        self._unjudged[name] = fact.version
        self._ended_unjudged(fact, name)

    def _ended_unjudged(self, fact: Fact, name: Name) -> None:
        if fact.kind == "RunEnded":
            del self._unjudged[name]

    def _ended(self, fact: Fact, limits: set[str]) -> None:
        self._open.pop((fact.tenant, fact.aggregate_id), None)
        self._unjudged.pop((fact.tenant, fact.aggregate_id), None)
        for limit in limits:
            self._release((fact.tenant, limit, fact.aggregate_id), fact.body["at"])

    def _release(self, name: tuple[str, str, str], at: int) -> None:
        """Note one of the two: the run's end (its time), the limit's release (-1). Either may be read first."""
        if name in self._releases and (self._releases[name] < 0) != (at < 0):
            del self._releases[name]
        else:
            self._releases[name] = at

    def _called(self, name: Name, at: int, place: str) -> None:
        """Note one of the two: a run's end calls for this run (its time), the run is there or refused (-1)."""
        if name in self._calls and (self._calls[name][0] < 0) != (at < 0):
            del self._calls[name]
        else:
            self._calls[name] = (at, place)

    # ---------------------------------------------------------------- limits and schedules
    def _limit(self, fact: Fact) -> None:
        body, run = fact.body, fact.body["run_id"]
        holders = self._limits.setdefault((fact.tenant, fact.aggregate_id), Holders())
        if fact.kind == "LimitReleased":
            holders.out(run)
            self._release((fact.tenant, fact.aggregate_id, run), -1)
        elif fact.kind == "LimitAcquired":
            self._see("I8", run not in holders, f"run {run} is let in twice")
            host = body.get("shares")
            self._see(
                "I8", host is None or host in holders, f"run {run} shares the place of {host}, which has none"
            )
            holders.let_in(run, host)
            taken = holders.places
            self._see(
                "I8", host is not None or taken <= body["max"], f"{taken} runs are in, and {body['max']} may"
            )

    def _schedule(self, fact: Fact) -> None:
        body, name = fact.body, (fact.tenant, fact.aggregate_id)
        if fact.kind != "SlotFired":
            return
        slot = body["slot"]
        wanted = run_id(fact.tenant, fact.aggregate_id, slot_key(slot))
        self._see(
            "I15", body["run_id"] == wanted, f"the run of slot {slot} is {wanted}, not {body['run_id']}"
        )
        if not body.get("manual", False):
            last = self._slots.get(name, slot - 1)
            self._see("I15", slot > last, f"slot {slot} fires after slot {last}")
            self._slots[name] = max(slot, last)

    # ---------------------------------------------------------------- the verdict
    def finish(self) -> None:
        """Judge what only the end tells."""
        for fact in self._gaps:
            said = f"{fact.kind} is version {fact.version}, and the one before it is not there"
            self._unless_redacted("I2", fact, said)
        for fact in self._strays:
            said = (
                f"{fact.kind} (version {fact.version}) is told of a run that has ended, or was never created"
            )
            self._unless_redacted("I1", fact, said)
        for (tenant, run), history in self._open.items():
            stuck = history.stuck()
            self.see_at(
                (tenant, run, history.version), "I4", stuck is None, "the end of the log", stuck or ""
            )
        for (tenant, run), (at, place) in self._promised.items():
            refused = at != _CREATED and (tenant, run) in self._refused
            if at < self._now - SETTLED_MS and not refused:
                self.see_at(
                    (tenant, run, 0), "I5", False, place, "its start was answered, and it was never created"
                )
        for (tenant, run), (at, place) in self._calls.items():
            lost = 0 <= at < self._now - SETTLED_MS and (tenant, run) not in self._refused | self._redacted
            said = "a run's end called for it, and it was never created"
            self.see_at((tenant, run, 0), "I5", not lost, place, said)
        for (tenant, name), holders in self._limits.items():
            for run in sorted(holders):
                ended = self._releases.get((tenant, name, run), -1)
                leaked = 0 <= ended < self._now - SETTLED_MS
                said = f"it has ended and still holds limit {name}"
                self.see_at((tenant, run, 0), "I8", not leaked, "the end of the log", said)

    def _unless_redacted(self, law: str, fact: Fact, said: str) -> None:
        if (fact.tenant, fact.aggregate_id) not in self._redacted:
            self._at = fact
            self._see(law, False, said)

    def _ask(self, law: str, ok: bool, said: Callable[[], str]) -> bool:
        return self._see(law, ok, "" if ok else said())

    def _see(self, law: str, ok: bool, said: str) -> bool:
        fact = self._at
        assert fact is not None
        return self.see_at((fact.tenant, fact.aggregate_id, fact.version), law, ok, fact.place, said)

    def see_at(self, who: tuple[str, str, int] | None, law: str, ok: bool, place: str, said: str) -> bool:
        """Note one examination; ``said`` is what is wrong unless ``ok``, of ``who``: tenant, run, version. Returns ``ok``."""
        check = self.checks[law]
        check.examined += 1
        if not ok:
            tenant, run, version = who or ("", "", 0)
            name = run if tenant in ("", "default") else f"{tenant}/{run}"
            check.note(f"{place}: {name}: {said}")
            if len(self.findings) < _FINDINGS_MAX:
                self.findings.append(RunFinding(law, name, version, place, said))
        return ok
