"""Doing the same to many things at once: which ones, and how fast."""

import re
import time
from collections.abc import Iterator, Sequence

from app.cli.failure import Failed
from app.errors import EXIT_USAGE

EVERYTHING = 10_000_000
_PAGE_MAX = 500


def paced(ids: Sequence[str], per_second: float | None) -> Iterator[list[str]]:
    """Yield pages of at most a second's worth; waits between them."""
    size = _PAGE_MAX if per_second is None else max(1, min(_PAGE_MAX, int(per_second)))
    due = time.monotonic()
    for begin in range(0, len(ids), size):
        time.sleep(max(0.0, due - time.monotonic()))
        page = [*ids[begin : begin + size]]
        yield page
        if per_second is not None:
            due = max(due, time.monotonic() - 1) + len(page) / per_second


def per_second(rate: str) -> float:
    """Return what ``20/s`` or ``100/m`` says; raises :class:`Failed` for what is no rate."""
    found = re.fullmatch(r"(\d{1,6})(?:/(s|m))?", rate.strip())
    if not found or not int(found[1]):
        raise Failed(f"{rate!r} is no rate", hint="write it like 20/s or 100/m", exit_code=EXIT_USAGE)
    return int(found[1]) / {"s": 1, "m": 60}[found[2] or "s"]


def moment(since: str | None) -> str | None:
    """Return an age (``30m``, ``2h``, ``7d``) as a time in ms; anything else as it is: the API reads it."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", since or "")
    if not ago:
        return since
    return str(int((time.time() - int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[ago[2]]) * 1000))
