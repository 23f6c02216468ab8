"""Worker processes of a test: started, killed, frozen, and a client that speaks to them by Kafka alone."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from schemas.catalogue import Catalogue
from schemas.codec import Codec
from schemas.partitioning import partition_of
from schemas.registry import MemoryRegistry
from tests.performance.account import SCHEMAS
from tests.support.truth import Verdict, judge, read

SHARDS = 4
_ROOT = Path(__file__).parents[2]
# Most of them are killed, and then tell nothing of what they covered: they are spared the counting.
_ENVIRON = {"PYTHONPATH": str(_ROOT), "PYTHONFAULTHANDLER": "1", "COVERAGE_PROCESS_CONFIG": ""}


def account_codec() -> Codec:
    """Return a codec with the same schema ids as every worker process of the account aggregate."""
    catalogue = Catalogue.load().merged(Catalogue.load(SCHEMAS))
    codec = Codec(MemoryRegistry(), catalogue)
    for topic, name in (
        ("commands", "account.Deposit"),
        ("events", "account.Deposited"),
        ("outcomes", "common.Outcome"),
    ):
        codec.encoder(f"account.{topic}-flexcore.{name}", catalogue.schema(f"flexcore.{name}"))
    return codec


def eventually(condition: Callable[[], Any], timeout_s: float = 60.0, every_s: float = 0.05) -> Any:
    """Return the condition's first true value; fail the test when it never comes."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every_s)
    raise AssertionError(f"not true within {timeout_s:.0f} s")


class WorkerProcess:
    """One worker in its own process; its log is a file, for the failure message."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.options = {"data_dir": str(folder / options["node"]), **options}
        self.log = folder / f"{options['node']}-{uuid.uuid4().hex[:6]}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.worker_process", json.dumps(self.options)],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=_ROOT,
                env={**os.environ, **_ENVIRON},
            )

    def ready(self, timeout_s: float = 90.0) -> "WorkerProcess":
        """Wait until it owns shards and all of them are ready."""

        def said() -> bool:
            assert self.process.poll() is None, f"the worker ended: {self.log.read_text()[-2000:]}"
            return b"READY" in self.log.read_bytes()

        eventually(said, timeout_s)
        return self

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait_killed(self, timeout_s: float = 90.0) -> None:
        """Wait until the process has killed itself."""
        code = self.process.wait(timeout_s)
        assert code == -signal.SIGKILL, f"ended with {code}: {self.log.read_text()[-3000:]}"

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)


@dataclass
class Accounts:
    """A client of the account aggregate that knows only Kafka; remembers what it sent."""

    bootstrap: str
    prefix: str
    sent: dict[str, tuple[str, int]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    codec: Codec = field(default_factory=account_codec)

    def __post_init__(self) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "linger.ms": 2,
                "message.max.bytes": 4 << 20,
                "log_level": 3,
            }
        )

    def raw(self, value: bytes | None, key: bytes | None, headers: Any, partition: int) -> None:
        """Produce a record as it is, and wait until Kafka has it."""
        self.producer.produce(f"{self.prefix}.account.commands", value, key, partition, headers=headers)
        self.producer.flush(10)

    def deposit(
        self, account: str, amount: int, command_id: str | None = None, expected_version: int | None = None
    ) -> str:
        """Queue one command (JSON), return its id."""
        command_id = command_id or str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        key = f"default/{account}".encode()
        headers: list[Any] = [("command-id", command_id.encode()), ("command-type", b"Deposit")]
        if expected_version is not None:
            headers.append(("expected-version", str(expected_version).encode()))
        value = json.dumps({"amount": amount}).encode()
        self.producer.produce(
            f"{self.prefix}.account.commands", value, key, partition_of(key, SHARDS), headers=headers
        )
        self.sent[command_id] = (account, amount)
        return command_id

    @contextmanager
    def load(self, rate: float, accounts: int = 40) -> Iterator[None]:
        """Send random deposits (some refused, some sent again) at ``rate``/s while the block runs."""
        done = threading.Event()

        def send() -> None:
            while not done.is_set():
                account, amount = f"a{self.chance.randrange(accounts)}", self.chance.randint(-1, 9)
                command_id = self.deposit(account, amount)
                if self.chance.random() < 0.05:
                    self.deposit(account, amount, command_id)
                self.producer.poll(0)
                time.sleep(1 / rate)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.producer.flush(30)

    def flush(self) -> None:
        """Wait until Kafka has everything."""
        self.producer.flush(30)

    def outcome(self, command_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Return the decoded outcome of a command, once it is there."""

        def found() -> dict[str, Any] | None:
            for record in read(self.bootstrap, f"{self.prefix}.account.outcomes", SHARDS):
                if record.key == command_id.encode():
                    return self.codec.decode(record.value)[1]
            return None

        result: dict[str, Any] = eventually(found, timeout_s, 0.2)
        return result

    def settled(self, timeout_s: float = 60.0) -> Verdict:
        """Wait until every command sent by now has its outcome, and return the verdict over the whole log."""
        deadline = time.monotonic() + timeout_s
        while True:
            sent = set(self.sent)  # before the look: the load may go on
            verdict = judge(self.bootstrap, self.prefix, SHARDS, self.codec.decode)
            missing = sent - verdict.outcome_of.keys()
            if not missing:
                return verdict
            assert time.monotonic() < deadline, f"{len(missing)} of {len(sent)} commands without an outcome"
            time.sleep(0.5)
