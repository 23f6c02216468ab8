"""The checker of the fault runs is itself checked: a clean run passes, and each way to damage it is flagged."""

import copy
import uuid
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.chaos import model
from tests.chaos.check import INVARIANTS, check
from tests.chaos.plan import BROKER, plan
from tests.chaos.report import away, outages
from tests.chaos.truth import Log, Row

W1, W2 = "default/one", "default/two"
ASKED: list[tuple[str, str, Row, int | None]] = [
    (W1, "Deposit", {"amount": 10, "parts": 3}, None),
    (W1, "Withdraw", {"amount": 5}, 3),
    (W1, "Withdraw", {"amount": 900}, None),
    (W2, "Deposit", {"amount": 7}, None),
    (W1, "Deposit", {"amount": 1}, 1),
    (W1, "Transfer", {"amount": 4, "to": "two"}, None),
    (W1, "Hold", {"amount": 2, "for_ms": 50}, None),
]


class Clean:
    """A run without any fault on one shard: what a correct worker would have left."""

    def __init__(self) -> None:
        self.log = Log()
        self.history: list[Row] = []
        self.wallets: dict[str, model.Wallet] = {}
        self.sequence = 0
        for number, (wallet, kind, body, expected) in enumerate(ASKED):
            self.command(str(uuid.UUID(int=number)), wallet, kind, body, expected)
        sent = next(row for row in self.log.events if row["kind"] == "Sent")
        self.command("follow-up", W2, "Receive", {"amount": 4, "sender": "one"}, None, sent["id"])
        self.again(self.history[0])
        self.poison()
        self.timer(W1)
        self.log.standing = {"0": (len(self.log.commands), f"w|{self.sequence}")}
        self.log.ends = {"events/0": (99, 99)}
        wallets = {
            name.partition("/")[2]: [w["version"], w["balance"], w["held"], w["until"]]
            for name, w in self.wallets.items()
        }
        self.log.memory = {"w1": {"0": {"wallets": wallets}}}

    def command(
        self, command_id: str, wallet: str, kind: str, body: Row, expected: int | None, cause: str = ""
    ) -> None:
        at = len(self.log.commands)
        self.log.commands.append(
            {"shard": 0, "offset": at, "key": wallet, "id": command_id, "kind": kind, "body": body, "now": 1000 + at,
             "expected": -1 if expected is None else expected, "cause": cause}
        )  # fmt: skip
        before = self.wallets.get(wallet, model.EMPTY)
        verdict, events = model.answer(before, kind, body, 1000 + at, expected, wallet)
        self.sequence += 1
        own = self.sequence
        for index, (name, fields) in enumerate(events):
            self.event(wallet, name, fields, command_id, at, f"{command_id}-{index}")
        last = self.wallets[wallet]["version"] if events else 0
        outcome = {
            "shard": 0, "offset": len(self.log.outcomes), "id": command_id, "replayed": False, "stored": True,
            "status": "accepted" if verdict == "accepted" else "rejected", "writer": "w", "at": 1000 + at,
            "reason": None if verdict == "accepted" else verdict, "sequence": own, "source": at,
            "first": last - len(events) + 1 if events else 0, "last": last,
        }  # fmt: skip
        self.log.outcomes.append(outcome)
        if not cause:
            self.note(outcome, wallet, kind, expected)

    def event(self, wallet: str, kind: str, fields: Row, command: str, source: int, event_id: str) -> None:
        self.wallets[wallet] = model.after(self.wallets.get(wallet, model.EMPTY), kind, fields)
        version = self.wallets[wallet]["version"]
        self.sequence += 1
        self.log.events.append(
            {"shard": 0, "offset": len(self.log.events), "key": f"{wallet}/{version:020d}/{event_id}", "kind": kind,
             "body": fields, "wallet": wallet, "version": version, "sequence": self.sequence, "id": event_id,
             "command": command, "source": source, "writer": "w", "at": 0}
        )  # fmt: skip

    def note(self, outcome: Row, wallet: str, kind: str, expected: int | None) -> None:
        at = float(len(self.history))
        told = {
            f"told_{name}": outcome[name]
            for name in ("offset", "status", "reason", "first", "last", "sequence")
        }
        self.history.append(
            {"client": 0, "id": outcome["id"], "kind": kind, "wallet": wallet, "home": 0, "expected": expected,
             "again": False, "other": False, "invoke": at, "since": at, "complete": at + 0.5,
             "result": "ok" if outcome["status"] == "accepted" else "fail", **told}
        )  # fmt: skip

    def again(self, op: Row) -> None:
        first = next(row for row in self.log.outcomes if row["id"] == op["id"])
        at = len(self.log.commands)
        self.log.commands.append({**self.log.commands[first["source"]], "offset": at})
        self.log.outcomes.append({**first, "offset": len(self.log.outcomes), "source": at, "replayed": True})

    def poison(self) -> None:
        at = len(self.log.commands)
        self.log.commands.append({**self.log.commands[0], "offset": at, "id": "poison", "body": None})
        self.log.quarantine.append({"shard": 0, "source": at, "cause": "undecodable"})

    def timer(self, wallet: str) -> None:
        due = model.timer(self.wallets[wallet])
        assert due is not None
        self.event(wallet, *due, "timer-command", -1, "timer-0")


