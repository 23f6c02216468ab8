"""Schedules in virtual time: nights when clocks change, runs that are still at work when the next slot comes."""

from typing import Any

import pytest

from streams.domain.definition import Definition, canonical
from streams.domain.run.events import RunEnded
from streams.domain.schedule import SlotSkipped
from streams.rehearsal.rehearsal import Rehearsal, rehearse
from streams.rehearsal.scenario_file import scenarios_of
from tests.support.pipeline_files import command, pipeline


def let(calendar: dict[str, Any], **scenario: Any) -> Rehearsal:
    """Let a schedule start runs of one step."""
    text = canonical(pipeline(command("a"), schedule=calendar))
    (read,), wrong = scenarios_of({"scenarios": [{"name": "it", **scenario}]}, Definition.parse(text))
    assert wrong == []
    return rehearse(text, read)


@pytest.mark.parametrize(
    ("zone", "start", "cron", "dst", "slots"),
    [
        ("America/New_York", "2024-03-09T05", "30 2 * * *", "first", ["03-09T07:30", "03-10T07:00", "03-11T06:30"]),
        ("America/New_York", "2024-03-09T05", "30 2 * * *", "skip", ["03-09T07:30", "03-11T06:30"]),
        ("America/New_York", "2024-11-02T04", "30 1 * * *", "first", ["11-02T05:30", "11-03T05:30", "11-04T06:30"]),
        ("America/New_York", "2024-11-02T04", "30 1 * * *", "both",
         ["11-02T05:30", "11-03T05:30", "11-03T06:30", "11-04T06:30"]),
        ("America/Sao_Paulo", "2018-11-02T04", "0 0 * * *", "first", ["11-03T03:00", "11-04T03:00", "11-05T02:00"]),
        ("America/Sao_Paulo", "2018-02-16T03", "30 23 * * *", "both",
         ["02-17T01:30", "02-18T01:30", "02-18T02:30", "02-19T02:30"]),
    ],
)  # fmt: skip
def test_a_schedule_goes_through_the_nights_when_clocks_change(
    zone: str, start: str, cron: str, dst: str, slots: list[str]
) -> None:
    """No night without its run, and none with two, unless the schedule wants it so."""
    times = [f"{start[:4]}-{slot}:00Z" for slot in slots]
    calendar = {"cron": cron, "timezone": zone, "dst": dst}
    came = let(calendar, start=f"{start}:00:00Z", schedule="72h", expect={"slots": times})
    assert came.differences == ()
    assert sum(isinstance(event.body, RunEnded) for event in came.events) == len(slots)


def test_a_run_that_is_still_at_work_lets_slots_go_by() -> None:
    """A step that takes twelve minutes, every five: one of three slots fires; what was expected otherwise is told."""
    slots = ["2026-01-01T00:05:00Z", "2026-01-01T00:20:00Z", "2026-01-01T00:30:00Z"]
    came = let(
        {"every": "5m"},
        schedule="30m",
        steps={"a": {"succeed": {"duration": "12m"}}},
        expect={"slots": slots},
    )
    assert came.differences == ("slots: expected 2026-01-01T00:30:00Z, but it did not fire",)
    skipped = [event.body.reason for event in came.events if isinstance(event.body, SlotSkipped)]
    assert skipped == ["overlap"] * 4
    assert (came.run["status"], came.ways["a", "succeeded"]) == ("succeeded", 2)
    failing = let({"every": "20m"}, schedule="45m", steps={"a": [{"fail": {}}]}, expect={"slots": slots[1:2]})
    assert failing.differences == (
        "slots: 2026-01-01T00:40:00Z fired, not expected",
        "status of slot 2026-01-01T00:20:00Z: expected succeeded, but it is failed (step a failed: failed, says the scenario)",
        "status of slot 2026-01-01T00:40:00Z: expected succeeded, but it is failed (step a failed: failed, says the scenario)",
    )


@pytest.mark.parametrize(
    ("overlap", "slots", "status"),
    [
        ("buffer_one", [5, 10, 15, 25], "succeeded"),
        ("buffer_all", [5, 10, 15, 20, 25], "succeeded"),
        ("cancel_other", [5, 10, 15, 20, 25], "cancelled"),
    ],
)
def test_a_slot_that_meets_a_run_at_work_waits_for_its_end_or_ends_it(
    overlap: str, slots: list[int], status: str
) -> None:
    """A step that takes nine minutes, every five."""
    came = let(
        {"every": "5m", "overlap": overlap},
        schedule="29m",
        steps={"a": {"succeed": {"duration": "9m"}}},
        expect={"slots": [f"2026-01-01T00:{slot:02}:00Z" for slot in slots], "status": status},
    )
    wrong = "status of slot 2026-01-01T00:25:00Z: expected cancelled, but it is succeeded"
    assert came.differences == ((wrong,) if status == "cancelled" else ())


def test_a_schedule_that_starts_nothing_is_told() -> None:
    """There is no run then to say anything of."""
    came = let({"cron": "0 0 1 1 *"}, schedule="9d", expect={"slots": ["2026-01-02T00:00:00Z"]})
    assert came.differences == ("slots: expected 2026-01-02T00:00:00Z, but it did not fire",)
    assert (came.run, came.waits, came.virtual_ms) == ({}, "", 9 * 86_400_000)
