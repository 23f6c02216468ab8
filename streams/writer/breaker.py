"""A limit on quarantine: an aggregate whose rules fail more often than not is left alone for a while.

A deploy with a bug would otherwise put everything that comes in into quarantine. What is not decided stays in its topic,
and nothing is lost. Only errors raised by rules count: what a client sent wrong says nothing about them.

```
closed ── more than half of the last 50 decided failed ──▶ open ── after 1 s, doubled each time up to a minute ──▶ trial
   ▲                                                         ▲   one command at a time                              │
   └── ten succeeded, and never had more failed ─────────────┼──────────────────────────────────────────────────────┤
                                                             └── more failed than succeeded: mostly the first one ──┘
```
"""

import logging
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

_log = logging.getLogger(__name__)
WINDOW = 50
TRIAL = 10
PAUSE_MIN_MS = 1_000
PAUSE_MAX_MS = 60_000


@dataclass(slots=True)
class _Breaker:
    """One aggregate's: what was decided last, as (decided, failed) of a few commands each, and whether it is left alone."""

    recent: deque[tuple[int, int]] = field(default_factory=deque)
    decided: int = 0
    failed: int = 0
    since_ms: int = 0  # when it was opened first; 0: closed
    next_ms: int = 0  # when it is tried again; 0: being tried
    pause_ms: int = PAUSE_MIN_MS
    why: str = ""
    failure: str = ""

    def add(self, decided: int, failed: int) -> None:
        self.recent.append((decided, failed))
        self.decided, self.failed = self.decided + decided, self.failed + failed
        while self.decided - self.recent[0][0] >= WINDOW:
            old = self.recent.popleft()
            self.decided, self.failed = self.decided - old[0], self.failed - old[1]

    def forget(self) -> None:
        self.recent.clear()
        self.decided = self.failed = 0


class Breakers:
    """Watches the aggregates of one worker. Called a few times for each batch, never for each command."""

    def __init__(self) -> None:
        self._known: dict[str, _Breaker] = {}
        self._tripped: set[str] = set()

    def note(self, name: str, decided: int, failed: int, failure: str, now_ms: int) -> None:
        """Count commands that were decided; ``failure`` names the last error among them, and where it was raised."""
        if not decided:
            return
        breaker = self._known.get(name)
        if breaker is None:
            breaker = self._known[name] = _Breaker()
        breaker.add(decided, failed)
        if breaker.since_ms:
            self._judge_trial(name, breaker, failure, now_ms)
        elif breaker.decided >= WINDOW and breaker.failed * 2 > breaker.decided:
            breaker.since_ms = now_ms
            breaker.why = f"{breaker.failed} of the last {breaker.decided} commands failed"
            self._open(name, breaker, failure, now_ms)

    def limits(self, now_ms: int) -> dict[str, int]:
        """Return how many commands of an aggregate may be decided next, where that is not as many as there are."""
        found: dict[str, int] = {}
        for name in self._tripped:
            breaker = self._known[name]
            if breaker.next_ms and breaker.next_ms <= now_ms:
                breaker.next_ms = 0
                breaker.forget()
            found[name] = 0 if breaker.next_ms else 1
        return found

    def left_alone(self, name: str) -> bool:
        """Tell whether nothing of the aggregate is to be decided now."""
        return name in self._tripped and self._known[name].next_ms > 0

    def paused(self) -> dict[str, int]:
        """Return the aggregates that are left alone now, with since when (ms)."""
        return {name: self._known[name].since_ms for name in sorted(self._tripped) if self.left_alone(name)}

    def problem(self) -> str | None:
        """Return which aggregates are left alone, why, since when and until when, or None."""
        told = []
        for name, since in self.paused().items():
            breaker = self._known[name]
            told.append(
                f"{name} is paused since {_time(since)}: {breaker.why}, the newest with {breaker.failure}; it is tried "
                f"again by itself, next at {_time(breaker.next_ms)}; `flexcore quarantine list --aggregate {name}` "
                "shows what failed"
            )
        return "; ".join(told) or None

    def _open(self, name: str, breaker: _Breaker, failure: str, now_ms: int) -> None:
        breaker.next_ms, breaker.failure = now_ms + breaker.pause_ms, failure
        breaker.forget()
        self._tripped.add(name)
        pause_s = breaker.pause_ms / 1000
        _log.error("%s is paused for %.0f s: %s, the newest with %s", name, pause_s, breaker.why, failure)
        breaker.pause_ms = min(breaker.pause_ms * 2, PAUSE_MAX_MS)

    def _judge_trial(self, name: str, breaker: _Breaker, failure: str, now_ms: int) -> None:
        succeeded = breaker.decided - breaker.failed
        if breaker.failed > succeeded:
            self._open(name, breaker, failure, now_ms)
        elif succeeded >= TRIAL:
            _log.warning("%s goes on after %.1f s", name, (now_ms - breaker.since_ms) / 1000)
            self._tripped.discard(name)
            breaker.since_ms, breaker.pause_ms = 0, PAUSE_MIN_MS
            breaker.forget()


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
