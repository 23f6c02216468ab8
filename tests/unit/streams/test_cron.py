"""The calendar of schedules."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cron import mistake, next_slot

NEW_YORK = ZoneInfo("America/New_York")


def ms(year: int, month: int, day: int, hour: int, minute: int, *, fold: int = 0) -> int:
    """Return a wall clock time in New York in ms since the epoch."""
    return int(datetime(year, month, day, hour, minute, fold=fold, tzinfo=NEW_YORK).timestamp() * 1000)


def slots(cron: str, after: int, until: int) -> list[str]:
    """Return the slots between two moments as New York's clocks show them, with their offset from UTC in hours."""
    found = []
    spec = {"cron": cron, "timezone": "America/New_York"}
    while (after := next_slot(spec, after)) < until:
        found.append(datetime.fromtimestamp(after / 1000, NEW_YORK).strftime("%d %H:%M %z")[:-2])
    return found


SPRING = (ms(2024, 3, 10, 0, 1), ms(2024, 3, 11, 0, 1))
AUTUMN = (ms(2024, 11, 3, 0, 1), ms(2024, 11, 4, 0, 1))


def test_in_spring_a_time_that_does_not_exist_fires_once_at_the_first_minute_that_does() -> None:
    """2:30 never comes that night; the run must not be lost."""
    assert slots("30 2 * * *", *SPRING) == ["10 03:00 -04"]


def test_in_spring_a_wildcard_hour_leaves_out_what_does_not_exist() -> None:
    """It has 23 hours."""
    assert slots("0 * * * *", *SPRING)[:3] == ["10 01:00 -05", "10 03:00 -04", "10 04:00 -04"]
    assert len(slots("0 * * * *", *SPRING)) == 23


def test_in_autumn_a_fixed_time_fires_once_at_its_first_coming() -> None:
    """1:30 comes twice that night."""
    assert slots("30 1 * * *", *AUTUMN) == ["03 01:30 -04"]


def test_in_autumn_a_wildcard_hour_fires_in_both() -> None:
    """It has 25 hours."""
    assert slots("*/30 * * * *", *AUTUMN)[1:5] == [
        "03 01:00 -04",
        "03 01:30 -04",
        "03 01:00 -05",
        "03 01:30 -05",
    ]


def test_in_the_repeated_hour_the_next_slot_still_lies_ahead() -> None:
    """Asked between the two, the first coming is over."""
    spec = {"cron": "30 1 * * *", "timezone": "America/New_York"}
    assert next_slot(spec, ms(2024, 11, 3, 1, 10, fold=1)) == ms(2024, 11, 4, 1, 30)


def test_a_slot_is_strictly_after() -> None:
    """Asked at a slot, the answer is the one after it; a millisecond before it, it is that slot."""
    spec = {"cron": "*/5 * * * *"}
    assert next_slot(spec, 300_000) == 600_000
    assert next_slot(spec, 299_999) == 300_000


def test_an_interval_is_counted_from_the_epoch() -> None:
    """Every node has the same slots, whenever it started."""
    assert next_slot({"every": "5s"}, 12_345) == 15_000
    assert next_slot({"every": "5s"}, 15_000) == 20_000


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"cron": "* * * * * *"}, "wrong number of fields"),
        ({"cron": "0 25 * * *"}, "bad hour"),
        ({"cron": "0 0 31 2 *"}, "bad day-of-month"),
        ({"cron": "0 0 * * *", "timezone": "Nowhere"}, "no time zone"),
        ({"cron": "0 0 * * *", "timezone": "America"}, "no time zone"),
        ({"cron": "0 0 * * *", "timezone": "../etc/passwd"}, "no time zone"),
        ({"every": "0s"}, "longer than nothing"),
        ({"every": "x"}, "no duration"),
    ],
)
def test_what_cannot_be_used_says_why(spec: dict[str, Any], words: str) -> None:
    """In a sentence for the user."""
    assert words in (mistake(spec) or "")


def test_what_can_be_used_has_no_mistake() -> None:
    """Names of days and months are understood."""
    assert mistake({"cron": "0 9 * jan-jun mon-fri", "timezone": "America/Sao_Paulo"}) is None


@given(
    st.sampled_from(["*/7 * * * *", "30 1 * * *", "0 2 * * SUN", "15 */2 1,15 * *", "0 12 L * *"]),
    st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo"]),
    st.integers(0, 2**41),
)
def test_slots_always_go_forward(cron: str, zone: str, after: int) -> None:
    """In every zone, at every moment."""
    spec = {"cron": cron, "timezone": zone}
    first = next_slot(spec, after)
    assert after < first < next_slot(spec, first)