def _first(rows: list[Row], **wanted: Any) -> Row:
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def _drop(name: str, **wanted: Any) -> Callable[[Clean], None]:
    def damage(run: Clean) -> None:
        rows = getattr(run.log, name)
        rows.remove(_first(rows, **wanted))

    return damage


def _double(name: str, **wanted: Any) -> Callable[[Clean], None]:
    def damage(run: Clean) -> None:
        rows = getattr(run.log, name)
        rows.append({**_first(rows, **wanted), "offset": 999})

    return damage


def _change(name: str, changed: Row, **wanted: Any) -> Callable[[Clean], None]:
    def damage(run: Clean) -> None:
        rows = run.history if name == "history" else getattr(run.log, name)
        _first(rows, **wanted).update(changed)

    return damage


def _decided_twice(run: Clean) -> None:
    """A command sent again is decided anew, whole and consistent."""
    run.log.outcomes = [row for row in run.log.outcomes if not row["replayed"]]
    at = next(row["offset"] for row in run.log.commands[1:] if row["id"] == run.history[0]["id"])
    last = run.log.commands[at]
    run.log.commands = run.log.commands[:at]
    run.log.quarantine.clear()
    run.command(last["id"], last["key"], last["kind"], last["body"], None)
    run.history.pop()
    run.log.standing = {"0": (len(run.log.commands), f"w|{run.sequence}")}


def _too_early(run: Clean) -> None:
    """What was asked for last is answered before what was decided first."""
    run.history[1]["invoke"] = run.history[1]["since"] = 100.0
    run.history[1]["complete"] = 101.0
    run.history[5]["complete"] = 99.0


