"""The world's clock, by a schedule over the nights when clocks change: which slots fire, each its own run."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams.aggregates import builtin
from streams.domain import instant
from streams.domain.definition import canonical
from streams.domain.pipeline import ApplyPipeline
from streams.domain.run.events import RunEnded
from streams.domain.schedule import SlotFired
from streams.reactors import REACTORS
from streams.rehearsal.runners import Runners
from streams.rehearsal.world import Happened, World
from tests.support.pipeline_files import command, pipeline


def played(start: str, hours: int, **schedule: Any) -> list[Any]:
    """Let a schedule start runs for so many hours of virtual time; return all events."""
    told: list[Happened] = []
    runners = Runners({})
    begin = instant.parse(start)
    world = World(
        builtin(), REACTORS, begin, told.append,
        lambda offer: world.plan(world.now, lambda: runners.take(world, offer.task)),
    )  # fmt: skip
    world.ask(
        "pipeline",
        "nightly",
        ApplyPipeline(canonical(pipeline(command("a"), name="nightly", schedule=schedule))),
    )
    world.live(lambda: False, begin + hours * 3_600_000)
    return [event.body for event in told]


@pytest.mark.parametrize(
    ("zone", "start", "cron", "dst", "fired"),
    [
        ("America/New_York", "2024-03-09T05:00:00Z", "30 2 * * *", "first", ["09 02:30", "10 03:00", "11 02:30"]),
        ("America/New_York", "2024-03-09T05:00:00Z", "30 2 * * *", "skip", ["09 02:30", "11 02:30"]),
        ("America/New_York", "2024-11-02T04:00:00Z", "30 1 * * *", "first", ["02 01:30", "03 01:30", "04 01:30"]),
        ("America/New_York", "2024-11-02T04:00:00Z", "30 1 * * *", "both",
         ["02 01:30", "03 01:30", "03 01:30", "04 01:30"]),
        ("America/Sao_Paulo", "2018-11-03T02:00:00Z", "0 0 * * *", "first", ["03 00:00", "04 01:00", "05 00:00", "06 00:00"]),
        ("America/Sao_Paulo", "2018-02-16T03:00:00Z", "30 23 * * *", "both",
         ["16 23:30", "17 23:30", "17 23:30", "18 23:30"]),
    ],
)  # fmt: skip
def test_a_schedule_goes_through_the_nights_when_clocks_change(
    zone: str, start: str, cron: str, dst: str, fired: list[str]
) -> None:
    """No night without its run, and none with two, unless the schedule wants it so."""
    events = played(start, 73, cron=cron, timezone=zone, dst=dst)
    slots = [event for event in events if isinstance(event, SlotFired)]
    shown = [
        datetime.fromtimestamp(event.slot / 1000, ZoneInfo(zone)).strftime("%d %H:%M") for event in slots
    ]
    assert shown == fired
    assert len({event.run_id for event in slots}) == len(fired)
    assert [event.slot for event in events if isinstance(event, RunEnded)] == [event.slot for event in slots]
    assert all(event.at == event.slot for event in slots)
