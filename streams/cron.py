"""The slots of a schedule: cron in a time zone (as Debian's cron has it), or multiples of an interval."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from streams.domain import duration

REPEATED_MAX_S = 3 * 3_600
"""No clock has been put back by more than this at once, but for a change of date."""


def next_slot(spec: Mapping[str, Any], after_ms: int) -> int:
    """Return the first slot strictly after ``after_ms``, both in ms since the epoch.

    ``every``: multiples of the interval since the epoch, on every node the same. ``cron``: five fields in ``timezone``
    (UTC unless told). A schedule whose minute or hour begins with ``*`` goes by the clock: what the clock leaves out
    when it goes forward is left out, what it shows twice when it goes back fires in both. For all others ``dst`` says
    what becomes of a time that does not exist, and of one that comes twice: ``first`` (unless told) fires at the first
    minute that exists, and at the first coming; ``both`` at that minute, and at both; ``skip`` not at all, and at the
    first.
    The spec has the shape of a definition's ``schedule`` block. Raise ValueError, with a sentence for the user, when the
    spec cannot be understood or never comes.
    """
    every = spec.get("every")
    if every is not None:
        interval_ms = duration.parse(every)
        if interval_ms <= 0:
            raise ValueError("every must be longer than nothing")
        return (after_ms // interval_ms + 1) * interval_ms
    cron: str = spec["cron"]
    zone = _zone(spec.get("timezone", "UTC"))
    fields = cron.split()
    by_clock = any(field.startswith("*") for field in fields[:2])
    policy = "clock" if by_clock else spec.get("dst", "first")
    found: list[int] = []
    try:
        if len(fields) != 5:
            raise CronSimError("Wrong number of fields")
        for shown in CronSim(cron, _begin(after_ms, zone)):
            moments = _moments(shown, zone, policy)
            found += [moment for moment in moments if moment > after_ms]
            if found and moments[:1] > [after_ms]:
                # Later times come later, but a second coming of an earlier one may still be before this one.
                return min(found)
    except CronSimError as error:
        raise ValueError(f"cron {cron!r}: {str(error).lower()}") from error
    raise ValueError(f"cron {cron!r} never comes")


def _begin(after_ms: int, zone: tzinfo) -> datetime:
    """Return the time on the clock from which to look: earlier, if the clock may show times again that it has shown."""
    after = datetime.fromtimestamp(after_ms // 1000, zone)
    shown = after.replace(tzinfo=None)
    if zone is UTC:
        return shown
    before, later = (
        datetime.fromtimestamp(after_ms // 1000 + way * REPEATED_MAX_S, zone).utcoffset() for way in (-1, 1)
    )
    return shown if before == after.utcoffset() == later else shown - timedelta(seconds=REPEATED_MAX_S)


def _moments(shown: datetime, zone: tzinfo, policy: str) -> list[int]:
    """Return when a time on the clock fires, in ms since the epoch: not at all, once or twice."""
    comings = [_moment(shown, zone, fold) for fold in ((0,) if zone is UTC else (0, 1))]
    if comings[0] == comings[-1]:
        return comings[:1]
    if comings[0] < comings[1]:
        return comings if policy in {"clock", "both"} else comings[:1]
    if policy in {"clock", "skip"}:
        return []
    while comings[0] != comings[1]:  # it does not exist: minute by minute to the first one that does
        shown += timedelta(minutes=1)
        comings = [_moment(shown, zone, fold) for fold in (0, 1)]
    return comings[:1]


def _moment(shown: datetime, zone: tzinfo, fold: int) -> int:
    return int(shown.replace(tzinfo=zone, fold=fold).timestamp()) * 1000


def mistake(spec: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a schedule's cron syntax or time zone; None if it can be used."""
    try:
        next_slot(spec, 0)
    except ValueError as error:
        return str(error)
    return None


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError(f"there is no time zone {name!r}: write for example Europe/Berlin") from error