MUTANTS: dict[str, tuple[set[str], Callable[[Clean], None]]] = {
    "an acked event is lost": ({"I1", "I5"}, _drop("events", kind="Withdrawn")),
    "the tail is lost": ({"I9"}, _drop("events", id="timer-0")),
    "an acked outcome is lost": ({"I1", "I16"}, _drop("outcomes", id=str(uuid.UUID(int=3)))),
    "an event stands twice": ({"I9", "I5"}, _double("events", kind="Withdrawn")),
    "a batch is torn": ({"I6"}, _drop("events", kind="Deposited", version=2)),
    "two writers in a batch": ({"I6"}, _change("events", {"writer": "zombie"}, version=2, wallet=W1)),
    "a version is left out": ({"I5"}, _change("events", {"version": 9}, version=4, wallet=W1)),
    "an event nobody asked for": ({"I2"}, _change("events", {"command": "ghost", "source": 77}, kind="Withdrawn")),
    "a refused command leaves an event": ({"I3"}, _change("outcomes", {"status": "rejected", "reason": "invalid"}, id=str(uuid.UUID(int=3)))),
    "a client was told another position": ({"I1"}, _change("history", {"told_offset": 55}, kind="Withdraw")),
    "a command is decided twice": ({"I4"}, _decided_twice),
    "a command is answered twice": ({"I4"}, _double("outcomes", id=str(uuid.UUID(int=3)))),
    "an expected version is ignored": ({"I7"}, _change("commands", {"expected": 1}, kind="Withdraw")),
    "an answer is older than one before it": ({"I8"}, _too_early),
    "a balance is wrong": ({"I10"}, _change("events", {"body": {"amount": 5, "balance": 99}}, kind="Withdrawn")),
    "a timer fires with nothing held": ({"I10"}, _change("events", {"body": {"amount": 2, "balance": 22, "due": 3}}, id="timer-0")),
    "memory is off by one": ({"I10"}, lambda run: run.log.memory["w1"]["0"]["wallets"]["one"].__setitem__(1, 0)),
    "a shard has two owners": ({"I16"}, lambda run: run.log.memory.update(w2=run.log.memory["w1"])),
    "offsets name another sequence": ({"I9"}, lambda run: run.log.standing.update({"0": (99, "w|3")})),
    "commands are left over": ({"I16"}, lambda run: run.log.standing.update({"0": (2, f"w|{run.sequence}")})),
    "a transaction hangs": ({"I16"}, lambda run: run.log.ends.update({"events/0": (99, 50)})),
    "poison vanishes": ({"I14"}, lambda run: run.log.quarantine.clear()),
    "a command lands in quarantine": ({"I14"}, lambda run: run.log.quarantine.append({"shard": 0, "source": 0, "cause": "?"})),
    "what was sent is not received": ({"I17"}, _drop("events", kind="Received")),
}  # fmt: skip


def test_a_clean_run_has_no_anomaly() -> None:
    """Duplicates, refusals, a timer, a follow-up and poison are all in order."""
    run = Clean()
    assert check(run.history, run.log) == []


@pytest.mark.parametrize("name", MUTANTS)
def test_each_damage_is_flagged(name: str) -> None:
    """The invariant that was broken is among those named."""
    run = copy.deepcopy(Clean())
    expected, damage = MUTANTS[name]
    damage(run)
    named = {one.invariant for one in check(run.history, run.log)}
    assert expected <= named, f"{name}: named {named}"


def test_every_invariant_has_a_damage_that_breaks_it() -> None:
    """No invariant is there for show."""
    assert set().union(*(expected for expected, _ in MUTANTS.values())) == set(INVARIANTS)


def test_a_plan_is_the_same_for_the_same_seed_and_spares_the_second_broker() -> None:
    """Equal seeds, equal plans; no two brokers are away at once; all faults that were asked for are there."""
    workers = ["w1", "w2", "w3"]
    first = plan(5, 1800, 300, workers, 3)
    assert first == plan(5, 1800, 300, workers, 3)
    assert len(first) == 300
    harmed = [fault for fault in first if fault.kind in BROKER]
    assert all(before.at + before.lasts < after.at for before, after in pairwise(harmed))
    assert not [fault for fault in plan(5, 60, 10, workers, 1) if fault.kind in BROKER]


def test_the_report_measures_what_clients_saw() -> None:
    """From the fault to the last answer that waited; seconds away are the union of the long waits."""

    def op(since: float, complete: float, result: str = "ok") -> Row:
        return {"home": 0, "invoke": since, "since": since, "complete": complete, "result": result}

    history = [op(9.0, 9.1), op(9.9, 16.0), op(10.5, 17.0), op(12.0, 12.1, "info"), op(30.0, 30.1)]
    faults = [{"kind": "kill", "at": 10.0, "done": True}, {"kind": "kill", "at": 40.0, "done": False}]
    assert outages(history, faults) == {"kill": [7.0]}
    assert away(history) == {0: pytest.approx(17.0 - 10.9)}
