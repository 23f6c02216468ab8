"""What a program that knows only Kafka may rely on when it sends commands."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.chain import START, link
from schemas.partitioning import partition_of
from tests.support.services import KafkaService
from tests.support.truth import read
from tests.support.workers import SHARDS, Accounts, WorkerProcess, eventually


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file: while it exists, the rules of accounts raise."""
    return tmp_path_factory.mktemp("rules") / "broken"


@pytest.fixture(scope="module")
def worker(
    kafka: KafkaService, broken: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """A running worker of accounts."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    folder: Path = tmp_path_factory.mktemp("worker")
    worker = WorkerProcess(folder, kafka=kafka.bootstrap, prefix=prefix, node="a", broken=str(broken))
    yield worker.ready()
    worker.stop()


@pytest.fixture(scope="module")
def accounts(kafka: KafkaService, worker: WorkerProcess) -> Accounts:
    """A client of the worker's accounts."""
    return Accounts(kafka.bootstrap, str(worker.options["prefix"]))


def _quarantined(accounts: Accounts) -> dict[int, dict[str, bytes]]:
    records = read(accounts.bootstrap, f"{accounts.prefix}.account.quarantine", SHARDS)
    return {len(record.value): record.headers for record in records}


def test_garbage_is_quarantined_and_the_partition_goes_on(accounts: Accounts) -> None:
    """Garbage bytes, an unknown type, a wrong schema id, 2 MB and a missing key: each with its cause, none in the way."""
    key = b"default/poisoned"
    part = partition_of(key, SHARDS)
    kind = [("command-type", b"Deposit"), ("x-team", b"crm")]
    before = accounts.deposit("poisoned", 1)
    accounts.flush()
    accounts.raw(b"\xff\xfegarbage", key, kind, part)
    accounts.raw(b'{"amount": 12}', key, [("command-type", b"Withdraw")], part)
    accounts.raw(b"\x00\x00\x0f\x42\x3f\x02\x02\x02", key, kind, part)
    accounts.raw(b'{"amount": 1, "x": "' + b"y" * 2_000_000 + b'"}', key, kind, part)
    accounts.raw(b'{"amount": 1000}', None, kind, part)
    after = accounts.deposit("poisoned", 2)
    accounts.flush()

    assert accounts.outcome(before)["status"] == "accepted"
    assert accounts.outcome(after)["last_version"] == 2
    found = _quarantined(accounts)
    causes = {size: headers["cause"].decode() for size, headers in found.items()}
    assert causes == {
        9: "undecodable",
        14: "unknown_type",
        8: "unknown_schema",
        2_000_022: "too_large",
        16: "no_key",
    }
    assert found[9]["original-x-team"] == b"crm"
    assert found[9]["detail"]


def test_a_command_sent_again_gets_the_same_answer(accounts: Accounts) -> None:
    """The same id and body: one event, and twice the very same outcome bytes."""
    command_id = accounts.deposit("again", 5)
    accounts.flush()
    accounts.outcome(command_id)
    accounts.deposit("again", 5, command_id)
    accounts.flush()

    def answers() -> list[bytes] | None:
        records = read(accounts.bootstrap, f"{accounts.prefix}.account.outcomes", SHARDS)
        mine = [record.value for record in records if record.key == command_id.encode()]
        return mine if len(mine) == 2 else None

    first, second = eventually(answers)
    assert first == second
    assert accounts.codec.decode(first)[1]["last_version"] == 1


def test_an_id_used_for_another_body_is_refused(accounts: Accounts) -> None:
    """The same id with another body is rejected, and the refusal does not replace the stored answer."""
    command_id = accounts.deposit("mismatch", 5)
    accounts.flush()
    accounts.outcome(command_id)
    accounts.deposit("mismatch", 6, command_id)
    accounts.deposit("mismatch", 5, command_id)
    accounts.flush()

    def answers() -> list[dict[str, object]] | None:
        records = read(accounts.bootstrap, f"{accounts.prefix}.account.outcomes", SHARDS)
        mine = [accounts.codec.decode(r.value)[1] for r in records if r.key == command_id.encode()]
        return mine if len(mine) == 3 else None

    first, other, again = eventually(answers)
    assert (other["status"], other["reason"], other["stored"]) == ("rejected", "body_mismatch", False)
    assert again == first


def test_of_two_racing_commands_with_the_same_expected_version_one_wins(accounts: Accounts) -> None:
    """The loser's outcome names the actual version."""
    one = accounts.deposit("race", 1, expected_version=0)
    two = accounts.deposit("race", 2, expected_version=0)
    accounts.flush()

    won, lost = accounts.outcome(one), accounts.outcome(two)
    assert won["status"] == "accepted"
    assert (lost["status"], lost["reason"]) == ("rejected", "version_conflict")
    assert "it is 1" in lost["detail"]


def test_a_command_on_the_wrong_partition_is_forwarded_once(accounts: Accounts) -> None:
    """Another client's partitioner does not matter: the command is decided where its key belongs."""
    key = b"default/lost"
    right = partition_of(key, SHARDS)
    command_id = str(uuid.uuid4())
    headers = [("command-id", command_id.encode()), ("command-type", b"Deposit"), ("correlation-id", b"c-1")]
    accounts.raw(json.dumps({"amount": 3}).encode(), key, headers, (right + 1) % SHARDS)

    outcome = accounts.outcome(command_id)
    assert (outcome["status"], outcome["shard"], outcome["correlation_id"]) == ("accepted", right, "c-1")


def test_a_command_without_an_id_is_named_by_its_place(accounts: Accounts) -> None:
    """A missing command id becomes one that a replay of the same record would repeat."""
    key = b"default/nameless"
    accounts.raw(b'{"amount": 4}', key, [("command-type", b"Deposit")], partition_of(key, SHARDS))

    def event() -> dict[str, object] | None:
        records = read(accounts.bootstrap, f"{accounts.prefix}.account.events", SHARDS)
        mine = [accounts.codec.decode(r.value)[1]["envelope"] for r in records if b"/nameless/" in r.key]
        return mine[0] if mine else None

    assert uuid.UUID(str(eventually(event)["command_id"])).version == 5


def test_every_event_carries_its_origin_in_envelope_and_headers(accounts: Accounts) -> None:
    """Key, headers and envelope of an event agree, and name command, writer and place in the log."""
    command_id = accounts.deposit("origin", 9)
    accounts.flush()
    accounts.outcome(command_id)
    records = read(accounts.bootstrap, f"{accounts.prefix}.account.events", SHARDS)
    record = next(r for r in records if b"/origin/" in r.key)
    envelope = accounts.codec.decode(record.value)[1]["envelope"]
    chain = record.headers.pop("chain")
    headers = {name: value.decode() for name, value in record.headers.items()}

    assert record.key.decode() == f"default/origin/{1:020d}/{envelope['event_id']}"
    assert chain == link(START, record.key, record.value)
    assert headers["ce_id"] == envelope["event_id"]
    assert headers["command-id"] == envelope["command_id"] == command_id
    assert headers["writer"] == envelope["writer"] == f"{accounts.prefix}/node/a"
    assert int(headers["sequence"]) == envelope["sequence"]
    assert headers["ce_type"] == "Deposited"


def test_rules_that_fail_do_not_put_everything_into_quarantine(
    accounts: Accounts, worker: WorkerProcess, broken: Path
) -> None:
    """While most commands fail the aggregate rests; once mended it goes on by itself, with all that waited."""
    broken.touch()
    sent = [accounts.deposit(f"unlucky-{number % 40}", 1) for number in range(2000)]
    accounts.flush()
    eventually(lambda: "account is paused" in worker.log.read_text())
    broken.unlink()

    def answers() -> Counter[str] | None:
        records = read(accounts.bootstrap, f"{accounts.prefix}.account.outcomes", SHARDS)
        values = {record.key.decode(): record.value for record in records}
        if not values.keys() >= set(sent):
            return None
        return Counter(accounts.codec.decode(values[one])[1]["status"] for one in sent)

    statuses = eventually(answers)
    assert "account goes on" in worker.log.read_text()
    # Before there are enough to judge by; the pass that is decided then; the trials.
    assert 0 < statuses["failed"] <= 49 + 128 + 10
    assert statuses["accepted"] == len(sent) - statuses["failed"]
