"""Nothing lost, nothing doubled: workers killed and frozen at every point of the write path, on real Kafka."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import KafkaService
from tests.support.truth import read
from tests.support.workers import SHARDS, Accounts, WorkerProcess, eventually

POINTS = [
    (point, when) for point in ("send_offsets", "commit", "end", "merge") for when in ("before", "after")
]


@pytest.fixture
def workers() -> Iterator[list[WorkerProcess]]:
    """Workers that end with the test."""
    started: list[WorkerProcess] = []
    yield started
    for worker in started:
        worker.stop()


@pytest.mark.timeout(300)
def test_a_worker_killed_at_any_point_loses_and_doubles_nothing(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path, workers: list[WorkerProcess]
) -> None:
    """SIGKILL before and after send offsets, commit, its last request and merge, and when an answer is out, under load."""
    accounts = Accounts(kafka.bootstrap, topic_prefix)
    common = {"kafka": kafka.bootstrap, "prefix": topic_prefix, "node": "a", "batch": 50, "tail": 150}
    with accounts.load(rate=150):
        for point, when in POINTS:
            workers.append(WorkerProcess(tmp_path, **common, kill=[point, when, 12]))
            workers[-1].wait_killed()
        # The answer: the outcome is out for everybody to see, and the worker dies before it can do anything more.
        workers.append(WorkerProcess(tmp_path, **common).ready())
        command_id = accounts.deposit("answered", 1)
        accounts.outcome(command_id)
        workers[-1].signal(signal.SIGKILL)
        workers[-1].process.wait(10)
        workers.append(WorkerProcess(tmp_path, **common).ready())
    again = list(accounts.sent)[:: max(1, len(accounts.sent) // 300)]
    for repeated in {*again, command_id}:
        accounts.deposit(*accounts.sent[repeated], repeated)
    accounts.flush()
    verdict = accounts.settled()

    assert verdict.problems == []
    assert sum(verdict.outcomes.values()) == len(accounts.sent)
    assert (
        verdict.outcomes["accepted"]
        == verdict.events
        == sum(amount > 0 for _, amount in accounts.sent.values())
    )
    assert verdict.outcome_of[command_id][0] == eventually(
        lambda: (accounts.settled().outcome_of[command_id][1:] or [b""])[0]
    ), "a command sent again after the kill got another outcome"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("protocol", ["classic"])
def test_a_frozen_owner_writes_nothing_after_its_successor_and_works_again(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path, workers: list[WorkerProcess], protocol: str
) -> None:
    """SIGSTOP with a transaction open, past the session; the other worker takes over; SIGCONT; no restart."""
    accounts = Accounts(kafka.bootstrap, topic_prefix)
    hold = tmp_path / "hold"
    common = {"kafka": kafka.bootstrap, "prefix": topic_prefix, "protocol": protocol}
    a = WorkerProcess(tmp_path, **common, node="a", hold=str(hold)).ready()
    workers.append(a)
    for number in range(40):
        accounts.deposit(f"a{number}", 1)
    accounts.flush()
    accounts.settled()
    hold.touch()
    with accounts.load(rate=100):
        eventually(hold.with_suffix(".holding").exists, 60)
        a.signal(signal.SIGSTOP)
        b = WorkerProcess(tmp_path, **common, node="b").ready(60)
        workers.append(b)
        time.sleep(2)
        thawed_ms = time.time() * 1000
        hold.unlink()
        a.signal(signal.SIGCONT)
        time.sleep(4)
        owned_by_both = eventually(lambda: _writers_since(accounts, 40), 60)
    verdict = accounts.settled()

    assert verdict.problems == []
    for shard in range(SHARDS):
        since_b = False
        for _, writer, at in (entry for entry in verdict.writers if entry[0] == shard):
            since_b = since_b or writer.endswith("/b")
            assert not (since_b and writer.endswith("/a") and at < thawed_ms), (
                "the frozen owner wrote after its successor"
            )
    assert owned_by_both, "the thawed worker never wrote again"
    assert a.process.poll() is None, a.log.read_text()[-2000:]


def _writers_since(accounts: Accounts, tail: int) -> bool:
    """True once both workers are among the writers of the newest events: the thawed one works again."""
    records = read(accounts.bootstrap, f"{accounts.prefix}.account.events", SHARDS)
    newest = sorted(records, key=lambda record: record.at)[-tail:]
    return {record.headers["writer"].decode().rpartition("/")[2] for record in newest} == {"a", "b"}


@pytest.mark.timeout(120)
def test_a_worker_told_to_end_gives_its_shards_away_at_once(
    kafka: KafkaService, topic_prefix: str, tmp_path: Path, workers: list[WorkerProcess]
) -> None:
    """SIGTERM under load: the process ends within five seconds and the other one has all shards without waiting for a session."""
    accounts = Accounts(kafka.bootstrap, topic_prefix)
    common = {"kafka": kafka.bootstrap, "prefix": topic_prefix}
    workers.append(WorkerProcess(tmp_path, **common, node="a").ready())
    workers.append(WorkerProcess(tmp_path, **common, node="b").ready())
    with accounts.load(rate=100):
        time.sleep(2)
        start = time.monotonic()
        workers[0].process.terminate()
        assert workers[0].process.wait(10) == 0
        ended = time.monotonic() - start
        marks = [accounts.deposit(f"mark{number}", 1) for number in range(20)]
        accounts.flush()
        for mark in marks:
            accounts.outcome(mark, 5)
    verdict = accounts.settled()

    assert verdict.problems == []
    assert ended < 5
    assert json.dumps(sorted(verdict.outcomes)) != "[]"
