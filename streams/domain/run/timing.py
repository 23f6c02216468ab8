"""How long a run waits for what, in one place."""

HEARTBEAT_MS = 2_000
LEASE_MS = 6_000

WAKE_MS = 2 * HEARTBEAT_MS
"""What a claimed lease is given, at least, when its run has got a new owner: time for the next heartbeat to arrive."""

TIMEOUT_GRACE_MS = 10_000
"""The runner kills an attempt at its timeout and says so; the run waits this much longer before it stops believing."""

LOST_MAX = 10
"""So many lost attempts end a step: whatever kills its runners will kill the next one too."""
