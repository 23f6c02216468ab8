"""How much a node takes on at once. What is beyond a bound is refused at once with 429, and never queued."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from aiohttp import web

from app.errors import problem
from app.ports import Limits
from app.routes import Route

FORWARDED_HEADER = "Flexcore-Forwarded"
_STREAM = "text/event-stream"
_WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Admission:
    """Counts open requests of each kind: writes, reads, reads for other nodes, streams.

    Reads for other nodes have a bound of their own: two nodes full of reads for each other would otherwise answer
    none. What is not below ``/v1/`` (health, metrics) is always let in.
    """

    def __init__(self, limits: Limits, routes: Iterable[Route]) -> None:
        self._limits = limits
        self._streams = {route.path for route in routes if route.media_type == _STREAM}
        self._bounds = {
            "writes": limits.in_flight_max,
            "reads": limits.reads_max,
            "reads for other nodes": limits.reads_max,
            "streams": limits.streams_max,
        }
        self._open: Counter[str] = Counter()

    @contextmanager
    def admitted(self, request: web.Request) -> Iterator[None]:
        """Hold a place while the request is answered; raises ``overloaded`` when there is none."""
        kind = self._kind(request)
        if kind is None:
            yield
            return
        if self._open[kind] >= self._bounds[kind]:
            wait = {"Retry-After": str(self._limits.retry_after_s)}
            raise problem(
                "overloaded", f"This node has {self._open[kind]} {kind} open already.", headers=wait
            )
        self._open[kind] += 1
        try:
            yield
        finally:
            self._open[kind] -= 1

    def _kind(self, request: web.Request) -> str | None:
        if not request.path.startswith("/v1/"):
            return None
        if request.method in _WRITES:
            return "writes"
        if request.path in self._streams:
            return "streams"
        return "reads for other nodes" if FORWARDED_HEADER in request.headers else "reads"
