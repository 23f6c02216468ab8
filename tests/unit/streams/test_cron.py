"""The calendar of schedules."""

from datetime import UTC, datetime
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


def slots(cron: str, after: int, until: int, zone: ZoneInfo = NEW_YORK, **more: str) -> list[str]:
    """Return the slots between two moments as the zone's clocks show them, with their offset from UTC in hours."""
    found = []
    spec = {"cron": cron, "timezone": zone.key, **more}
    while (after := next_slot(spec, after)) < until:
        found.append(datetime.fromtimestamp(after / 1000, zone).strftime("%d %H:%M %z").removesuffix("00"))
    return found


def night(zone: str, *day: int) -> tuple[int, int, ZoneInfo]:
    """Return the 36 hours from noon of the day before, as ``slots`` wants them."""
    noon = int(datetime(*day, tzinfo=UTC).timestamp() * 1000) - 12 * 3_600_000  # type: ignore[misc,arg-type]  # a date
    return noon, noon + 36 * 3_600_000, ZoneInfo(zone)


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


@pytest.mark.parametrize(
    ("dst", "spring", "autumn", "midnight"),
    [
        ("first", ["10 03:00 -04"], ["03 01:30 -04"], ["04 01:00 -02"]),
        ("both", ["10 03:00 -04"], ["03 01:30 -04", "03 01:30 -05"], ["04 01:00 -02"]),
        ("skip", [], ["03 01:30 -04"], []),
    ],
)
def test_the_schedule_says_what_becomes_of_times_that_do_not_come_or_come_twice(
    dst: str, spring: list[str], autumn: list[str], midnight: list[str]
) -> None:
    """In São Paulo it was midnight that did not come, and the hour before midnight that came twice."""
    assert slots("30 2 * * *", *SPRING, dst=dst) == spring
    assert slots("30 1 * * *", *AUTUMN, dst=dst) == autumn
    assert slots("30 0 * * *", *night("America/Sao_Paulo", 2018, 11, 4), dst=dst) == midnight
    back = slots("30 23 * * *", *night("America/Sao_Paulo", 2018, 2, 18), dst=dst)
    assert back == ["17 23:30 -02", "17 23:30 -03"][: len(autumn)]


def test_a_schedule_that_goes_by_the_clock_does_so_at_midnight_and_by_half_hours() -> None:
    """On the first day of summer too, chosen by its date; and the hour that a shorter change cuts into is not lost."""
    begin = night("America/Sao_Paulo", 2018, 11, 4)
    assert slots("0 */2 * * SUN", *begin)[:2] == ["04 02:00 -02", "04 04:00 -02"]
    assert slots("0 23,0,1 * * *", *begin) == ["03 23:00 -03", "04 01:00 -02"]
    half_hour = slots("0 */2 * * *", *night("Australia/Lord_Howe", 2024, 4, 7))
    assert half_hour[:3] == ["07 00:00 +11", "07 02:00 +1030", "07 04:00 +1030"]


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
