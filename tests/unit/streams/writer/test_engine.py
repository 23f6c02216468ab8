"""A transaction goes on while there is a backlog, and is never open for long."""

import asyncio
from types import SimpleNamespace
from typing import Any

from streams.writer.engine import Engine
from streams.writer.work import Work


def _engine(waiting: int, pace_s: float = 0.0) -> tuple[Any, list[int]]:
    """Return an engine with so many commands waiting, as far as going on asks for it, and what it produced."""
    engine: Any = object.__new__(Engine)
    produced: list[int] = []
    left = [waiting]

    def decide(work: Work) -> None:
        taken = min(512, left[0])
        left[0] -= taken
        work.records += taken

    engine._stopping, engine._pace_s = False, pace_s
    engine.ownership = SimpleNamespace(awaited=lambda _: False)
    engine._decide, engine._produce = decide, lambda work: produced.append(work.records)
    return engine, produced


def test_a_backlog_goes_into_the_open_transaction_until_less_than_a_chunk_is_left() -> None:
    """Given 1,100 commands waiting, when the transaction is open, then they are produced chunk by chunk."""
    engine, produced = _engine(1100)
    asyncio.run(engine._go_on(Work()))
    assert produced == [512, 1024, 1100]


def test_slow_rules_are_not_asked_while_the_transaction_is_open() -> None:
    """Given rules that take a millisecond each, then a chunk would take too long: the transaction is committed."""
    engine, produced = _engine(1100, pace_s=0.001)
    asyncio.run(engine._go_on(Work()))
    assert produced == []


def test_a_shard_that_is_given_up_ends_the_transaction() -> None:
    """Given somebody waits for a shard of the work, or the worker stops, then nothing more is taken."""
    engine, produced = _engine(1100)
    engine.ownership = SimpleNamespace(awaited=lambda _: True)
    asyncio.run(engine._go_on(Work()))
    engine.ownership, engine._stopping = SimpleNamespace(awaited=lambda _: False), True
    asyncio.run(engine._go_on(Work()))
    assert produced == []
