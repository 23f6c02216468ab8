"""The one clock of the edge."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return int(time.time() * 1000)


def now_text() -> str:
    """Return the time as RFC 3339 text in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
