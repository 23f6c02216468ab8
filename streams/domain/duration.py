"""Lengths of time as people write them: ``250ms``, ``5s``, ``1h30m``, ``2d``."""

import re
from functools import lru_cache

_PATTERN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")
_UNITS_MS = (86_400_000, 3_600_000, 60_000, 1_000, 1)
_UNIT_NAMES = ("d", "h", "m", "s", "ms")


@lru_cache(1_024)
def parse(text: str) -> int:
    """Return the milliseconds that ``text`` names. Raise ValueError, with the way to write it, for anything else."""
    match = _PATTERN.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is no duration: write for example 250ms, 5s, 20m, 1h30m or 2d")
    return sum(int(count or 0) * unit for count, unit in zip(match.groups(), _UNITS_MS, strict=True))


def render(duration_ms: int) -> str:
    """Return the shortest text that ``parse`` reads as ``duration_ms``."""
    parts = []
    for unit, name in zip(_UNITS_MS, _UNIT_NAMES, strict=True):
        count, duration_ms = divmod(duration_ms, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"
