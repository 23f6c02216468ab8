"""Clients of the wallets that know only Kafka, and a history of what they were told.

Each client keeps to one shard, asks for one thing at a time and waits for its outcome: ``ok`` (accepted), ``fail`` (a definite no), or
``info``: no answer in time, so it may have happened or not. After ``info`` half of the clients ask again under the same
command id until they are answered; the others never come back to it.
"""

import heapq
import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Producer, TopicPartition

from schemas.partitioning import partition_of
from tests.chaos.truth import Row
from tests.support.truth import Seen

_PATIENCE_S = 8.0
_QUIET_S = 7.0  # a shard is left alone for so long at a time
_WALLETS = 60
_HUSH_HOLD_MS = 7500  # after a frozen worker's session


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants; asked again under the same id it is the same."""

    id: str
    kind: str
    wallet: str
    shard: int
    body: bytes
    expected: int | None = None
    other: bool = False  # a used id with another body: must be refused


@dataclass(slots=True)
class Attempt:
    """One asking and what came of it."""

    client: int
    ask: Ask
    invoke: float
    since: float  # when its client first asked, if this is not the first time it did
    again: bool
    persistent: bool


@dataclass
class Load:
    """A seeded load in a thread of its own, from ``start`` to ``finish``."""

    bootstrap: str
    prefix: str
    shards: int
    seed: int
    history: Path
    outcome: Callable[[Seen], Row]
    rate: float = 150.0
    clients: int = 24
    asked: int = 0
    answered: int = 0
    _done: list[Ask] = field(default_factory=list)
    _versions: dict[str, int] = field(default_factory=dict)
    _waiting: dict[str, list[Attempt]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._wallets: dict[int, list[str]] = {shard: [] for shard in range(self.shards)}
        for number in range(_WALLETS):
            name = f"wallet-{number}"
            self._wallets[partition_of(f"default/{name}".encode(), self.shards)].append(name)
        self._producer = Producer(
            {"bootstrap.servers": self.bootstrap, "linger.ms": 1, "message.timeout.ms": 7000, "log_level": 0}
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.prefix}.clients",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
                "log_level": 0,
            }
        )
        self._topic = f"{self.prefix}.wallet.commands"
        self._begun = time.monotonic()
        self._hushed_until = 0.0
        self._next: list[tuple[float, int]] = []
        self._ending = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._file = self.history.open("w")
        self._probes: list[Ask] = []
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin to ask. The outcomes topic must exist."""
        outcomes = f"{self.prefix}.wallet.outcomes"
        self._consumer.assign([TopicPartition(outcomes, number, OFFSET_END) for number in range(self.shards)])
        for part in self._consumer.assignment():
            self._consumer.get_watermark_offsets(part, timeout=10)
        self._consumer.consume(1, 1.0)
        self._begun = time.monotonic()
        self._next = [(self._begun + self._chance.random(), client) for client in range(self.clients)]
        heapq.heapify(self._next)
        self._thread.start()

    def hush(self, seconds: float) -> None:
        """Begin nothing new for so long, after a few holds whose timers fall into the silence; from any thread."""
        last = [
            ask
            for shard, names in self._wallets.items()
            for name in names[:2]
            for ask in (
                self._ask("Deposit", name, shard, {"amount": 9}),
                self._ask("Hold", name, shard, {"amount": 1, "for_ms": _HUSH_HOLD_MS}),
            )
        ]
        self._probes = last[::-1]  # taken from the end
        self._hushed_until = time.monotonic() + seconds

    def end(self) -> None:
        """Begin nothing new; what is under way goes on."""
        self._ending.set()

    def probe(self) -> None:
        """Ask each shard for one deposit, until it answers."""
        self._probes = [
            self._ask("Deposit", names[0], shard, {"amount": 1}) for shard, names in self._wallets.items()
        ]

    @property
    def pending(self) -> int:
        """Number of askings without an answer whose clients insist on one."""
        waiting = [one for many in list(self._waiting.values()) for one in many]
        return len(self._probes) + sum(one.persistent or not self._late(one) for one in waiting)

    def finish(self) -> None:
        """Stop; what is unanswered is noted as such."""
        self._stopped.set()
        self._thread.join(30)
        for attempts in self._waiting.values():
            for attempt in attempts:
                self._note(attempt, {})
        self._file.close()
        self._consumer.close()
        self._producer.purge()

    # ---------------------------------------------------------------- the thread
    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._turn()
        except BaseException as error:
            self.failure = error
            raise

    def _turn(self) -> None:
        now = time.monotonic()
        while self._probes:
            self._send(-1, self._probes.pop(), now, again=False, persistent=True)
        while self._next and self._next[0][0] <= now and not self._ending.is_set():
            _, client = heapq.heappop(self._next)
            self._issue(client, now)
        self._producer.poll(0)
        for record in self._consumer.consume(500, 0.003):
            error = record.error()
            if error is None:
                self._heard(record)
            elif error.fatal():
                raise KafkaException(error)
        self._expire(time.monotonic())

    def _issue(self, client: int, now: float) -> None:
        chance = self._chance
        shard = client % self.shards
        if now < self._hushed_until or self._left_alone(shard, now):
            heapq.heappush(self._next, (now + 0.3, client))
            return
        if self._done and chance.random() < 0.07:
            # Mostly one that a worker may just have lost, sometimes one whose answer is long out of memory.
            ask = chance.choice(self._done[-400:] if chance.random() < 0.7 else self._done)
            if chance.random() < 0.15:
                ask = Ask(ask.id, "Deposit", ask.wallet, ask.shard, b'{"amount": 77777}', None, True)
            self._send(client, ask, now, again=True, persistent=chance.random() < 0.5)
            return
        if chance.random() < 0.004:
            self._poison()
        name = chance.choice(self._wallets[shard])
        kind = chance.choices(("Deposit", "Withdraw", "Transfer", "Hold"), (45, 20, 20, 15))[0]
        body: dict[str, Any] = {"amount": chance.randint(1, 60)}
        if kind == "Deposit":
            body = {"amount": chance.randint(-2, 40), "parts": chance.choice((1, 1, 1, 2, 3, 5))}
        elif kind == "Transfer":
            body["to"] = f"wallet-{chance.randrange(_WALLETS)}"
        elif kind == "Hold":
            body["for_ms"] = chance.choice((300, 1500, 4000, 9000))
        expected = self._versions.get(name) if chance.random() < 0.2 else None
        self._send(
            client,
            self._ask(kind, name, shard, body, expected),
            now,
            again=False,
            persistent=chance.random() < 0.5,
        )

    def _ask(
        self, kind: str, name: str, shard: int, body: dict[str, Any], expected: int | None = None
    ) -> Ask:
        command_id = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        return Ask(command_id, kind, name, shard, json.dumps(body).encode(), expected)

    def _left_alone(self, shard: int, now: float) -> bool:
        """Tell whether nothing is asked of a shard just now, so that timers are all that is written to it."""
        slot = int((now - self._begun) / _QUIET_S)
        return random.Random(f"{self.seed}/{shard}/{slot}").random() < 0.3

    def _send(self, client: int, ask: Ask, now: float, *, again: bool, persistent: bool) -> None:
        attempt = Attempt(client, ask, now, now, again, persistent)
        self._waiting.setdefault(ask.id, []).append(attempt)
        self.asked += 1
        self._produce(ask)

    def _produce(self, ask: Ask) -> None:
        headers: list[Any] = [("command-id", ask.id.encode()), ("command-type", ask.kind.encode())]
        if ask.expected is not None:
            headers.append(("expected-version", b"%d" % ask.expected))
        try:
            self._producer.produce(
                self._topic, ask.body, f"default/{ask.wallet}".encode(), ask.shard, headers=headers
            )
        except BufferError:
            self._producer.poll(0.05)

    def _poison(self) -> None:
        shard = self._chance.randrange(self.shards)
        name = self._wallets[shard][0]
        headers: list[Any] = [("command-type", b"Deposit"), ("command-id", uuid.uuid4().bytes.hex().encode())]
        self._producer.produce(
            self._topic, b'{"amount": 1,,}', f"default/{name}".encode(), shard, headers=headers
        )

    def _heard(self, record: Any) -> None:
        command_id = (record.key() or b"").decode()
        attempts = self._waiting.get(command_id)
        if not attempts:
            return
        seen = Seen(
            record.partition(), record.offset(), record.key(), record.value(), dict(record.headers() or ()),
            record.timestamp()[1],
        )  # fmt: skip
        told = self.outcome(seen)
        refused = told["reason"] == "body_mismatch"
        for attempt in [one for one in attempts if one.ask.other == refused]:
            attempts.remove(attempt)
            self._note(attempt, told)
            if not attempt.again:
                self._done.append(attempt.ask)
            if told["last"]:
                known = self._versions.get(attempt.ask.wallet, 0)
                self._versions[attempt.ask.wallet] = max(known, told["last"])
            self._rest(attempt.client)
        if not attempts:
            del self._waiting[command_id]

    def _rest(self, client: int) -> None:
        if client >= 0:
            pause = self._chance.expovariate(self.rate / self.clients)
            heapq.heappush(self._next, (time.monotonic() + pause, client))

    def _late(self, attempt: Attempt) -> bool:
        return time.monotonic() - attempt.invoke > _PATIENCE_S

    def _expire(self, now: float) -> None:
        for command_id, attempts in list(self._waiting.items()):
            for attempt in [one for one in attempts if now - one.invoke > _PATIENCE_S]:
                attempts.remove(attempt)
                self._note(attempt, {})
                if attempt.persistent:
                    attempts.append(replace(attempt, invoke=now, again=True))
                    self._produce(attempt.ask)
                else:
                    self._rest(attempt.client)
            if not attempts:
                self._waiting.pop(command_id, None)

    def _note(self, attempt: Attempt, told: Row) -> None:
        ask = attempt.ask
        outcome = {"": "info", "accepted": "ok"}.get(told.get("status", ""), "fail")
        self.answered += outcome != "info"
        op = {
            "client": attempt.client,
            "id": ask.id,
            "kind": ask.kind,
            "wallet": f"default/{ask.wallet}",
            "home": ask.shard,
            "expected": ask.expected,
            "again": attempt.again,
            "other": ask.other,
            "invoke": attempt.invoke,
            "since": attempt.since,
            "complete": time.monotonic(),
            "result": outcome,
            **{
                f"told_{name}": told.get(name)
                for name in ("offset", "status", "reason", "first", "last", "sequence")
            },
        }
        self._file.write(json.dumps(op) + "\n")
