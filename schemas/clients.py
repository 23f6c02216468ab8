"""Whether a Kafka client still knows a broker.

librdkafka, from 2.13 to 2.16 at least, forgets all its brokers when one of them tells it of none, as a broker does that has
just started or was fenced for a moment. At times it then never looks for them again (its issue 5301): everything asked of
that client times out until it is made anew, however well Kafka is. A client tells of it in its statistics alone: calls from
a second thread would wait for those of the first.
"""

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

_EVERY_S = 5.0
_KNOWN = {"learned", "configured"}  # others stand for no address


class _Without(NamedTuple):
    """Which client has told that it knows no broker, since when, and when it has last told so."""

    name: str
    since: float
    last: float


_without: dict[object, _Without] = {}


def watched(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, for one client, with which :func:`lost` knows of it: as long as it is polled, which it must be."""
    key = object()
    name = str(settings.get("client.id") or settings.get("group.id") or "a client")

    def told(statistics: str) -> None:
        if any(broker["source"] in _KNOWN for broker in json.loads(statistics)["brokers"].values()):
            _without.pop(key, None)
            return
        now = time.monotonic()
        _without[key] = _Without(name, _without[key].since if key in _without else now, now)

    return {**settings, "statistics.interval.ms": int(1000 * _EVERY_S), "stats_cb": told}


def lost() -> list[str]:
    """Return the names of clients of this process that have known no broker twice in a row and are in use."""
    now = time.monotonic()
    return sorted(
        one.name for one in list(_without.values()) if one.last > one.since and now - one.last < 3 * _EVERY_S
    )
