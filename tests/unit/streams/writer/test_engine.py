"""A transaction goes on while there is a backlog, is never open for long, and sends its offsets first."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.writer.engine import Engine
from streams.writer.work import Work


def _engine(waiting: int, pace_s: float = 0.0) -> tuple[Any, list[int], list[int]]:
    """Return an engine with so many commands waiting, as far as going on asks for it; how many it has decided after each
    chunk, and at which sizes it had them written.
    """
    engine: Any = object.__new__(Engine)
    decided: list[int] = []
    flushed: list[int] = []
    left = [waiting]

    def decide(work: Work) -> None:
        taken = min(512, left[0])
        left[0] -= taken
        work.records += taken
        work.batches.size += taken * 1000
        decided.append(work.records)

    engine._stopping, engine._pace_s = False, pace_s
    engine.ownership = SimpleNamespace(awaited=lambda _: False)
    engine._decide, engine._writer = decide, SimpleNamespace(flush=None)
    engine._commit_thread = SimpleNamespace(submit=lambda _: flushed.append(decided[-1]))
    return engine, decided, flushed


def test_a_backlog_goes_into_the_open_transaction_until_less_than_a_chunk_is_left() -> None:
    """Given 1,100 commands waiting, when the transaction is open, then they are decided chunk by chunk, and written meanwhile."""
    engine, decided, flushed = _engine(1100)
    asyncio.run(engine._go_on(Work()))
    assert decided == [512, 1024, 1100]
    assert flushed == [], "a chunk has 0.5 MB: the last 1.1 go with the commit"
    engine, decided, flushed = _engine(3000)
    asyncio.run(engine._go_on(Work()))
    assert flushed[0] == 1536


def test_slow_rules_are_not_asked_while_the_transaction_is_open() -> None:
    """Given rules that take a millisecond each, then a chunk would take too long: the transaction is committed."""
    engine, decided, _ = _engine(1100, pace_s=0.001)
    asyncio.run(engine._go_on(Work()))
    assert decided == []


def test_a_shard_that_is_given_up_ends_the_transaction() -> None:
    """Given somebody waits for a shard of the work, or the worker stops, then nothing more is taken."""
    engine, decided, _ = _engine(1100)
    engine.ownership = SimpleNamespace(awaited=lambda _: True)
    asyncio.run(engine._go_on(Work()))
    engine.ownership, engine._stopping = SimpleNamespace(awaited=lambda _: False), True
    asyncio.run(engine._go_on(Work()))
    assert decided == []


class _Writer:
    """A producer that sends nothing before it was given the offsets."""

    def __init__(self, failure: KafkaException | None = None) -> None:
        self.told: list[str] = []
        self._failure, self._given = failure, threading.Event()
        self.usable = True

    def begin(self, _batches: Any) -> None:
        self.told.append("begin")

    def send_offsets(self, *_: Any) -> None:
        self.told.append("offsets")
        self._given.set()
        if self._failure is not None:
            raise self._failure

    def add(self, _records: list[Any]) -> None:
        assert self._given.wait(60), "the offsets come first"
        self.told.append("records")

    def commit(self) -> None:
        self.told.append("commit")


def _sending(writer: _Writer) -> tuple[Any, Any]:
    """Return an engine with this writer and one part to write."""
    engine: Any = object.__new__(Engine)
    engine._writer, engine._commit_thread = writer, ThreadPoolExecutor(1)
    engine._stopping, engine._now_ms, engine._offsets = False, 0, lambda _: []
    engine._snapshots = engine._checkpoints = SimpleNamespace(stage=lambda *_, **__: None)
    engine._settings = SimpleNamespace(commit_gap_ms=1)
    engine.ownership = SimpleNamespace(
        buffered=(511, 0), more=asyncio.Event(), ask=lambda: writer.told.append("ask")
    )
    work = SimpleNamespace(
        batches=SimpleNamespace(add=writer.add, size=0), membership=SimpleNamespace(valid=True)
    )
    work.parts = {("account", 0): SimpleNamespace(out=[])}
    return engine, work


def test_offsets_do_not_wait_behind_the_records_of_their_transaction() -> None:
    """Given less than a chunk waits, when the transaction is written, then offsets, records, and the end; and when it has
    ended, more is read.
    """

    async def send(writer: _Writer) -> None:
        engine, work = _sending(writer)
        await engine._send(work)
        await work.commit

    writer = _Writer()
    asyncio.run(send(writer))
    assert writer.told == ["begin", "offsets", "records", "commit", "ask"]


def _gathering(records: int) -> tuple[Any, Any]:
    """Return an engine that has asked for more and may begin a transaction of so many records."""
    engine: Any = object.__new__(Engine)
    engine._flight = engine._pause = None
    engine._stopping, engine._decide = False, lambda *_: False
    engine._news_until = time.monotonic() + 60
    engine.ownership = SimpleNamespace(asked=True, more=asyncio.Event(), buffered=(0, 0))
    return engine, SimpleNamespace(records=records)


def test_a_small_transaction_takes_with_it_what_came_while_the_one_before_committed() -> None:
    """Given more was asked for, then it waits until that has come; else all that comes would be written one transaction late."""

    async def gather() -> None:
        engine, work = _gathering(3)
        gathering = asyncio.create_task(engine._gather(work))
        await asyncio.sleep(0.02)
        assert not gathering.done()
        engine.ownership.asked = False
        engine.ownership.more.set()
        await asyncio.wait_for(gathering, 10)

    asyncio.run(gather())


def test_a_transaction_does_not_wait_long_for_more_and_a_large_one_not_at_all() -> None:
    """Given nothing comes, then it begins a moment later; given it is large, at once."""

    async def gather() -> None:
        engine, work = _gathering(3)
        engine._news_until = time.monotonic() + 0.003
        await asyncio.wait_for(engine._gather(work), 10)
        await asyncio.wait_for(_gathering(64)[0]._gather(SimpleNamespace(records=64)), 10)

    asyncio.run(gather())


def test_the_next_transaction_waits_until_the_coordinator_had_its_pause() -> None:
    """Given a transaction is committed, then the pause ends a moment later, and the loop hears of both."""

    async def send(writer: _Writer) -> None:
        engine, work = _sending(writer)
        engine._settings = SimpleNamespace(commit_gap_ms=50)
        await engine._send(work)
        await work.commit
        await asyncio.wait_for(engine.ownership.more.wait(), 10)
        engine.ownership.more.clear()
        assert not engine._pause.done()
        await asyncio.wait_for(engine.ownership.more.wait(), 10)
        assert engine._pause.done()

    asyncio.run(send(_Writer()))


def test_nothing_is_committed_whose_offsets_were_refused() -> None:
    """Given the broker refuses the offsets, then the commit fails with its reason and nothing is committed."""

    async def send(writer: _Writer) -> None:
        engine, work = _sending(writer)
        await engine._send(work)
        with pytest.raises(KafkaException, match="ILLEGAL_GENERATION"):
            await work.commit

    writer = _Writer(KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION)))
    asyncio.run(send(writer))
    assert writer.told == ["begin", "offsets", "records"]
