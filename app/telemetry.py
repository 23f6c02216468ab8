"""Logs to stderr and metrics for Prometheus: how they leave the process. What is counted is named by who counts it."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

HTTP_REQUESTS = Counter("flexcore_http_requests", "Answered requests", ("method", "path", "status"))
HTTP_SECONDS = Histogram("flexcore_http_seconds", "Time to the answer, waits included", ("method", "path"))

Read = Callable[[], Mapping[str, float]]


class _Reader(Collector):
    """Asks the parts of a node for their own counters when Prometheus asks."""

    def __init__(self, counters: Mapping[str, Read], gauges: Mapping[str, Read]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Yield each number under its part's name."""
        for part, read in self._counters.items():
            for name, value in read().items():
                yield CounterMetricFamily(f"flexcore_{part}_{name}", f"{name} of the {part}", value=value)
        for part, read in self._gauges.items():
            family = GaugeMetricFamily(f"flexcore_{part}", part.replace("_", " "), labels=("of",))
            for name, value in read().items():
                family.add_metric([name], value)
            yield family


def expose(counters: Mapping[str, Read], gauges: Mapping[str, Read]) -> Callable[[], None]:
    """Serve what the parts of this node count at ``/metrics``; the returned function takes it away again."""
    reader = _Reader(counters, gauges)
    REGISTRY.register(reader)
    return lambda: REGISTRY.unregister(reader)


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str, form: str) -> None:
    """Send all log lines of this process to stderr, at ``level``, as ``console`` or ``json``. Replaces earlier set-up."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines() if form == "json" else plain)
    handler.addFilter(_worth_reading)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("faust", "mode", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _worth_reading(record: logging.LogRecord) -> bool:
    """Drop what Faust's base says at INFO about the start and stop of each of its services (``[^-Consumer]: …``)."""
    return record.levelno > logging.INFO or not str(record.msg).startswith("[^")
