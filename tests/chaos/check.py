"""History and log in, anomalies out: a pure function. Names are those of the invariants in ``tests/README.md``.

The log is replayed shard by shard in the order of its sequence numbers, which count every outcome and event; each
command found in the commands topic is decided again by ``model.py`` and must have left exactly what that says.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.chaos import model
from tests.chaos.truth import Log, Row

INVARIANTS = {
    "I1": "acked, and durable: every answer a client has heard is in the log, with its events",
    "I2": "no phantom: every event comes from a command that was asked for, or from a timer",
    "I3": "a refused command leaves nothing",
    "I4": "at most once: no command id is applied twice, no command is answered twice",
    "I5": "contiguous: versions and sequences have no gap and no repeat",
    "I6": "atomic: all events of a command stand together, under one writer",
    "I7": "an expected version is honoured",
    "I8": "real time: answered before another was asked for means decided before it",
    "I9": "one writer: no key twice, commands consumed once and in order, offsets name the last writer",
    "I10": "state is the fold: events are what the rules say, memory is what the events say",
    "I14": "what is no command is in quarantine, once",
    "I16": "live again: every shard answers after the faults, nothing hangs, nothing is left over",
    "I17": "conserved: what was sent was received, once",
}


class Anomaly(NamedTuple):
    """Something that must never be, and which invariant it breaks."""

    invariant: str
    detail: str


@dataclass
class _Check:
    history: list[Row]
    log: Log
    found: list[Anomaly] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.command_at = {(row["shard"], row["offset"]): row for row in self.log.commands}
        self.answers: dict[str, list[Row]] = defaultdict(list)
        self.leaves: dict[str, list[Row]] = defaultdict(list)
        for row in self.log.outcomes:
            self.answers[row["id"]].append(row)
        for row in self.log.events:
            self.leaves[row["command"]].append(row)
        self.wallets: dict[str, model.Wallet] = {}

    def say(self, invariant: str, detail: str) -> None:
        self.found.append(Anomaly(invariant, detail))

    # ---------------------------------------------------------------- the log by itself
    def keys_and_versions(self) -> None:
        keys = Counter((row["shard"], row["key"]) for row in self.log.events)
        for key, count in keys.items():
            if count > 1:
                self.say("I9", f"key {key} stands {count} times in the events")
        versions: dict[str, int] = {}
        for row in self.log.events:
            before = versions.get(row["wallet"], 0)
            if row["version"] != before + 1:
                self.say(
                    "I5", f"{row['wallet']}: version {row['version']} after {before}, offset {row['offset']}"
                )
            versions[row["wallet"]] = row["version"]
            if row["key"] != f"{row['wallet']}/{row['version']:020d}/{row['id']}":
                self.say("I9", f"key {row['key']} is not that of version {row['version']}")

    def consumed_once(self) -> None:
        """Every command of a shard has one answer or one place in quarantine, in the order of the commands."""
        last: dict[int, int] = defaultdict(lambda: -1)
        for row in self.log.outcomes:
            if row["source"] <= last[row["shard"]]:
                kind = "I4" if (row["shard"], row["source"]) in self.command_at else "I9"
                self.say(
                    kind, f"shard {row['shard']}: command {row['source']} answered after {last[row['shard']]}"
                )
            last[row["shard"]] = max(last[row["shard"]], row["source"])
        told = {(row["shard"], row["source"]) for row in self.log.outcomes}
        set_aside = Counter((row["shard"], row["source"]) for row in self.log.quarantine)
        for place, row in self.command_at.items():
            if row["body"] is None:
                if set_aside[place] != 1 or place in told:
                    self.say("I14", f"no command, at {place}: {set_aside[place]} times in quarantine")
            elif place not in told:
                self.say("I16", f"command {row['id']} at {place} has no answer")
        for place in set_aside:
            if place not in self.command_at or self.command_at[place]["body"] is not None:
                self.say("I14", f"quarantine holds {place}, which is a command")

    def standing(self) -> None:
        """The committed offsets are past every command, and name the last writer and the last sequence."""
        for shard, rows in _by_shard([*self.log.outcomes, *self.log.events]).items():
            offset, metadata = self.log.standing.get(str(shard), (-1, ""))
            sequence = max((row["sequence"] for row in rows if not row.get("replayed")), default=0)
            if metadata.split("|")[1:2] != [str(sequence)]:
                self.say("I9", f"shard {shard}: the offset says {metadata!r}, the log ends at {sequence}")
        for shard, rows in _by_shard(self.log.commands).items():
            offset, _ = self.log.standing.get(str(shard), (-1, ""))
            if offset <= rows[-1]["offset"]:
                self.say(
                    "I16", f"shard {shard}: committed {offset}, and a command stands at {rows[-1]['offset']}"
                )
        for name, (end, stable) in self.log.ends.items():
            if stable < end:
                self.say("I16", f"{name}: undecided from {stable} to {end}")

    # ---------------------------------------------------------------- the log against the model
    def replay(self) -> None:
        fresh = [{**row, "is": "outcome"} for row in self.log.outcomes if not row["replayed"]]
        rows = _by_shard([*fresh, *({**row, "is": "event"} for row in self.log.events)])
        for shard, written in rows.items():
            written.sort(key=lambda row: (row["sequence"], row["offset"]))
            numbers = [row["sequence"] for row in written]
            if numbers != list(range(1, len(numbers) + 1)):
                at = next(number for number, row in enumerate(numbers, 1) if number != row)
                self.say("I5", f"shard {shard}: sequences are not 1..{len(numbers)}, first at {at}")
            self._replay_shard(shard, written)

    def _replay_shard(self, shard: int, written: list[Row]) -> None:
        applied: dict[str, Row] = {}
        place = 0
        while place < len(written):
            row = written[place]
            place += 1
            if row["is"] == "event":
                self._timer(row)
                continue
            events = []
            while place < len(written) and written[place]["is"] == "event":
                if written[place]["source"] != row["source"]:
                    break
                events.append(written[place])
                place += 1
            command = self.command_at.get((shard, row["source"]))
            if command is None or command["id"] != row["id"]:
                self.say("I2", f"outcome {row['id']} answers nothing at {shard}/{row['source']}")
                self._adopt(events)
                continue
            self._decided(command, row, events, applied)
            if row["stored"]:
                applied[row["id"]] = row

    def _decided(self, command: Row, row: Row, events: list[Row], applied: dict[str, Row]) -> None:
        name, command_id = command["key"], command["id"]
        if not row["stored"]:
            if command_id not in applied or events:
                self.say("I4", f"{command_id}: refused as used before, and it was not, or it left events")
            self._adopt(events)
            return
        if command_id in applied:
            self.say("I4", f"{command_id} was decided a second time, at sequence {row['sequence']}")
            self._adopt(events)
            return
        wallet = self.wallets.get(name, model.EMPTY)
        expected = None if command["expected"] < 0 else command["expected"]
        verdict, wanted = model.answer(
            wallet, command["kind"], command["body"], command["now"], expected, name
        )
        told = row["reason"] or row["status"]
        if events and row["status"] != "accepted":
            self.say("I3", f"{command_id} was {row['status']}, and left {len(events)} events")
        if told != verdict:
            invariant = "I7" if "version_conflict" in (told, verdict) else "I10"
            self.say(invariant, f"{command_id}: told {told}, the rules say {verdict} of {wallet}")
        elif len(events) != len(wanted):
            self.say("I3" if not wanted else "I6", f"{command_id}: {len(events)} events, not {len(wanted)}")
        elif [(event["kind"], event["body"]) for event in events] != wanted:
            self.say("I10", f"{command_id}: {[event['body'] for event in events]}, not {wanted}")
        if len({event["writer"] for event in events} | {row["writer"]}) > 1:
            self.say("I6", f"{command_id}: its records have several writers")
        versions = (events[0]["version"], events[-1]["version"]) if events else (0, 0)
        if (row["first"], row["last"]) != versions or any(event["wallet"] != name for event in events):
            self.say(
                "I6", f"{command_id}: told versions {row['first']}..{row['last']}, the log has {versions}"
            )
        self._adopt(events)

    def _timer(self, row: Row) -> None:
        wallet = self.wallets.get(row["wallet"], model.EMPTY)
        if row["source"] >= 0:
            self.say("I2", f"event {row['id']} has no outcome before it (command {row['command']})")
        elif (row["kind"], row["body"]) != model.timer(wallet):
            self.say("I10", f"timer event {row['body']} of {row['wallet']}, which is {wallet}")
        self._adopt([row])

    def _adopt(self, events: Iterable[Row]) -> None:
        for row in events:
            wallet = self.wallets.get(row["wallet"], model.EMPTY)
            self.wallets[row["wallet"]] = model.after(wallet, row["kind"], row["body"])

    # ---------------------------------------------------------------- the log against the clients
    def asked(self) -> None:
        """Every command in the log was asked for by a client, or follows from an event."""
        ids = {op["id"] for op in self.history}
        sent = {row["id"]: row for row in self.log.events if row["kind"] == "Sent"}
        received: Counter[str] = Counter()
        causes = {row["id"]: row["cause"] for row in self.log.commands if row["kind"] == "Receive"}
        for row in self.log.commands:
            if row["body"] is None or row["id"] in ids:
                continue
            cause = sent.get(row["cause"])
            if row["kind"] != "Receive" or cause is None or cause["body"]["amount"] != row["body"]["amount"]:
                self.say("I2", f"nobody asked for command {row['id']} ({row['kind']})")
        for row in self.log.events:
            if row["kind"] == "Received":
                received[causes.get(row["command"], "")] += 1
        for event_id, row in sent.items():
            if received[event_id] != 1:
                self.say("I17", f"{row['body']} of {row['wallet']} was received {received[event_id]} times")
        if extra := received.keys() - sent.keys():
            self.say("I17", f"{sum(received[one] for one in extra)} were received that nobody sent")

    def told(self) -> None:
        """What the clients have heard is what the log says."""
        for op in self.history:
            if op["result"] == "info":
                continue
            same = [
                row
                for row in self.answers[op["id"]]
                if (row["status"], row["reason"], row["first"], row["last"], row["sequence"])
                == tuple(op[f"told_{name}"] for name in ("status", "reason", "first", "last", "sequence"))
            ]
            if not any(row["offset"] == op["told_offset"] for row in same):
                self.say(
                    "I1", f"{op['id']} was told {op['told_status']} at offset {op['told_offset']}: not there"
                )
            left = [row["version"] for row in self.leaves[op["id"]]]
            if op["result"] == "ok" and left != list(range(op["told_first"], op["told_last"] + 1)):
                self.say("I1", f"{op['id']}: told {op['told_first']}..{op['told_last']}, the log has {left}")
            if op["result"] == "fail" and left and not op["other"]:
                self.say("I3", f"{op['id']} was refused, and left versions {left}")

    def real_time(self) -> None:
        """Within a wallet: answered before another was asked for the first time means decided before it."""
        first: dict[str, Row] = {}
        for op in self.history:
            if op["result"] == "info" or op["other"]:
                continue
            known = first.setdefault(op["id"], dict(op))
            known["invoke"] = min(known["invoke"], op["invoke"])
            known["complete"] = min(known["complete"], op["complete"])
        asked_at: dict[str, float] = {}
        for op in self.history:
            asked_at[op["id"]] = min(asked_at.get(op["id"], op["invoke"]), op["invoke"])
        for wallet, ops in _grouped(first.values(), "wallet").items():
            done = sorted(ops, key=lambda op: op["complete"])
            newest, place = 0, 0
            for op in sorted(ops, key=lambda op: asked_at[op["id"]]):
                while place < len(done) and done[place]["complete"] < asked_at[op["id"]]:
                    newest = max(newest, done[place]["told_sequence"])
                    place += 1
                if op["told_sequence"] < newest:
                    self.say(
                        "I8", f"{wallet}: {op['id']} at {op['told_sequence']}, after {newest} was answered"
                    )

    def memory(self) -> None:
        """What the workers held in the end is what the events say."""
        for worker, shards in self.log.memory.items():
            for shard, held in shards.items():
                for name, (version, balance, kept, until) in held["wallets"].items():
                    wallet = self.wallets.get(f"default/{name}", model.EMPTY)
                    mine = {"version": version, "balance": balance, "held": kept, "until": until}
                    if mine != wallet:
                        self.say(
                            "I10", f"{worker} holds {name} of shard {shard} as {mine}, events say {wallet}"
                        )
        owners = Counter(shard for shards in self.log.memory.values() for shard in shards)
        for shard in self.log.standing if self.log.memory else ():
            if owners[shard] != 1:
                self.say("I16", f"shard {shard} has {owners[shard]} owners in the end")


def check(history: list[Row], log: Log) -> list[Anomaly]:
    """Return everything that is wrong, the log's own contradictions first."""
    one = _Check(history, log)
    one.keys_and_versions()
    one.consumed_once()
    one.standing()
    one.replay()
    one.asked()
    one.told()
    one.real_time()
    one.memory()
    return one.found


def _by_shard(rows: Iterable[Row]) -> dict[int, list[Row]]:
    return _grouped(rows, "shard")


def _grouped(rows: Iterable[Row], name: str) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found
