"""The slots of a schedule: cron in a time zone (as Debian's cron has it), or multiples of an interval."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from streams.domain import duration


def next_slot(spec: Mapping[str, Any], after_ms: int) -> int:
    """Return the first slot strictly after ``after_ms``, both in ms since the epoch.

    ``every``: multiples of the interval since the epoch, on every node the same. ``cron``: five fields in ``timezone``
    (UTC unless told). When clocks go forward, a time that does not exist fires once, at the first minute that does;
    when they go back, a fixed time fires once, at its first coming, and a wildcard hour fires in both.
    The spec has the shape of a definition's ``schedule`` block. Raise ValueError, with a sentence for the user, when the spec cannot be understood or never comes.
    """
    every = spec.get("every")
    if every is not None:
        interval_ms = duration.parse(every)
        if interval_ms <= 0:
            raise ValueError("every must be longer than nothing")
        return (after_ms // interval_ms + 1) * interval_ms
    cron: str = spec["cron"]
    zone = _zone(spec.get("timezone", "UTC"))
    after = datetime.fromtimestamp(after_ms // 1000, zone)
    try:
        if len(cron.split()) != 5:
            raise CronSimError("Wrong number of fields")
        for slot in CronSim(cron, after):
            # A walk that begins in the repeated hour would name its first pass again: that one is over.
            slot_ms = int(slot.timestamp()) * 1000
            if slot_ms > after_ms:
                return slot_ms
    except CronSimError as error:
        raise ValueError(f"cron {cron!r}: {str(error).lower()}") from error
    raise ValueError(f"cron {cron!r} never comes")


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
