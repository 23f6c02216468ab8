"""How whoever writes without a transaction sets its producer."""

from collections.abc import Mapping
from types import MappingProxyType

IDEMPOTENT: Mapping[str, str | int | bool] = MappingProxyType(
    {"enable.idempotence": True, "acks": "all", "max.in.flight": 1}
)
"""librdkafka's settings for a producer whose records stand in the log once, in order, on all in-sync replicas.

One request is under way at a time because idempotence alone loses records: a leader that does not know yet that it leads
refuses a producer's first batch and may take its second; sent again, the first comes with a lower sequence number than the
partition has seen, passes for a duplicate, and is reported as delivered. (A partition that has taken records of this producer
knows them, and its next leaders do: the first batch is the one in danger.) It costs a network round trip a request: a broker
reads a connection's next request only when it has answered the one before.
"""
