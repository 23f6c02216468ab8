"""How long a run waits for what, in one place."""

import hashlib

from streams.domain.definition import Retry

HEARTBEAT_MS = 2_000
LEASE_MS = 6_000

WAKE_MS = 2 * HEARTBEAT_MS
"""What a claimed lease is given, at least, when its run has got a new owner: time for the next heartbeat to arrive."""

TIMEOUT_GRACE_MS = 10_000
"""The runner kills an attempt at its timeout and says so; the run waits this much longer before it stops believing."""

LOST_MAX = 10
"""So many lost attempts end a step: whatever kills its runners will kill the next one too."""


def backoff_ms(retry: Retry, failures: int, seed: str) -> int:
    """Return how long to wait after so many failures: exponential up to ``max_ms``, at least 1 ms.

    Full jitter takes a fraction of it that depends on ``seed`` only, so that a replay waits alike.
    """
    longest = min(float(retry.max_ms), retry.initial_ms * retry.multiplier ** (failures - 1))
    if retry.jitter == "full":
        longest *= int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64
    return max(1, int(longest))
