"""The one error the local stack raises at its caller: what went wrong, and what to do about it.

LocalStackError
├── DataDirLocked      another stack holds the data directory
├── DownloadFailed     a jar could not be fetched, or is not the one whose hash is pinned
└── ServiceFailed      a service did not start, or ended before it was ready
"""

from __future__ import annotations


class LocalStackError(Exception):
    """The local stack cannot go on.

    `cause` is one sentence for a person, `fix` says what to do, `log_tail` holds the last lines the
    service wrote, oldest first (empty when it wrote none).
    """

    def __init__(self, cause: str, fix: str, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(f"{cause} {fix}")
        self.cause = cause
        self.fix = fix
        self.log_tail = log_tail
        if log_tail:  # for whoever sees the traceback
            self.add_note("\n".join(log_tail))


class DataDirLocked(LocalStackError):
    """Another stack is running on the same data directory."""


class DownloadFailed(LocalStackError):
    """A jar is missing, or differs from its pinned hash."""


class ServiceFailed(LocalStackError):
    """A service ended, or was not ready within its time."""
