"""The projector against real Kafka and PostgreSQL: rows are exact whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from streams.agents.project import Projector
from streams.aggregates import builtin
from streams.domain.pipeline import PipelineApplied, PipelinePaused
from streams.domain.redaction import EventRedacted
from streams.domain.run.events import RunCreated, RunEnded, StepClaimed, StepOffered, StepSucceeded
from streams.projections.views import VIEWS, by_name
from streams.settings import ProjectorSettings
from tests.support.event_log import EventLog
from tests.support.services import KafkaService, PostgresService

DEFINITION = json.dumps(
    {"spec": {"steps": [{"name": "read", "extract": {}}, {"name": "write", "load": {}, "after": ["read"]}]}}
)
SCHEMA = "flexcore"


@pytest.fixture
def log(kafka: KafkaService, topic_prefix: str) -> EventLog:
    log = EventLog(kafka.bootstrap, topic_prefix)
    log.create()
    return log


@pytest.fixture
def database(postgres: PostgresService) -> str:
    return postgres.new_database()


def projector(log: EventLog, database: str, node: str = "a", cluster: str = "") -> Projector:
    settings = ProjectorSettings(
        kafka=log.kafka,
        cluster=cluster or log.prefix,
        node=node,
        postgres_url=database,
        prefix=log.prefix,
        shards=log.shards,
        schema_name=SCHEMA,
    )
    return Projector(settings, log.codec, builtin())


@contextlib.asynccontextmanager
async def running(*projectors: Projector) -> AsyncIterator[None]:
    for each in projectors:
        await each.start()
    try:
        yield
    except AssertionError:
        for each in projectors:
            print("projector:", each.problem, each.ready, each.counters(), each.lag())
        raise
    finally:
        for each in projectors:
            await each.stop()


async def eventually(check: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Return the first true answer of ``check``; fail with what it said last."""
    deadline, said = time.monotonic() + timeout_s, None
    while time.monotonic() < deadline:
        try:
            said = await asyncio.to_thread(check)
            if said:
                return said
        except psycopg.Error as error:
            said = error
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {said!r}")


def query(database: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def table(view: str) -> str:
    found = by_name(view)
    assert found is not None
    return f"{SCHEMA}.{found.table.name}"


def count(database: str, view: str) -> int:
    return int(query(database, f"SELECT count(*) FROM {table(view)}")[0][0])


def dump(database: str) -> dict[str, list[str]]:
    """Return every row of every view as PostgreSQL prints it."""
    return {
        view.name: [row[0] for row in query(database, f"SELECT t::text FROM {table(view.name)} t ORDER BY 1")]
        for view in VIEWS
    }


def a_run(log: EventLog, name: str, removed: Collection[int] = ()) -> str:
    at = log.clock
    return log.emit(
        "run",
        name,
        RunCreated("sync", DEFINITION, "h1", '{"n": 1}', False, "manual", None, None, None, "{}", at),
        StepOffered("read", 1, "default", at),
        StepClaimed("read", 1, "t1", "node-a", at),
        StepSucceeded("read", 1, '{"records": 3}', 3, 3, 0, 99, at),
        RunEnded("succeeded", None, "sync", None, "manual", at),
        removed=removed,
    )


def fill(log: EventLog, runs: int = 40) -> None:
    for n in range(runs):
        log.emit(
            "pipeline", f"p-{n}", PipelineApplied(DEFINITION, "h1", 1, log.clock), PipelinePaused(log.clock)
        )
        a_run(log, f"run-{n}")
        log.outcome("run", f"run-{n}", str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))))
    log.raw(
        log.topics.quarantine("run"),
        b"garbage",
        b"run.commands/0/7",
        0,
        {"cause": b"undecodable", "original-key": b"default/run-1", "at": b"2026-01-01T00:00:00Z"},
    )
    log.flush()


def all_there(database: str, runs: int = 40) -> bool:
    ended = query(database, f"SELECT count(*) FROM {table('run')} WHERE status = 'succeeded'")[0][0]
    return bool(
        ended == runs
        and count(database, "event") == runs * 7
        and count(database, "command") == runs
        and count(database, "quarantine") == 1
    )


async def test_every_record_becomes_its_rows(log: EventLog, database: str) -> None:
    """Events, outcomes and quarantined records are rows of their views; the projector says it is ready."""
    fill(log)
    node = projector(log, database)
    async with running(node):
        await eventually(lambda: all_there(database))
        await eventually(lambda: node.ready)
        assert node.problem is None
        await eventually(lambda: sum(node.lag().values()) == 0)  # it looks every two seconds
    row = query(database, f"SELECT status, version, steps FROM {table('run')} WHERE id = 'run-3'")[0]
    assert row[:2] == ("succeeded", 5)
    assert [step["status"] for step in row[2]] == ["succeeded", "pending"]
    assert row[2][0]["output"] == {"records": 3}
    assert query(database, f"SELECT DISTINCT status, number FROM {table('pipeline')}") == [("paused", 1)]


