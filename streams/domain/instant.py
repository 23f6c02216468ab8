"""Points in time as people write them: RFC 3339, ``2026-12-01T06:00:00Z``."""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(1_024)
def parse(text: str) -> int:
    """Return milliseconds since the epoch. Raise ValueError, with the way to write it, for anything else.

    A time without an offset from UTC is refused: it would mean another moment on every machine.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text.upper():
        raise ValueError(
            f"{text!r} is no point in time: write for example 2026-12-01T06:00:00Z or …T06:00:00+01:00"
        )
    return round(moment.timestamp() * 1000)


def render(at: int) -> str:
    """Return the RFC 3339 text, in UTC, of milliseconds since the epoch."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return moment.isoformat(timespec="milliseconds" if at % 1000 else "seconds").replace("+00:00", "Z")