async def test_a_dropped_schema_is_folded_again_to_equal_rows(log: EventLog, database: str) -> None:
    """DROP SCHEMA while the projector runs: it makes the tables again and ends with the same bytes."""
    fill(log)
    async with running(projector(log, database)):
        await eventually(lambda: all_there(database))
        before = dump(database)
        query_none(database, f"DROP SCHEMA {SCHEMA} CASCADE")
        log.emit("pipeline", "p-late", PipelineApplied(DEFINITION, "h1", 1, log.clock))
        log.flush()
        await eventually(lambda: count(database, "pipeline") == 41 and all_there_late(database))
        after = dump(database)
    for view, rows in before.items():
        late = [row for row in after[view] if "p-late" in row]
        assert [row for row in after[view] if row not in late] == rows, view


def all_there_late(database: str) -> bool:
    return bool(
        count(database, "event") == 281 and count(database, "run") == 40 and count(database, "command") == 40
    )


def query_none(database: str, statement: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(statement.encode())


async def test_a_redacted_event_is_one_row_with_its_new_body(log: EventLog, database: str) -> None:
    """A redaction of an old event, met later or in the batch of the event itself, moves and applies nothing."""
    last = a_run(log, "run-1")
    log.flush()
    secret = StepSucceeded("read", 1, '{"mail": "ada@example.org"}', 3, 3, 0, 99, 0)
    said = StepSucceeded("read", 1, '{"redacted": true}', 3, 3, 0, 99, 0)
    async with running(projector(log, database)):
        await eventually(lambda: count(database, "event") == 5)
        before = query(database, f"SELECT t::text FROM {table('run')} t")
        log.redact("run", "run-1", 4, secret)
        log.redact("run", "run-1", 4, said)
        log.flush()
        changed = f"SELECT body->>'output', redacted FROM {table('event')} WHERE version = 4"
        wanted = [('{"redacted": true}', "ada: asked for")]
        await eventually(lambda: query(database, changed) == wanted)
        await eventually(lambda: count(database, "event") == 5)
        assert query(database, f"SELECT t::text FROM {table('run')} t") == before
        reached = f"SELECT max(sequence) FROM {SCHEMA}.checkpoint WHERE topic = '{log.topics.events('run')}'"
        assert query(database, reached) == [(int(last.rpartition(":")[2]),)]
        told = dump(database)
        query_none(database, f"DROP SCHEMA {SCHEMA} CASCADE")
        await eventually(lambda: count(database, "event") == 5 and query(database, changed) == wanted)
        assert dump(database) == told


@pytest.mark.parametrize("removed", [(), (1, 4), (1,), (4,)])
async def test_a_row_is_what_its_events_say_since_some_were_redacted(
    log: EventLog, database: str, removed: tuple[int, ...]
) -> None:
    """Whether the cleaner has removed the first bodies or not, and the projector met the events before or after."""
    a_run(log, "run-1", removed)
    log.flush()
    node = projector(log, database)
    async with running(node):
        await eventually(lambda: count(database, "event") == 5 - len(removed))
        created = RunCreated("sync", DEFINITION, "h1", "{}", False, "manual", None, None, None, "{}", 0)
        for version, said in ((1, created), (4, StepSucceeded("read", 1, "{}", 3, 3, 0, 99, 0))):
            log.redact("run", "run-1", version, said)
            event = EventRedacted(version, version, "e", type(said).__name__, ("input",), "asked for", "", 0)
            log.emit("run", "run-1", event)
        log.flush()
        row = f"SELECT version, input, status, steps FROM {table('run')}"
        await eventually(lambda: [one[0] for one in query(database, row)] == [7])
        ((_, given, status, steps),) = query(database, row)
        assert (given, status, steps[0]["output"], steps[0]["records_out"]) == ({}, "succeeded", {}, 3)
        told = dump(database)
        query_none(database, f"DROP SCHEMA {SCHEMA} CASCADE")
        await eventually(lambda: [one[0] for one in query(database, row)] == [7])
        assert dump(database) == told
        assert node.complaint is None
    assert [text for rows in told.values() for text in rows if '"n"' in text] == []


async def test_sessions_that_are_ended_are_opened_again(log: EventLog, database: str) -> None:
    """pg_terminate_backend under load loses nothing and writes nothing twice."""
    node = projector(log, database)
    async with running(node):
        for part in range(5):
            for n in range(part * 8, part * 8 + 8):
                log.emit(
                    "pipeline",
                    f"p-{n}",
                    PipelineApplied(DEFINITION, "h1", 1, log.clock),
                    PipelinePaused(log.clock),
                )
                a_run(log, f"run-{n}")
            log.flush()
            await asyncio.sleep(0.1)
            query(
                database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        await eventually(lambda: count(database, "event") == 280)
        await eventually(lambda: node.problem is None)
    assert query(database, f"SELECT count(*), min(version) FROM {table('run')}") == [(40, 5)]


async def test_two_projectors_of_the_same_partitions_write_each_row_once(
    log: EventLog, database: str
) -> None:
    """Two groups hold every partition at once: compare-and-set lets one of them move each checkpoint."""
    first, second = projector(log, database, "a", "one"), projector(log, database, "b", "two")
    async with running(first, second):
        for n in range(30):
            a_run(log, f"run-{n}")
            log.flush()
            await asyncio.sleep(0.02)
        await eventually(lambda: count(database, "event") == 150)
    assert query(database, f"SELECT count(*), min(version), max(version) FROM {table('run')}") == [(30, 5, 5)]
    assert first.counters()["records"] + second.counters()["records"] >= 150


async def test_nodes_share_the_partitions_and_take_over(log: EventLog, database: str) -> None:
    """Two nodes of a cluster share the partitions; when one leaves, the other goes on where it was."""
    first, second = projector(log, database, "a"), projector(log, database, "b")
    async with running(first):
        async with running(second):
            await eventually(lambda: first.lag() and second.lag())
            fill(log)
            await eventually(lambda: all_there(database))
            assert first.counters()["records"] > 0
            assert second.counters()["records"] > 0
        log.emit("pipeline", "p-late", PipelineApplied(DEFINITION, "h1", 1, log.clock))
        log.flush()
        await eventually(lambda: count(database, "pipeline") == 41)


async def test_poison_is_reported_and_passed(log: EventLog, database: str) -> None:
    """Garbage on an events topic, a NUL and a key too large for an index cost their own rows and nobody else's."""
    a_run(log, "run-1")
    log.raw(log.topics.events("run"), b"\x00\x00\x00\x27\x10 garbage", b"x", 0)
    log.raw(log.topics.events("run"), b"{}", b"x", 1)
    log.outcome("run", "run-1", "has\0nul")
    # A random text, so that the index cannot compress it below its limit.
    log.outcome("run", "run-1", "".join(uuid.uuid4().hex for _ in range(1000)))
    a_run(log, "run-2")
    log.flush()
    node = projector(log, database)
    async with running(node):
        await eventually(lambda: count(database, "run") == 2 and count(database, "command") == 1, 60)
        await eventually(lambda: node.counters()["errors"] == 3, 60)
        assert "3 records could not be projected" in str(node.complaint)
        assert node.problem is None
    errors = query(database, f"SELECT view, cause FROM {SCHEMA}.projection_errors ORDER BY 1, 2")
    assert len(errors) == 3
    assert errors[2][0] == "command"


async def test_a_topic_made_anew_starts_over(log: EventLog, database: str) -> None:
    """A checkpoint speaks of one topic id: after delete and create the old rows are gone, the new ones there."""
    a_run(log, "run-old")
    log.flush()
    node = projector(log, database)
    async with running(node):
        await eventually(lambda: count(database, "run") == 1)
        admin = AdminClient(log.kafka)
        for future in admin.delete_topics([log.topics.events("run")]).values():
            future.result(10)
        await asyncio.sleep(0.5)
        log.create("run")
        log.sequences.clear()
        await asyncio.sleep(0.5)
        a_run(log, "run-new")
        a_run(log, "run-newer")
        log.flush()
        await eventually(
            lambda: (
                query(database, f"SELECT id FROM {table('run')} ORDER BY 1") == [("run-new",), ("run-newer",)]
            ),
            60,
        )


async def test_without_a_database_it_waits_and_says_so(log: EventLog, postgres: PostgresService) -> None:
    """A database that cannot be reached is a problem that is named, and forgotten once it is over."""
    database = postgres.new_database()
    missing = database + "-not-yet"
    node = projector(log, missing)
    a_run(log, "run-1")
    log.flush()
    async with running(node):
        await eventually(lambda: "database" in str(node.problem))
        assert not node.ready
        name = missing.rpartition("/")[2].partition("?")[0]
        query_none(database, f'CREATE DATABASE "{name}"')
        await eventually(lambda: count(missing, "run") == 1)
        await eventually(lambda: node.ready and node.problem is None)
